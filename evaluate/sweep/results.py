"""The results of a sweep: one table over its points, CSV files, and a plot of reward by setting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from semore.datasets.atomic_io import atomic_file, write_csv
from semore.evaluate.compared import Pair, Side, compare, frame
from semore.evaluate.sweep.finished import Result
from semore.evaluate.sweep.points import Point
from semore.evaluate.table import REWARD, Column, around, average, each_seed, of_pair, of_side, shown

matplotlib.use("agg")
METRICS: Final = ("reward", "distance", "crash_intensity", "steer", "throttle", "brake")
LOGARITHMIC: Final = 20.0
"""Ratio of the largest value to the smallest from which an axis is logarithmic."""
FIRST: Final = "the reference"
"""What stands for a verdict on the first point."""
DIFFERENCE: Final = {"difference": "mean", "difference_low": "low", "difference_high": "high"}
COLUMNS: Final = (
    *REWARD, of_side("IQM", lambda side: f"{side.iqm:.0f}"),
    of_pair("minus the first", lambda pair: around(pair.difference)),
    Column("verdict", lambda _, pair: pair.in_words if pair else FIRST),
    average("distance m", "distance"), average("crash N·s", "crash_intensity"), of_side("each seed", each_seed),
)  # fmt: skip


def by_point(results: Sequence[Result]) -> dict[Point, list[Result]]:
    """In order of first appearance."""
    groups: dict[Point, list[Result]] = {}
    for result in results:
        groups.setdefault(result.point, []).append(result)
    return groups


@dataclass(frozen=True, eq=False)
class Place(Side):
    """Several runs of a point, or one."""

    axes: Mapping[str, str] = field(default_factory=dict)


def place_of(results: Sequence[Result]) -> Place:
    """The runs of one point as they are compared."""
    point = results[0].point
    every = pd.concat([frame(result.rows, number, result.seed) for number, result in enumerate(results)])
    return Place(point.label, every, tuple(result.trained for result in results), dict(point.axes))


def compared(results: Sequence[Result]) -> list[tuple[Place, Pair[Place] | None]]:
    """Every point, and how it compares with the first one."""
    first, *others = (place_of(own) for own in by_point(results).values())
    return [(first, None), *((other, compare(other, first)) for other in others)]


def records(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A record for each point: its settings, and the reward's statistics; differences are to the first point."""
    return [
        {
            **side.axes, "seeds": len(side.rewards), "episodes": int((~np.isnan(side.rewards)).sum()),
            "reward": side.reward.mean, "std": side.reward.std, "low": side.reward.low, "high": side.reward.high,
            "std_of_seeds": side.std_of_runs, "iqm": side.iqm,
            **{name: getattr(pair.difference, of) if pair else "" for name, of in DIFFERENCE.items()},
            "verdict": pair.in_words if pair else FIRST, "distance": side.mean("distance"),
            "crash_intensity": side.mean("crash_intensity"), "each_seed": each_seed(side),
        }
        for side, pair in compared(results)
    ]  # fmt: skip


def table(results: Sequence[Result], title: str) -> Table:
    """A row for each point."""
    return shown([*map(_axis, dict(results[0].point.axes)), *COLUMNS], compared(results), title)


def _axis(name: str) -> Column:
    return Column(name, lambda place, _: place.axes[name], True)


def write_tables(results: Sequence[Result], folder: Path) -> list[Path]:
    """sweep.csv (a row for each point) and runs.csv (a row for each run) in the folder."""
    runs = []
    for result in results:
        mask, side = result.summary.get("student_mask"), place_of([result])
        runs.append(
            {
                **dict(result.point.axes), "seed": result.seed, "run": result.folder.name,
                "episodes": len(side.driven), "failed": side.failed,
                **{metric: side.mean(metric) for metric in METRICS},
                "best_update": result.summary["best_update"],
                "best_validation_reward": result.summary["best_validation_reward"],
                "student_auc": mask["student_auc"] if mask else "", "seconds": result.summary["seconds"],
            }
        )  # fmt: skip
    paths = [folder / "sweep.csv", folder / "runs.csv"]
    for path, rows in zip(paths, (records(results), runs), strict=True):
        write_csv(path, list(rows[0]), rows)
    return paths


def draw(results: Sequence[Result], path: Path, split: str) -> Path:
    """A panel for each varied setting: reward against its value, a point for each training seed, the mean with its 95%
    interval, and a line for each combination of the other settings."""
    names = list(dict(results[0].point.axes))
    figure = Figure(figsize=(5.5 * len(names), 4.5), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        _panel(axes, name, results)
        axes.set(xlabel=name, ylabel=f"episode reward ({split} episodes)")
        axes.grid(alpha=0.3)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return path


def _panel(axes: Axes, name: str, results: Sequence[Result]) -> None:
    groups = by_point(results)
    told = {point: dict(point.axes) for point in groups}
    texts = list(dict.fromkeys(columns[name] for columns in told.values()))
    places = _places(texts)
    if places is None:
        axes.set_xticks(range(len(texts)), texts, rotation=20 if max(map(len, texts)) > 8 else 0)
    elif min(places) > 0 and max(places) / min(places) >= LOGARITHMIC:
        axes.set_xscale("log")
    x = dict(zip(texts, places or [float(place) for place in range(len(texts))], strict=True))
    counts = Counter(_others(columns, name) for columns in told.values())
    others = [other for other, count in counts.items() if count > 1 or max(counts.values()) == 1]
    for number, other in enumerate(others):
        line = sorted((x[told[point][name]], point) for point in groups if _others(told[point], name) == other)
        sides = [place_of(groups[point]) for _, point in line]
        found = [side.reward for side in sides]
        spread = np.array([[each.mean - each.low, each.high - each.mean] for each in found]).T
        middle, at = [each.mean for each in found], [place for place, _ in line]
        axes.errorbar(
            at, middle, spread.clip(0), color=f"C{number}", marker="o", capsize=4,
            linestyle="-" if places else "none", label=other,
        )  # fmt: skip
        for place, side in zip(at, sides, strict=True):
            means = [reward for _, reward in side.each_seed]
            axes.plot([place] * len(means), means, ".", color=f"C{number}", alpha=0.5)
    if any(others):
        axes.legend(fontsize="small")


def _places(texts: Sequence[str]) -> list[float] | None:
    """The values as numbers, if all of them are."""
    try:
        return [float(text) for text in texts]
    except ValueError:
        return None


def _others(columns: Mapping[str, str], name: str) -> str:
    return ", ".join(f"{key}={value}" for key, value in columns.items() if key != name)
