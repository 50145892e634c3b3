"""The study's pictures from its CSV files: learning curves by scenario, and every method's reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from semore.datasets.atomic_io import atomic_file
from study.results.files import Results
from study.results.tables import TABLES, Group, groups_of, world_groups

matplotlib.use("agg")
COLOURS: Final[Mapping[str, str]] = {
    "Semore": "#c1272d", "SAC": "#0072b2", "DeepMDP": "#56b4e9", "DrQ": "#009e73", "CURL": "#e69f00",
    "SAC + segmentation": "#8a63a8", "cloning alone": "#7f7f7f",
}  # fmt: skip
"""Told apart by people who see no red or no green, too."""
INK: Final = "#333333"
LINES: Final = {
    "fast_driver": "imitated driver", "fast_blind_driver": "seeing nobody", "full_throttle": "full throttle",
}  # fmt: skip
"""The world's policies that are drawn as lines, and what they are called there."""
NEAR: Final = 0.06
"""Of what lies between the outermost lines: closer ones are named together."""


def draw_curves(results: Results, scenario: str, path: Path) -> None:
    """Validation reward over decisions: a thin line per run, a thick one for a method's mean."""
    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    axes = figure.subplots()
    for group in groups_of(results, TABLES[f"main-{scenario}"]):
        lines = [
            np.array([(each.decisions / 1000, each.validation_reward) for each in results.curves if _key(each) == run])
            for run in sorted(map(_key, group.records))
        ]
        bold = 2.8 if group.label == "Semore" else 1.8
        draw_lines(axes, lines, group.label, color=COLOURS[group.label], alpha=0.2, thin=0.8, bold=bold)
    axes.set(xlabel="decisions recorded, thousands", ylabel="mean reward on validation seeds")
    axes.set_title(scenario, loc="left", color=INK, fontweight="bold")
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)


def draw_lines(
    axes: Axes,
    lines: Sequence[NDArray[np.float64]],
    label: str,
    color: str,
    alpha: float,
    bold: float,
    thin: float = 1.5,
) -> None:
    """A faint line of (decisions, reward) for each run, a bold one for the mean of the longest."""
    for line in (each for each in lines if len(each)):
        axes.plot(line[:, 0], line[:, 1], color=color, alpha=alpha, linewidth=thin)
    longest = max(map(len, lines), default=0)
    if longest:
        whole = np.mean([line for line in lines if len(line) == longest], 0)
        axes.plot(whole[:, 0], whole[:, 1], color=color, linewidth=bold, label=label)


def _key(record: object) -> tuple[str, int]:
    return record.run, record.train_seed  # type: ignore[attr-defined]


def draw_overview(results: Results, path: Path) -> None:
    """A panel per scenario: each method's mean reward with its 95 % interval, a dot per training seed, and the world's
    own policies as lines."""
    names = [name for name in TABLES if name.startswith("main-")]
    figure = Figure(figsize=(11.0, 4.2), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    labels = list(COLOURS)
    for axes, name in zip(panels, names, strict=True):
        scenario = TABLES[name].scenario
        for group in groups_of(results, TABLES[name]):
            _bar(axes, group, labels.index(group.label))
        _lines(axes, results, scenario)
        axes.set_title(scenario, loc="left", color=INK, fontweight="bold", pad=52)
        axes.set(xlabel="episode reward, test seeds", ylim=(len(labels) - 0.4, -0.7))
        axes.set_yticks(range(len(labels)), labels)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right", "left"]].set_visible(False)
    _save(figure, path)


def _lines(axes: Axes, results: Results, scenario: str) -> None:
    """A dashed line for each of LINES; names that would be written over each other share a place."""
    world = world_groups(results, TABLES[f"main-{scenario}"])
    drawn = sorted(
        (group.pooled("reward").mean, LINES[policy])
        for policy, group in world.items()
        if policy in LINES and len(group.driven)
    )
    told: list[tuple[float, str]] = []
    for value, name in drawn:
        axes.axvline(value, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
        if told and value - told[-1][0] < NEAR * (drawn[-1][0] - drawn[0][0]):
            told[-1] = told[-1][0], f"{told[-1][1]}, {name}"
        else:
            told.append((value, name))
    for value, name in told:
        axes.text(value, -0.75, name, rotation=35, fontsize=7.5, color=INK, va="bottom", ha="left")


def _bar(axes: Axes, group: Group, place: int) -> None:
    if group.driven.empty:
        return
    pooled, colour = group.reward, COLOURS[group.label]
    axes.plot([pooled.low, pooled.high], [place, place], color=colour, linewidth=7, alpha=0.3, solid_capstyle="round")
    means = [reward for _, reward in group.each_seed]
    axes.plot(means, [place] * len(means), ".", color=colour, markersize=5, alpha=0.7)
    axes.plot(pooled.mean, place, "D", color=colour, markersize=7, markeredgecolor="white", zorder=3)


def _save(figure: Figure, path: Path) -> None:
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130, metadata={"Software": None})
