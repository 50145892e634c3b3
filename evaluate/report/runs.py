"""What the report reads of each run's folder, and which runs differ only in their training seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from semore.datasets.atomic_io import read_json
from semore.datasets.presets import flat
from semore.evaluate.claims import Trained, trained
from semore.evaluate.episodes import Row, driven, read_rows
from semore.evaluate.runs import metrics_of, require_files

PLACES: Final = (
    "run",
    "runs",
    "data",
    "seed",
    "seeds",
    "parallel",
    "scheduler",
    "device",
    "threads",
    "wandb",
    "preset",
)
"""Settings that tell where and how a run was made, not what was trained."""

SPELT: Final = {
    "semore": "Semore", "sac": "SAC", "sac-segmentation": "SAC + segmentation", "deepmdp": "DeepMDP", "drq": "DrQ",
    "curl": "CURL", "cloning": "Cloning",
}  # fmt: skip
"""Methods as their authors write them."""

Course = tuple[str, str]
"""Scenario and weather."""


@dataclass(frozen=True, eq=False)
class Run:
    """A finished, evaluated run. `metrics` holds (update, value) rows, (N, 2) float64, by name; `settings` are flat."""

    folder: Path
    settings: Mapping[str, Any]
    environment: Mapping[str, str]
    summary: Mapping[str, Any]
    metrics: Mapping[str, NDArray[np.float64]]
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def seed(self) -> int:
        return int(self.summary["seed"])

    @property
    def method(self) -> str:
        return str(self.summary["method"])

    @property
    def trained(self) -> Trained:
        """What other runs must be equal in."""
        return trained(self.seed, int(self.summary["updates"]), self.summary.get("rollouts", "unknown"), self.settings)

    @cached_property
    def trained_as(self) -> dict[str, str]:
        """The settings that decide what was trained, printable."""
        return {name: str(value) for name, value in self.settings.items() if name not in PLACES}

    def metric(self, name: str) -> NDArray[np.float64]:
        """(N, 2) updates and values; empty when it was never logged."""
        return self.metrics.get(name, np.empty((0, 2)))

    def over_decisions(self, name: str) -> NDArray[np.float64]:
        """(N, 2) decisions offered to the buffer so far, and values."""
        rows, offered = self.metric(name), self.metric("replay/offered")
        if not len(rows) or not len(offered):
            return rows
        return np.stack([np.interp(rows[:, 0], offered[:, 0], offered[:, 1]), rows[:, 1]], 1)

    def episodes(self, policy: str, course: Course) -> list[Row]:
        """The policy's rows on a course, failed ones included."""
        return [row for row in self.rows if row.policy == policy and (row.scenario, row.weather) == course]


@dataclass(frozen=True, eq=False)
class Contender:
    """Runs that differ in their training seed only; `number` picks the colour."""

    number: int
    label: str
    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """The run that stands for it in films and pictures."""
        return self.runs[0]


def read_run(folder: Path) -> Run:
    """SemoreError naming what to do when the folder is no run, or not finished, or not evaluated."""
    require_files(folder, "settings.json", "summary.json", "metrics.csv", "evaluation.csv")
    saved = read_json(folder / "settings.json")
    return Run(
        folder,
        dict(flat(saved["settings"])),
        saved.get("environment", {}),
        read_json(folder / "summary.json"),
        {name: np.array(list(values.items()), np.float64) for name, values in metrics_of(folder).items()},
        tuple(read_rows(folder / "evaluation.csv")),
    )


def contenders(runs: Sequence[Run]) -> list[Contender]:
    """In the order given; a method that stands there in several variants is labelled with what they differ in."""
    groups: list[list[Run]] = []
    for run in runs:
        for group in groups:
            if group[0].trained_as == run.trained_as:
                group.append(run)
                break
        else:
            groups.append([run])
    return [Contender(number, _label(group[0], groups), tuple(group)) for number, group in enumerate(groups)]


def differing(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The settings in which the runs are not all alike, with each run's value ("–" where it has no such setting)."""
    names = dict.fromkeys(name for run in runs for name in run.trained_as)
    table = {name: [run.trained_as.get(name, "–") for run in runs] for name in names}
    return {name: values for name, values in table.items() if len(set(values)) > 1}


def courses(runs: Sequence[Run]) -> list[Course]:
    """Every scenario and weather that a trained policy drove, the one most runs drove first."""
    found = [
        course
        for run in runs
        for course in dict.fromkeys((row.scenario, row.weather) for row in run.rows if row.policy == "trained")
    ]
    return sorted(dict.fromkeys(found), key=lambda course: -found.count(course))


def table_of(runs: Sequence[Run], policy: str, course: Course, metric: str = "reward") -> NDArray[np.float64]:
    """(runs, test seeds) float64 of the test seeds that every run was evaluated on, ascending, NaN where the
    simulator failed; (0, 0) without runs that have the policy."""
    every = [{row.seed: row for row in run.episodes(policy, course)} for run in runs]
    every = [rows for rows in every if rows]
    if not every:
        return np.empty((0, 0))
    valid = [{row.seed for row in driven(list(rows.values()))} for rows in every]
    shared = sorted(set.intersection(*(set(rows) for rows in every)))
    return np.array(
        [
            [getattr(rows[seed], metric) if seed in kept else np.nan for seed in shared]
            for rows, kept in zip(every, valid, strict=True)
        ]
    )


def seeds_of(runs: Sequence[Run], policy: str, course: Course) -> list[int]:
    """The columns of `table_of`."""
    every = [{row.seed for row in run.episodes(policy, course)} for run in runs]
    every = [seeds for seeds in every if seeds]
    return sorted(set.intersection(*every)) if every else []


def _label(run: Run, groups: Sequence[Sequence[Run]]) -> str:
    name = SPELT.get(run.method, run.method)
    namesakes = [group[0] for group in groups if group[0].method == run.method]
    if len(namesakes) == 1:
        return name
    changed = [f"{key.rpartition('.')[2]} {run.trained_as.get(key, '–')}" for key in differing(namesakes)]
    more = f", {len(changed) - 3} more" if len(changed) > 3 else ""
    return f"{name} ({', '.join(changed[:3])}{more})"
