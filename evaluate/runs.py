"""Finished, evaluated runs read from their folders: method, seed, validation curve and test episodes."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.datasets.atomic_io import read_json
from semore.datasets.errors import SemoreError
from semore.datasets.presets import flat
from semore.evaluate.claims import Trained, trained
from semore.evaluate.episodes import FAILED, Row, read_rows
from semore.evaluate.run_commands import evaluate_command, train_command
from semore.train.log import read_metrics

FIRST: Final = "semore"
"""The method that the others are compared with."""
Cell = tuple[str, str]
"""A scenario and a weather."""


@dataclass(frozen=True)
class Run:
    """A finished run: its folder's name, method, training seed, its validations (update, decisions offered so far, mean
    reward), and the test episodes of every policy."""

    name: str
    method: str
    seed: int
    curve: tuple[tuple[int, int, float], ...]
    rows: tuple[Row, ...]
    trained: Trained
    """What other runs must be equal in."""

    @property
    def episodes(self) -> tuple[Row, ...]:
        """The trained policy's, failed ones included."""
        return tuple(row for row in self.rows if row.policy == "trained")

    def within(self, cell: Cell, seeds: Container[int] | None = None) -> Run:
        """The run with the episodes of one scenario and weather only, and of these test seeds."""
        rows = (row for row in self.rows if (row.scenario, row.weather) == cell)
        return replace(self, rows=tuple(row for row in rows if seeds is None or row.seed in seeds))


def read_run(folder: Path) -> Run:
    """SemoreError when the run is not finished or its trained policy not evaluated."""
    require_files(folder, "settings.json", "summary.json", "evaluation.csv")
    summary = read_json(folder / "summary.json")
    logged = metrics_of(folder)
    rewards, offered = logged.get("validation/reward", {}), logged.get("replay/offered", {})
    curve = tuple((update, int(offered.get(update, 0)), reward) for update, reward in sorted(rewards.items()))
    seed, settings = int(summary["seed"]), dict(flat(read_json(folder / "settings.json")["settings"]))
    equal = trained(seed, int(summary["updates"]), summary.get("rollouts", "unknown"), settings)
    run = Run(folder.name, summary["method"], seed, curve, tuple(read_rows(folder / "evaluation.csv")), equal)
    if not run.episodes:
        raise SemoreError(
            f"{folder / 'evaluation.csv'} has no row of the trained policy; drive it: `{evaluate_command(folder)}`"
        )
    return run


def require_files(folder: Path, *names: str) -> None:
    """SemoreError with the command that makes the first of these files of a run that is not there."""
    missing = next((name for name in names if not (folder / name).exists()), None)
    if missing == "settings.json":
        raise SemoreError(f"{folder} is no run: it has no settings.json; give the names or folders of trained runs")
    if missing == "summary.json":
        raise SemoreError(f"{folder} has no summary.json: it is not finished; finish it: `{train_command(folder)}`")
    if missing == "evaluation.csv":
        raise SemoreError(f"{folder} has no evaluation.csv: it is not evaluated; do so: `{evaluate_command(folder)}`")
    if missing:
        raise SemoreError(f"{folder} has no {missing}; restore it from a copy, or train a new run")


def metrics_of(folder: Path) -> dict[str, dict[int, float]]:
    """All that the run has logged, by name: values by update."""
    found: dict[str, dict[int, float]] = {}
    for update, name, value in read_metrics(folder / "metrics.csv"):
        found.setdefault(name, {})[update] = value
    return found


def shared_cells(runs: Sequence[Run]) -> list[Cell]:
    """The scenarios and weathers that the trained policies of all runs were driven in; SemoreError when there are
    none."""
    each = [list(dict.fromkeys((row.scenario, row.weather) for row in run.episodes)) for run in runs]
    shared = [cell for cell in each[0] if all(cell in other for other in each)]
    if not shared:
        raise SemoreError(
            f"the runs were not driven in the same scenario and weather; evaluate all with {_flags(each[0][0])}"
        )
    return shared


def _flags(cell: Cell) -> str:
    return f"--scenario {cell[0]} --weather {cell[1]}"


def shared_seeds(runs: Sequence[Run], cell: Cell) -> set[int]:
    """The test seeds of the cell that the trained policies of all runs were driven on; SemoreError when there are
    none."""
    seeds = set.intersection(*({row.seed for row in run.within(cell).episodes} for run in runs))
    if not seeds:
        raise SemoreError("the runs share no test seed; evaluate them with the same --episodes")
    return seeds


def by_method(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Semore first, then in alphabetical order; runs by seed. Runs of one method that differ in more than `-seed<n>` at
    the end of their folder's name are other methods, and each is called by that name. SemoreError when the test seeds
    differ, or a training seed is there twice."""
    if len({tuple(sorted(row.seed for row in run.episodes)) for run in runs}) > 1:
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


def values(runs: Sequence[Run], metric: str = "reward") -> NDArray[np.float64]:
    """(runs, test seeds) of a metric of the trained policies, columns by test seed; NaN where the simulator failed."""
    return np.array(
        [
            [
                np.nan if row.ending in FAILED else getattr(row, metric)
                for row in sorted(run.episodes, key=lambda row: row.seed)
            ]
            for run in runs
        ],
        np.float64,
    )
