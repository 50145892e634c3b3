"""Drives the study's test episodes: those of its runs, and those of policies that need no run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from semore.collect.carla.settings import CarlaSettings
from semore.collect.env import DrivingEnv
from semore.collect.policies import Policy, make_policy
from semore.collect.scenarios import scenario_and_weather
from semore.collect.simulators import make_simulator
from semore.datasets.atomic_io import exclusive_lock, read_json, write_json
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import RECORDING_SIZE, SEED_SPLITS
from semore.evaluate.episodes import (
    SIMULATOR_FAILED,
    TOGETHER,
    RunCourse,
    evaluate_courses,
    evaluate_policies,
    read_rows,
)
from semore.evaluate.policies import STANDARD
from semore.train.settings import TrainSettings

BLINDFOLDED: Final = ("trained_grey", "trained_frozen")
"""The trained policy without its eyes, on fewer episodes."""


@dataclass(frozen=True)
class Drive:
    """Drives the test episodes of a trained run in the calling process; what is driven stays driven."""

    episodes: int
    """Test seeds of the trained policy."""
    blindfolded: int
    """Test seeds of the BLINDFOLDED ones."""
    first: int = 0
    """Test seeds before these."""

    def wanted(self) -> list[tuple[tuple[str, ...], range]]:
        """Policies, and the seeds they drive."""
        start = SEED_SPLITS["test"].start + self.first
        seen = (("trained",), range(start, start + self.episodes))
        blind = (BLINDFOLDED, range(start, start + self.blindfolded))
        return [seen, blind] if self.blindfolded else [seen]

    def missing(self, settings: TrainSettings) -> bool:
        """Whether the run has yet to drive any of its episodes."""
        rows = settings.folder / "evaluation.csv"
        if not rows.exists():
            return True
        present = _course(settings).policy_digest
        counting = (row for row in read_rows(rows) if row.policy_digest == present and row.ending != SIMULATOR_FAILED)
        there = {(row.policy, row.seed) for row in counting}
        return any((policy, seed) not in there for names, seeds in self.wanted() for policy in names for seed in seeds)

    def __call__(self, settings: TrainSettings) -> None:
        """Drive; cost.json then says what processor time training and driving took in the process that ended them."""
        before, path = time.process_time(), settings.folder / "cost.json"
        earlier: dict[str, Any] = read_json(path) if path.exists() else {"training": before, "driving": 0.0}
        with exclusive_lock(settings.folder / ".driving", f"driving of {settings.folder}"):
            for policies, seeds in self.wanted():
                evaluate_policies(_course(settings), policies, seeds, settings.folder / "evaluation.csv", 0)
        driving = earlier["driving"] + time.process_time() - before
        write_json(path, {"training": round(earlier["training"], 1), "driving": round(driving, 1)})


def _course(settings: TrainSettings) -> RunCourse:
    where = settings.scenario, scenario_and_weather(settings.scenario, settings.weather)[1].name
    return RunCourse(settings.folder, *where, settings.reward, settings.simulator, settings.carla)


@dataclass(frozen=True)
class WorldCourse:
    """A Course for what needs no run: policies that look at the world's state, or at nothing."""

    scenario: str
    weather: str
    reward: str
    frame_skip: int
    simulator: str = "embedded"
    carla: CarlaSettings = CarlaSettings()  # noqa: RUF009  (frozen)
    together: int = TOGETHER
    policy_digest: str = ""  # the world's policies do not change

    def envs(self, count: int) -> list[DrivingEnv]:
        """Environments that decide as often as the runs do."""
        return [
            DrivingEnv(
                self.scenario, self.weather, make_simulator(self.simulator, RECORDING_SIZE, self.carla),
                frame_skip=self.frame_skip, reward=self.reward,
            )
            for _ in range(1 if self.simulator == "carla" else count)
        ]  # fmt: skip

    def policy(self, name: str) -> Policy:
        return make_policy(name)


def drive_world(runs: Sequence[TrainSettings], folder: Path, episodes: int, first: int, workers: int) -> list[Path]:
    """Drive the rows of STANDARD for every scenario and reward that the runs have, into <folder>/<reward>.csv; returns
    these files. What another process is driving is left to it."""
    start = SEED_SPLITS["test"].start + first
    written = []
    for reward in dict.fromkeys(run.reward for run in runs):
        courses = {run.scenario: _world(run) for run in runs if run.reward == reward}
        path = folder / f"{reward}.csv"
        try:
            with exclusive_lock(folder / f".{reward}.lock", f"driving of {path}"):
                evaluate_courses([*courses.values()], STANDARD, range(start, start + episodes), path, workers)
        except SemoreError as error:
            if "already running" not in str(error):
                raise
            print(f"study: left to another study: {error}", flush=True)
        written.append(path)
    return written


def _world(run: TrainSettings) -> WorldCourse:
    return WorldCourse(run.scenario, run.weather, run.reward, run.frame_skip, run.simulator, run.carla)
