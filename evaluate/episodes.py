"""Drives the test seeds: every policy on the same episodes, one row each, saved as they finish."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, fields, replace
from itertools import groupby, product
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any, Final, NamedTuple, Protocol

from semore.collect.carla.settings import CarlaSettings
from semore.collect.env import DrivingEnv, Info
from semore.collect.policies import Action, Policy, load_view
from semore.collect.rollout import ATTEMPTS, drive
from semore.collect.scenarios import scenario_and_weather
from semore.collect.simulator import EpisodeLost
from semore.collect.simulators import make_simulator
from semore.datasets.atomic_io import digest16, read_csv, write_csv
from semore.datasets.errors import SemoreError
from semore.datasets.progress import meter
from semore.datasets.rollouts.schema import RECORDING_SIZE
from semore.datasets.subprocesses import die_with_parent
from semore.evaluate.policies import POLICIES

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
    """One episode of evaluation.csv; units as in collect.env.EpisodeMetrics. Files from before the columns with a
    default can be read."""

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
    policy_digest: str = ""
    """Course.policy_digest of what was driven; empty in files from before this column, too."""


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

    @property
    def policy_digest(self) -> str:
        """What drives, by its content: rows with another digest are of something that has been replaced since. Empty
        where nothing can be replaced."""


class Job(NamedTuple):
    """Episodes that are driven together."""

    course: Course
    policy: str
    seeds: list[int]


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

    @property
    def policy_digest(self) -> str:
        """Of the bytes of policy.pt2, which hold the weights and what the policy is shown. A file's time would say
        nothing: copies and backups have older and newer ones."""
        return digest16((self.run / "policy.pt2").read_bytes()).hex()


def evaluate_policies(
    course: Course, policies: Sequence[str], seeds: Sequence[int], path: Path, workers: int
) -> list[Row]:
    """As `evaluate_courses`, for one course."""
    return evaluate_courses([course], policies, seeds, path, workers)


def evaluate_courses(
    courses: Sequence[Course], policies: Sequence[str], seeds: Sequence[int], path: Path, workers: int
) -> list[Row]:
    """Drive whatever (course, policy, seed) is not yet in the CSV at `path`, or failed with its simulator; returns the
    wanted rows by course, policy and seed. With 0 `workers` this process drives by itself.

    Rows that are not of the courses' present `policy_digest` do not count, and the first new ones replace them. Rows
    are saved after every few episodes, so an interrupted evaluation goes on where it stopped. SemoreError when a worker
    process dies.
    """
    cells = {_cell(course): course for course in courses}
    saved, present = read_rows(path), {course.policy_digest for course in courses}
    rows = {_key(row): row for row in saved if row.policy_digest in present}
    if stale := sum(row.policy_digest not in present for row in saved):
        print(f"{path}: {stale} episodes are of another policy, or do not say of which: what is wanted is driven anew")
    others = [key for key in rows if key[:2] not in cells]
    done = {key for key, row in rows.items() if row.ending != SIMULATOR_FAILED}
    jobs: list[Job] = []
    for (cell, course), policy in product(cells.items(), policies):
        missing = [seed for seed in seeds if (*cell, policy, seed) not in done]
        parts = range(0, len(missing), course.together)
        jobs += [Job(course, policy, missing[first : first + course.together]) for first in parts]
    wanted = [(*cell, policy, seed) for cell, policy, seed in product(cells, policies, seeds)]
    order = {key: place for place, key in enumerate([*others, *wanted])}

    def place(row: Row) -> tuple[int, str, int]:
        return order.get(_key(row), len(order)), row.policy, row.seed

    if jobs:
        label = f"evaluate {', '.join(dict.fromkeys(course.scenario for course in courses))}"
        with (
            meter(label, len(wanted), "episodes", len(wanted) - sum(len(job.seeds) for job in jobs)) as progress,
            closing(_in_workers(jobs, workers) if workers else _here(jobs)) as finished,
        ):
            for driven_now in finished:
                for row in driven_now:
                    rows[_key(row)] = row
                    progress.advance(1, row.policy)
                write_rows(path, sorted(rows.values(), key=place))
    return [rows[key] for key in wanted]


def _in_workers(jobs: Sequence[Job], workers: int) -> Generator[list[Row]]:
    with ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn"), die_with_parent) as pool:
        try:
            for job in as_completed([pool.submit(_drive, *job) for job in jobs]):
                yield job.result()
        except BrokenProcessPool:
            raise SemoreError(
                "an evaluation worker died (out of memory, or killed); finished episodes are kept: run the same "
                "command again, with a smaller --workers if memory was short"
            ) from None


def _here(jobs: Sequence[Job]) -> Generator[list[Row]]:
    """In this process; what a policy needs is made once for all its jobs."""
    for _, own in groupby(jobs, key=lambda job: (id(job.course), job.policy)):
        same = list(own)
        yield from _drive_parts(same[0].course, same[0].policy, [job.seeds for job in same])


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
    return read_csv(path, Row, "move it away")


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write the CSV atomically."""
    names = [each.name for each in fields(Row)]
    write_csv(path, names, ({name: getattr(row, name) for name in names} for row in rows))


def _drive(course: Course, policy: str, seeds: Sequence[int]) -> list[Row]:
    (rows,) = _drive_parts(course, policy, [seeds])
    return rows


def _drive_parts(course: Course, policy: str, parts: Sequence[Sequence[int]]) -> Iterator[list[Row]]:
    """The rows of each part, in the same environments and by the same policy."""
    import torch  # results are read without it

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)
        envs = course.envs(max(map(len, parts)))
        for env in envs:
            stack.callback(env.close)
        digest = course.policy_digest  # before the policy is read: if it is replaced meanwhile, no row is believed
        actor = course.policy(policy)
        for seeds in parts:
            rows = _rows(course, policy, seeds, envs, actor)
            yield [replace(row, policy_digest=digest) for row in rows]


def _rows(course: Course, policy: str, seeds: Sequence[int], envs: Sequence[DrivingEnv], actor: Policy) -> list[Row]:
    begun: dict[int, float] = {}
    ended: dict[int, float] = {}
    ends: dict[int, dict[str, Any]] = {}

    def begin(seed: int, _: DrivingEnv) -> None:
        begun[seed] = perf_counter()

    def watch(seed: int, _: Any, action: Action | None, __: Info) -> None:
        if action is None:
            ended[seed] = perf_counter()

    def abandon(seed: int, error: EpisodeLost) -> None:
        print(f"seed {seed} is given up, its simulator failed {ATTEMPTS} times: {error}", file=sys.stderr, flush=True)

    for seed, info in drive(envs, actor, seeds, begin, watch, abandon=abandon):
        ends[seed] = info["metrics"]
    # A server that never came up cannot be asked.
    renderer = f"{envs[0].simulator.name} {envs[0].simulator.renderer_version}" if ends else ""
    scenario, weather = _cell(course)
    return [
        Row(policy, scenario, weather, seed, **ends[seed], wall_time=ended[seed] - begun[seed], renderer=renderer)
        if seed in ends
        else Row(policy, scenario, weather, seed, SIMULATOR_FAILED, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, renderer=renderer)
        for seed in seeds
    ]


def _cell(course: Course) -> tuple[str, str]:
    scenario, weather = scenario_and_weather(course.scenario, course.weather)
    return scenario.name, weather.name


def _key(row: Row) -> tuple[str, str, str, int]:
    return row.scenario, row.weather, row.policy, row.seed
