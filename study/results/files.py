"""The study's results as CSV files: written from finished runs, read by all that makes tables and pictures.

`<study>-runs.csv` has a row for each part, row of its table and training run; `<study>-curves.csv` each run's
validations; `<study>-episodes-<part>.csv` every test episode of the runs that the part has trained, and
`<study>-episodes-world.csv` those of policies that need no run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from semore.datasets.atomic_io import read_csv, write_csv

WORLD: Final = "world"
"""The part that episodes of policies without a run are filed under."""
REMEDY: Final = "`python -m study.results` writes it from the runs"


@dataclass(frozen=True)
class RunRecord:
    """A row of a part's table, and one of the training runs behind it."""

    part: str
    label: str
    run: str
    """The run's name without its seed; the first part that has it has trained it."""
    method: str
    scenario: str
    reward: str
    """The reward trained and driven on."""
    train_seed: int
    changes: str
    """Settings that differ from the method's own."""
    updates: int
    decisions: int
    """Decisions recorded by the end, the offline data's included."""
    seconds: float
    """From the clock, for training."""
    cpu_training: float
    """Processor seconds; 0 where unknown."""
    cpu_driving: float
    best_update: int
    validation_reward: float
    student_auc: float
    """Of the student's mask on held-out episodes; 0 where nothing teaches one."""
    constant_auc: float
    weights_sha256: str


@dataclass(frozen=True)
class CurvePoint:
    """A validation of a run."""

    run: str
    train_seed: int
    update: int
    decisions: int
    validation_reward: float


@dataclass(frozen=True)
class Episode:
    """A test episode; units as in collect.env.EpisodeMetrics."""

    part: str
    run: str
    """Empty for a policy without a run."""
    method: str
    scenario: str
    reward: str
    train_seed: int
    policy: str
    seed: int
    ending: str
    episode_reward: float
    distance: float
    crash_intensity: float
    steer: float
    brake: float
    steps: int


DIGITS: Final[Mapping[str, int]] = {
    "seconds": 0, "cpu_training": 0, "cpu_driving": 0, "validation_reward": 2, "student_auc": 4, "constant_auc": 4,
    "episode_reward": 2, "distance": 1, "crash_intensity": 0, "steer": 4, "brake": 4,
}  # fmt: skip
"""Digits after the point of what is no whole number."""
Record = TypeVar("Record", RunRecord, CurvePoint, Episode)


@dataclass(frozen=True)
class Results:
    """All that the CSV files of a study hold."""

    study: str
    runs: Sequence[RunRecord]
    curves: Sequence[CurvePoint]
    episodes: Sequence[Episode]

    def write(self, folder: Path) -> list[Path]:
        """Write the files, removing those of parts that have no episode; returns the written ones."""
        parts = list(dict.fromkeys(episode.part for episode in self.episodes))
        for stale in set(folder.glob(f"{self.study}-episodes-*.csv")) - {
            self._episodes(folder, part) for part in parts
        }:
            stale.unlink()
        write_records(folder / f"{self.study}-runs.csv", RunRecord, self.runs)
        write_records(folder / f"{self.study}-curves.csv", CurvePoint, self.curves)
        for part in parts:
            own = [episode for episode in self.episodes if episode.part == part]
            write_records(self._episodes(folder, part), Episode, own)
        names = [f"{self.study}-{name}.csv" for name in ("runs", "curves")]
        return [*(folder / name for name in names), *(self._episodes(folder, part) for part in parts)]

    def _episodes(self, folder: Path, part: str) -> Path:
        return folder / f"{self.study}-episodes-{part}.csv"


def read_results(folder: Path, study: str) -> Results:
    """What `Results.write` wrote; nothing where there is no file. SemoreError for a file with other columns."""
    files = sorted(folder.glob(f"{study}-episodes-*.csv"))
    return Results(
        study,
        read_csv(folder / f"{study}-runs.csv", RunRecord, REMEDY),
        read_csv(folder / f"{study}-curves.csv", CurvePoint, REMEDY),
        [episode for file in files for episode in read_csv(file, Episode, REMEDY)],
    )


def write_records(path: Path, kind: type[Record], records: Sequence[Record]) -> None:
    """One line for each record, its numbers rounded to DIGITS."""
    names = [field.name for field in fields(kind)]
    write_csv(path, names, ({name: _text(name, getattr(record, name)) for name in names} for record in records))


def _text(name: str, value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    rounded = f"{value:.{DIGITS[name]}f}"
    return rounded.removeprefix("-") if float(rounded) == 0.0 else rounded  # no −0
