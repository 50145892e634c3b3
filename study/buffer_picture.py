"""The picture of the replay buffer: how it filled, what it held, and the validation reward, by scenario."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from semore.datasets.atomic_io import atomic_file
from study.buffer_history import History

matplotlib.use("agg")
INK: Final = "#333333"
RED, BLUE = "#c1272d", "#0072b2"
POLICIES: Final = {
    "driver": "#00664b", "noisy_driver": "#009e73", "noisy_blind_driver": "#e69f00", "blind_driver": "#b37a00",
    "random": "#666666", "wander": "#aaaaaa", "trained": RED,
}  # fmt: skip
"""Who drove, and the colour of it."""
DASHED: Final = (0, (4, 3))


def draw(histories: Sequence[History], path: Path) -> None:
    """Means over the runs of a label; without a filter dashed."""
    scenarios = list(dict.fromkeys(each.settings.scenario for each in histories))
    figure = Figure(figsize=(12.5, 3.1 * len(scenarios) + 0.6), layout="constrained")
    rows = figure.subplots(len(scenarios), 3, squeeze=False)
    for axes, scenario in zip(rows, scenarios, strict=True):
        own = [each for each in histories if each.settings.scenario == scenario]
        labels = dict.fromkeys(each.label for each in own)
        groups = [[each for each in own if each.label == label] for label in labels]
        _filling(axes[0], groups)
        _composition(axes[1], groups)
        _reward(axes[2], groups)
        axes[0].set_ylabel(scenario, color=INK, fontweight="bold", fontsize=12)
        for each in axes:
            each.grid(alpha=0.25, linewidth=0.6)
            each.spines[["top", "right"]].set_visible(False)
    titles = ("while decisions are offered", "transitions held, by who drove", "mean reward on validation seeds")
    for each, title in zip(rows[0], titles, strict=True):
        each.set_title(title, loc="left", color=INK, fontsize=11)
    for each, title in zip(rows[-1], ("decisions offered, thousands", "updates", "updates"), strict=True):
        each.set_xlabel(title)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})


def _filling(axes: Axes, groups: Sequence[Sequence[History]]) -> None:
    for group in groups:
        if not group[0].filtered:
            continue
        whole = [part for part in group[0].filling if part.decisions == group[0].filling[0].decisions]
        first = np.array([part.first for part in whole]) / 1000
        rates = [[part.admit_rate for part in each.filling[: len(whole)]] for each in _alike(group, len(whole))]
        axes.plot(first, [part.delta for part in whole], color=BLUE, label="δ", linewidth=1.6)
        axes.plot(first, np.mean(rates, 0), color=RED, label="admitted", linewidth=1.8)
        axes.plot(first, [part.reasonable_rate for part in whole], color=INK, linewidth=0.9, label="judged reasonable")
        begun = [part.first for part in whole if part.update > 0]
        if begun:
            axes.axvline(begun[0] / 1000, color=INK, linewidth=0.9, linestyle=DASHED)
            axes.text(begun[0] / 1000, 0.04, " first refresh ", fontsize=8, color=INK)
    axes.set(ylim=(0, 1.05))
    if axes.lines:
        axes.legend(frameon=False, fontsize=8, loc="lower left")


def _alike(group: Sequence[History], windows: int) -> list[History]:
    return [each for each in group if len(each.filling) >= windows]


def _composition(axes: Axes, groups: Sequence[Sequence[History]]) -> None:
    for group in groups:
        updates = _column(group, "update")[0]
        held = _column(group, "transitions").mean(0)
        if not group[0].filtered:
            axes.plot(updates, held, color=INK, linewidth=1.4, linestyle=DASHED, label="no filter")
            continue
        shares = {name: _column(group, f"share_{name}").mean(0) * held for name in POLICIES}
        present = {name.replace("_", " "): value for name, value in shares.items() if value.any()}
        colours = [POLICIES[name.replace(" ", "_")] for name in present]
        axes.stackplot(updates, *present.values(), labels=present, colors=colours, alpha=0.75, linewidth=0)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8, loc="lower left", labelcolor=INK)


def _reward(axes: Axes, groups: Sequence[Sequence[History]]) -> None:
    for group in groups:
        updates, reward = _column(group, "update")[0], _column(group, "validation/reward")
        there = ~np.isnan(reward).any(0)
        style = {"color": RED} if group[0].filtered else {"color": INK, "linestyle": DASHED}
        for line in reward:
            axes.plot(updates[there], line[there], linewidth=0.8, alpha=0.3, **style)
        axes.plot(
            updates[there], reward.mean(0)[there], marker="o", markersize=4, linewidth=2.0, **style,
            label=f"{group[0].label.removeprefix(f'{group[0].settings.scenario}-')} ({len(group)} seeds)",
        )  # fmt: skip
    axes.legend(edgecolor="none", fontsize=8, loc="lower right")


def _column(group: Sequence[History], name: str) -> NDArray[np.float64]:
    """(runs, entries), as many as the shortest run has."""
    length = min(len(each.entries) for each in group)
    return np.array([[entry.get(name, 0.0) for entry in each.entries[:length]] for each in group], np.float64)
