"""The results of a sweep: one table over its points, CSV files, and a plot of reward by setting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from semore.datasets.atomic_io import atomic_file, write_csv
from semore.evaluate.claims import Trained, in_words, lacking, trained
from semore.evaluate.episodes import Row, driven
from semore.evaluate.statistics import Values, across_runs, difference_across_runs, iqm, mean, std_of_runs
from semore.evaluate.sweep.points import Point

matplotlib.use("agg")
METRICS: Final = ("reward", "distance", "crash_intensity", "steer", "throttle", "brake")
LOGARITHMIC: Final = 20.0
"""Ratio of the largest value to the smallest from which an axis is logarithmic."""


@dataclass(frozen=True)
class Result:
    """A finished run of a sweep: its episodes and its summary.json."""

    point: Point
    seed: int
    folder: Path
    rows: Sequence[Row]
    summary: Mapping[str, Any]

    @property
    def trained(self) -> Trained:
        """What other runs must be equal in; all that a sweep changes on purpose is in the point."""
        rollouts = self.summary.get("rollouts", "unknown")
        return trained(self.seed, self.summary["updates"], rollouts, dict(self.point.settings))


def by_point(results: Sequence[Result]) -> dict[Point, list[Result]]:
    """In order of first appearance."""
    groups: dict[Point, list[Result]] = {}
    for result in results:
        groups.setdefault(result.point, []).append(result)
    return groups


def values(results: Sequence[Result], metric: str = "reward") -> Values:
    """(runs, episodes) of a metric, episodes by seed; NaN where the simulator failed."""
    counted = [{row.seed: getattr(row, metric) for row in driven(result.rows)} for result in results]
    seeds = sorted({row.seed for result in results for row in result.rows})
    return np.array([[own.get(seed, np.nan) for seed in seeds] for own in counted], np.float64)


def records(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A record for each point: its settings, and the reward's statistics; differences are to the first point."""
    groups = by_point(results)
    first = next(iter(groups.values()))
    reference = values(first)
    found = []
    for place, (point, own) in enumerate(groups.items()):
        rewards = values(own)
        pooled = across_runs(rewards)
        record: dict[str, Any] = {
            **dict(point.axes), "seeds": len(own), "episodes": int((~np.isnan(rewards)).sum()),
            "reward": pooled.mean, "std": pooled.std, "low": pooled.low, "high": pooled.high,
            "std_of_seeds": std_of_runs(rewards), "iqm": iqm(rewards),
        }  # fmt: skip
        if place:
            difference = difference_across_runs(rewards, reference)
            paired = int((~(np.isnan(rewards).any(0) | np.isnan(reference).any(0))).sum())
            lacks = lacking(paired, [run.trained for run in own], [run.trained for run in first])
            record |= {
                "difference": difference.mean, "difference_low": difference.low, "difference_high": difference.high,
                "verdict": in_words(difference, lacks),
            }  # fmt: skip
        else:
            record |= {"difference": "", "difference_low": "", "difference_high": "", "verdict": "the reference"}
        record |= {metric: float(np.nanmean(values(own, metric))) for metric in ("distance", "crash_intensity")}
        record["each_seed"] = ", ".join(
            f"{run.seed}: {one:.0f}" for run, one in zip(own, mean(rewards, 1), strict=True)
        )
        found.append(record)
    return found


def table(results: Sequence[Result], title: str) -> Table:
    """A row for each point."""
    names = list(dict(results[0].point.axes))
    headers = ("reward", "95% interval", "IQM", "minus the first", "verdict", "distance m", "crash N·s", "each seed")
    shown = Table(*names, *headers, title=title)
    for record in records(results):
        difference = "" if record["difference"] == "" else (
            f"{record['difference']:+.0f} ({record['difference_low']:+.0f} … {record['difference_high']:+.0f})"
        )  # fmt: skip
        shown.add_row(
            *(str(record[name]) for name in names),
            f"{record['reward']:.0f} ± {record['std']:.0f}",
            f"{record['low']:.0f} … {record['high']:.0f}",
            f"{record['iqm']:.0f}",
            difference,
            record["verdict"],
            f"{record['distance']:.0f}",
            f"{record['crash_intensity']:.0f}",
            record["each_seed"],
        )
    return shown


def write_tables(results: Sequence[Result], folder: Path) -> list[Path]:
    """sweep.csv (a row for each point) and runs.csv (a row for each run) in the folder."""
    runs = []
    for result in results:
        mask, counted = result.summary.get("student_mask"), driven(result.rows)
        runs.append(
            {
                **dict(result.point.axes), "seed": result.seed, "run": result.folder.name,
                "episodes": len(counted), "failed": len(result.rows) - len(counted),
                **{metric: float(np.nanmean(values([result], metric))) for metric in METRICS},
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
        rewards = [values(groups[point]) for _, point in line]
        found = [across_runs(own) for own in rewards]
        spread = np.array([[each.mean - each.low, each.high - each.mean] for each in found]).T
        middle, at = [each.mean for each in found], [place for place, _ in line]
        axes.errorbar(
            at, middle, spread.clip(0), color=f"C{number}", marker="o", capsize=4,
            linestyle="-" if places else "none", label=other,
        )  # fmt: skip
        for place, own in zip(at, rewards, strict=True):
            axes.plot([place] * len(own), mean(own, 1), ".", color=f"C{number}", alpha=0.5)
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
