"""Records a plan with worker processes: each takes whole episodes, and nothing finished is recorded twice.

A worker writes one episode while it drives the next. It says None when it wants an episode, Recorded when one is on
disk, Redone when one was lost with its simulator, Spent at its end, and an exception when it fails; it is told (seed,
policy), or None when there is nothing left.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import closing, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import NamedTuple, cast

from semore.collect.carla.supervisor import SupervisedCarla
from semore.collect.carla.throughput import throughput
from semore.collect.plan import CollectSettings, identity, plan, policy_attributes
from semore.collect.policies import make_policy
from semore.collect.recorder import episode_name, record_into
from semore.collect.simulator import EpisodeLost
from semore.collect.simulators import worker_count
from semore.collect.writer import EpisodeWriter
from semore.datasets.errors import SemoreError
from semore.datasets.progress import meter
from semore.datasets.rollouts.store import Rollouts
from semore.datasets.subprocesses import die_with_parent


class Recorded(NamedTuple):
    """The message of a worker that an episode is on disk."""

    name: str
    steps: int


class Redone(NamedTuple):
    """The message of a worker that a simulator lost the episode of this seed, which is driven again."""

    seed: int
    why: str


class Spent(NamedTuple):
    """The message of a worker at its end: its simulator's timings (collect.carla.supervisor), empty when it has
    none."""

    timings: dict[str, float]


def collect(settings: CollectSettings) -> Rollouts:
    """Record the episodes of the plan that are missing. It is safe to call again after any interruption."""
    settings.validate()
    rollouts = Rollouts(settings.rollouts_folder)
    with rollouts.lock():
        rollouts.create()
        swept = rollouts.sweep()
        if swept:
            print(f"removed {swept} half-written episode(s) of an interrupted run")
        todo = list(_missing(rollouts, settings))
        total = settings.episodes + settings.validation_episodes
        print(f"collect: {settings.scenario} into {rollouts.path}: {total - len(todo)} of {total} episodes there")
        if todo:
            _record(rollouts, settings, todo, total)
    return rollouts


def _record(rollouts: Rollouts, settings: CollectSettings, todo: list[tuple[int, str]], total: int) -> None:
    """Record what is to do, and tell how it goes."""
    redone, accounts, start = 0, [], time.monotonic()
    with meter(f"collect {settings.scenario}", total, "episodes", total - len(todo)) as progress:
        for said in _record_parallel(rollouts, settings, todo):
            match said:
                case Recorded(name, steps):
                    progress.advance(1, f"{name} ({steps} steps)")
                case Redone(seed, why):
                    redone += 1
                    progress.say(f"seed {seed} is driven again: {why}")
                case Spent(timings):
                    accounts.append(timings)
    if redone:
        print(f"collect: {redone} episode(s) lost with their simulator and driven again")
    if any(accounts):
        print(throughput(accounts, time.monotonic() - start))


def _missing(rollouts: Rollouts, settings: CollectSettings) -> Iterator[tuple[int, str]]:
    there = set(rollouts.names())
    for seed, policy in plan(settings):
        name = episode_name(settings.scenario, seed)
        if name not in there:
            yield seed, policy
            continue
        found = rollouts.episode(name).attributes
        for key, wanted in identity(settings, policy).items():
            if found.get(key) != wanted:
                raise SemoreError(
                    f"{rollouts.path / name} was recorded with {key}={found.get(key)!r}, you ask for {wanted!r}; "
                    "choose another --rollouts name"
                )


def _record_parallel(
    rollouts: Rollouts, settings: CollectSettings, todo: list[tuple[int, str]]
) -> Iterator[Recorded | Redone | Spent]:
    """Record episodes in worker processes; yields what they say."""
    context, tasks = get_context("spawn"), iter(todo)
    owed: dict[Connection, int] = {}  # what each worker has yet to say: its next question, and episodes on disk
    processes = []
    try:
        count = worker_count(settings.simulator, settings.workers, settings.carla)
        for _ in range(min(count, len(todo))):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(rollouts, settings, theirs))
            process.start()
            processes.append(process)
            theirs.close()  # so that the worker's death is the end of the file here
            owed[ours] = 1
        while owed:
            for pipe in cast(list[Connection], wait(list(owed))):
                try:
                    said = pipe.recv()
                    if said is None:
                        task = next(tasks, None)
                        pipe.send(task)
                        owed[pipe] += -1 if task is None else 1
                except (EOFError, ConnectionError):
                    if owed.pop(pipe):
                        raise SemoreError(
                            "a recording worker died (out of memory, or killed); finished episodes are kept: run the "
                            "same command again, with a smaller --workers if memory was short"
                        ) from None
                    continue
                if isinstance(said, Exception):
                    raise said
                if said is not None:
                    owed[pipe] -= isinstance(said, Recorded)
                    yield said
    finally:
        for pipe in owed:
            pipe.close()  # a worker that finds nobody to talk to finishes its episode and ends
        for process in processes:
            process.join()


def _work(rollouts: Rollouts, settings: CollectSettings, pipe: Connection) -> None:
    """A worker's life, at the other end of `pipe`."""
    die_with_parent()

    def lost(seed: int, error: EpisodeLost) -> None:
        pipe.send(Redone(seed, str(error)))

    try:
        with closing(settings.env()) as env:
            with EpisodeWriter(rollouts, lambda name, steps: pipe.send(Recorded(name, steps))) as writer:
                while (task := _next_task(pipe)) is not None:
                    seed, policy = task
                    about = policy_attributes(settings, policy)
                    record_into(writer, [env], make_policy(policy), [seed], about, lost=lost)
            if isinstance(env.simulator, SupervisedCarla):
                pipe.send(Spent(env.simulator.timings()))
    except KeyboardInterrupt:
        pass  # the collector says so
    except Exception as error:
        known = isinstance(error, SemoreError)
        with suppress(ConnectionError):  # nobody listens: the collector was stopped, and this worker with it
            pipe.send(error if known else RuntimeError(f"a recording worker failed:\n{traceback.format_exc()}"))


def _next_task(pipe: Connection) -> tuple[int, str] | None:
    pipe.send(None)
    return cast(tuple[int, str] | None, pipe.recv())
