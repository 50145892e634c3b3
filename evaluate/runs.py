"""Finished, evaluated runs: the one reader of their folders, and the frames of what several of them did."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from semore.datasets.atomic_io import read_json
from semore.datasets.errors import SemoreError
from semore.datasets.presets import flat
from semore.evaluate.claims import Trained, trained
from semore.evaluate.compared import Side, frame
from semore.evaluate.episodes import Row, read_rows
from semore.train.log import read_metrics

FIRST: Final = "semore"
"""The method that the others are compared with."""
Cell = tuple[str, str]
"""A scenario and a weather."""


@dataclass(frozen=True, eq=False)
class Run:
    """A finished, evaluated run. `settings` are flat, `metrics` what it has logged by name (values by update), and
    `rows` the test episodes of every policy."""

    folder: Path
    settings: Mapping[str, Any]
    environment: Mapping[str, str]
    summary: Mapping[str, Any]
    metrics: Mapping[str, Mapping[int, float]]
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def seed(self) -> int:
        """The training seed."""
        return int(self.summary["seed"])

    @property
    def method(self) -> str:
        return str(self.summary["method"])

    @property
    def trained(self) -> Trained:
        """What other runs must be equal in."""
        return trained(self.seed, int(self.summary["updates"]), self.summary.get("rollouts", "unknown"), self.settings)

    @property
    def curve(self) -> pd.DataFrame:
        """A row for each validation, by update: the decisions offered so far, and the mean reward."""
        rewards, offered = self.metrics.get("validation/reward", {}), self.metrics.get("replay/offered", {})
        points = [(update, int(offered.get(update, 0)), rewards[update]) for update in sorted(rewards)]
        return pd.DataFrame(points, columns=["update", "decisions", "reward"])

    def metric(self, name: str) -> NDArray[np.float64]:
        """(N, 2) updates and values; empty when it was never logged."""
        return np.array(list(self.metrics.get(name, {}).items()), np.float64).reshape(-1, 2)

    def over_decisions(self, name: str) -> NDArray[np.float64]:
        """(N, 2) decisions offered to the buffer so far, and values."""
        rows, offered = self.metric(name), self.metric("replay/offered")
        if not len(rows) or not len(offered):
            return rows
        return np.stack([np.interp(rows[:, 0], offered[:, 0], offered[:, 1]), rows[:, 1]], 1)

    def episodes(self, policy: str = "trained", cell: Cell | None = None) -> list[Row]:
        """The policy's rows, everywhere or in one cell; failed ones included."""
        return [row for row in self.rows if row.policy == policy and cell in (None, (row.scenario, row.weather))]

    def within(self, cell: Cell, seeds: Container[int] | None = None) -> Run:
        """The run with the episodes of one scenario and weather only, and of these test seeds."""
        rows = (row for row in self.rows if (row.scenario, row.weather) == cell)
        return replace(self, rows=tuple(row for row in rows if seeds is None or row.seed in seeds))


def read_run(folder: Path) -> Run:
    """SemoreError naming what to do when the folder is no run, or not finished, or not evaluated."""
    if not (folder / "settings.json").exists():
        raise SemoreError(f"{folder} is no run; give names of folders in runs/ that `make train` has made")
    missing = {"summary.json": "finished", "metrics.csv": "finished", "evaluation.csv": "evaluated"}
    for name, lacks in missing.items():
        if not (folder / name).exists():
            remedy = f"make {'evaluate' if lacks == 'evaluated' else 'train'} RUN={folder.name}"
            raise SemoreError(f"{folder} is not {lacks}, it has no {name}; run `{remedy}` to the end first")
    saved = read_json(folder / "settings.json")
    return Run(
        folder, dict(flat(saved["settings"])), saved.get("environment", {}), read_json(folder / "summary.json"),
        metrics_of(folder), tuple(read_rows(folder / "evaluation.csv")),
    )  # fmt: skip


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """As `read_run`; SemoreError, too, when the trained policy of one is not evaluated."""
    runs = [read_run(folder) for folder in folders]
    for run in runs:
        if not run.episodes():
            raise SemoreError(
                f"{run.folder / 'evaluation.csv'} has no row of the trained policy; `make evaluate` drives it"
            )
    return runs


def metrics_of(folder: Path) -> dict[str, dict[int, float]]:
    """All that the run has logged, by name: values by update."""
    found: dict[str, dict[int, float]] = {}
    for update, name, value in read_metrics(folder / "metrics.csv"):
        found.setdefault(name, {})[update] = value
    return found


def episodes_of(runs: Sequence[Run]) -> pd.DataFrame:
    """A row for each test episode of every policy: Row's columns, the run's place among these and its training seed."""
    return pd.concat([frame(run.rows, place, run.seed) for place, run in enumerate(runs)])


def side_of(label: str, runs: Sequence[Run], policy: str = "trained") -> Side:
    """A policy of these runs, driven in one cell; the trained one is the methods' that verdicts are on."""
    own = episodes_of(runs).query("policy == @policy")
    return Side(label, own, tuple(run.trained for run in runs) if policy == "trained" else ())


def shared_cells(runs: Sequence[Run]) -> list[Cell]:
    """The scenarios and weathers that the trained policies of all runs were driven in; SemoreError when there are
    none."""
    each = [list(dict.fromkeys((row.scenario, row.weather) for row in run.episodes())) for run in runs]
    shared = [cell for cell in each[0] if all(cell in other for other in each)]
    if not shared:
        raise SemoreError("the runs were not driven in the same scenario and weather; evaluate them alike")
    return shared


def shared_seeds(runs: Sequence[Run], cell: Cell) -> set[int]:
    """The test seeds of the cell that the trained policies of all runs were driven on; SemoreError when there are
    none."""
    seeds = set.intersection(*({row.seed for row in run.episodes(cell=cell)} for run in runs))
    if not seeds:
        raise SemoreError("the runs share no test seed; evaluate them with the same --episodes")
    return seeds


def by_method(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Semore first, then in alphabetical order; runs by seed. Runs of one method that differ in more than `-seed<n>` at
    the end of their folder's name are other methods, and each is called by that name. SemoreError when the test seeds
    differ, or a training seed is there twice."""
    if len({tuple(sorted(row.seed for row in run.episodes())) for run in runs}) > 1:
        raise SemoreError("the runs were evaluated on different test seeds; evaluate them with the same --episodes")
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        groups.setdefault((run.method, re.sub(r"-seed\d+$", "", run.name)), []).append(run)
    methods = [method for method, _ in groups]
    named = {}
    for method, common in sorted(groups, key=lambda key: (key[0] != FIRST, key)):
        own = groups[method, common]
        if len({run.seed for run in own}) < len(own):
            raise SemoreError(f"{common}: a training seed is there twice; give each run once")
        named[method if methods.count(method) == 1 else common] = own
    return named
