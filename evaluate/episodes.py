"""Driving the test seeds: every policy on the same episodes, a row each, saved as they finish."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import MISSING, dataclass, field, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, Protocol

import torch

from collect.behaviour import Policy, load_view
from collect.carla.settings import CarlaSettings
from collect.driving import DrivingEnv
from collect.episodes import drive
from collect.scenarios import scenario_and_weather
from collect.simulator import make_simulator
from datasets.errors import SemoreError
from datasets.files import atomic_file
from datasets.progress import meter
from datasets.schema import RECORDING_SIZE
from evaluate.policies import POLICIES

TOGETHER = 8
"""Episodes driven in lockstep, and the unit of work of a process."""
ON_A_SERVER = 25
"""The unit of work where a process has to start a server first; they are driven one after another."""
SIMULATOR_FAILED: Final = "simulator_failed"
"""The ending of an episode whose simulator was lost again and again."""
FAILED: Final = (SIMULATOR_FAILED, "carla_bug")
"""Endings that say nothing about the policy; such episodes are counted, and in no mean (method.md §2.6)."""


@dataclass(frozen=True)
class Row:
    """One episode of evaluation.csv; units as in collect.driving.EpisodeMetrics. Files from before `wall_time` and
    `renderer` can be read."""

    policy: str
    scenario: str
    weather: str
    seed: int
    ending: str
    reward: float
    distance: float
    crash_intensity: float
    steer: float
    throttle: float
    brake: float
    steps: int
    wall_time: float = field(default=0.0, compare=False)
    """Seconds from its reset to its end; episodes driven in lockstep share them. No part of what makes rows equal."""
    renderer: str = ""
    """The world and the version of its pictures; empty when unknown."""


class Course(Protocol):
    """What is driven, and by whom; picklable, for worker processes."""

    @property
    def scenario(self) -> str: ...

    @property
    def weather(self) -> str: ...

    def envs(self, count: int) -> list[DrivingEnv]:
        """Fresh environments, all alike: `count`, or fewer where the world has no room for so many."""

    def policy(self, name: str) -> Policy:
        """The policy of that row; SemoreError for an unknown one."""

    @property
    def together(self) -> int:
        """Episodes that are the unit of work of a process."""

    def outdated(self, rows: Path) -> bool:
        """Whether the rows saved at this path are of something that has been replaced since."""


@dataclass(frozen=True)
class RunCourse:
    """A Course for a trained run: its policies beside the blind and privileged ones, shown what it was trained on."""

    run: Path
    scenario: str
    weather: str
    reward: str
    simulator: str
    carla: CarlaSettings = CarlaSettings()  # noqa: RUF009  (frozen)

    def envs(self, count: int) -> list[DrivingEnv]:
        """Environments showing what the run's policy was trained to see; with carla only one: a process drives on a
        server of its own."""
        view = load_view(self.run)
        return [
            DrivingEnv(
                self.scenario, self.weather, make_simulator(self.simulator, RECORDING_SIZE, self.carla), view["size"],
                frame_skip=view["frame_skip"], stack=view["stack"], reward=self.reward,
            )
            for _ in range(1 if self.simulator == "carla" else count)
        ]  # fmt: skip

    def policy(self, name: str) -> Policy:
        return POLICIES[name](self.run)

    @property
    def together(self) -> int:
        return ON_A_SERVER if self.simulator == "carla" else TOGETHER

    def outdated(self, rows: Path) -> bool:
        return rows.exists() and rows.stat().st_mtime < (self.run / "policy.pt2").stat().st_mtime


def evaluate_policies(
    course: Course, policies: Sequence[str], seeds: Sequence[int], path: Path, workers: int
) -> list[Row]:
    """Drive whatever (policy, seed) is not yet in the CSV at `path`; returns the wanted rows in table order.

    Rows are saved after every few episodes, so an interrupted evaluation goes on where it stopped.
    """
    scenario, weather = scenario_and_weather(course.scenario, course.weather)
    kept = [] if course.outdated(path) else read_rows(path)
    ours: list[Row] = []
    others: list[Row] = []
    for row in kept:
        (ours if (row.scenario, row.weather) == (scenario.name, weather.name) else others).append(row)
    rows = {(row.policy, row.seed): row for row in ours}
    wanted = [(policy, seed) for policy in policies for seed in seeds]
    jobs = []
    for policy in policies:
        missing = [seed for seed in seeds if (policy, seed) not in rows]
        size = course.together
        jobs += [(policy, missing[first : first + size]) for first in range(0, len(missing), size)]
    if jobs:
        label = f"evaluate {course.scenario}"
        with (
            meter(label, len(wanted), "episodes", len(wanted) - sum(len(job[1]) for job in jobs)) as progress,
            ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn")) as pool,
        ):
            for done in as_completed([pool.submit(_drive, course, *job) for job in jobs]):
                for row in done.result():
                    rows[row.policy, row.seed] = row
                    progress.advance(1, row.policy)
                write_rows(path, others + [rows[key] for key in sorted(rows, key=lambda key: _order(key, policies))])
    return [rows[key] for key in wanted]


def driven(rows: Sequence[Row]) -> list[Row]:
    """The rows that tell about their policy: without the episodes whose simulator failed."""
    return [row for row in rows if row.ending not in FAILED]


def by_policy(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each policy, in order of first appearance."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.policy, []).append(row)
    return groups


def read_rows(path: Path) -> list[Row]:
    """The rows of an evaluation.csv, none when there is no file; SemoreError when its columns are others."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as handle:
        reader = csv.DictReader(handle)
        types = {each.name: {"str": str, "int": int, "float": float}[str(each.type)] for each in fields(Row)}
        earlier = [each.name for each in fields(Row) if each.default is MISSING]
        if reader.fieldnames not in (list(types), earlier):
            raise SemoreError(f"{path}: columns {reader.fieldnames}, expected {list(types)}; move it away")
        return [Row(**{name: types[name](value) for name, value in record.items()}) for record in reader]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write the CSV atomically."""
    names = [each.name for each in fields(Row)]
    with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([getattr(row, name) for name in names] for row in rows)


def _drive(course: Course, policy: str, seeds: Sequence[int]) -> list[Row]:
    torch.set_num_threads(1)
    envs = course.envs(len(seeds))
    rows = []
    with ExitStack() as stack:
        for env in envs:
            stack.callback(env.close)
        for seed, info in drive(envs, course.policy(policy), seeds):
            metrics: dict[str, Any] = info["metrics"]
            rows.append(Row(policy, envs[0].scenario.name, envs[0].weather.name, seed, **metrics))
    return rows


def _order(key: tuple[str, int], policies: Sequence[str]) -> tuple[int, str, int]:
    policy, seed = key
    return (policies.index(policy) if policy in policies else len(policies), policy, seed)
