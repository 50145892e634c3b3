"""Recording a plan with worker processes: each takes whole episodes, nothing finished is recorded twice.

A worker writes one episode while it drives the next. It says None when it wants an episode, (name, steps) when one is
on disk, and an exception when it fails; it is told (seed, behaviour), or None when there is nothing left.
"""

from __future__ import annotations

import ctypes
import signal
import traceback
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import cast

from collect.behaviour import make_policy
from collect.plan import CollectSettings, identity, plan, policy_attributes
from collect.recorder import episode_name, record_into
from collect.writer import EpisodeWriter
from datasets.errors import SemoreError
from datasets.progress import meter
from datasets.rollouts import Rollouts, rollouts_path


def collect(settings: CollectSettings) -> Rollouts:
    """Record whatever of the plan is missing; safe to call again after any interruption."""
    settings.validate()
    rollouts = Rollouts(rollouts_path(settings.data, settings.rollouts, settings.scenario, settings.preset))
    with rollouts.lock():
        rollouts.create()
        swept = rollouts.sweep()
        if swept:
            print(f"removed {swept} half-written episode(s) of an interrupted run")
        todo = list(_missing(rollouts, settings))
        total = settings.episodes + settings.validation_episodes
        print(f"collect: {settings.scenario} into {rollouts.path}: {total - len(todo)} of {total} episodes there")
        if todo:
            with meter(f"collect {settings.scenario}", total, "episodes", total - len(todo)) as progress:
                for name, steps in _record_parallel(rollouts, settings, todo):
                    progress.advance(1, f"{name} ({steps} steps)")
    return rollouts


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
                    "choose another --rollouts name or delete the folder"
                )


def _record_parallel(
    rollouts: Rollouts, settings: CollectSettings, todo: list[tuple[int, str]]
) -> Iterator[tuple[str, int]]:
    """Record episodes in worker processes; yields (name, steps) as each is on disk."""
    context, tasks = get_context("spawn"), iter(todo)
    owed: dict[Connection, int] = {}  # what each worker has yet to say: its next question, and episodes on disk
    processes = []
    try:
        for _ in range(min(settings.workers, len(todo))):
            ours, theirs = context.Pipe()
            processes.append(context.Process(target=_work, args=(rollouts, settings, theirs)))
            processes[-1].start()
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
                    owed[pipe] -= 1
                    yield said
    finally:
        for pipe in owed:
            pipe.close()  # a worker that finds nobody to talk to finishes its episode and ends
        for process in processes:
            process.join()


def _work(rollouts: Rollouts, settings: CollectSettings, pipe: Connection) -> None:
    """A worker's life, at the other end of `pipe`."""
    _die_with_parent()
    try:
        env = settings.env()
        with EpisodeWriter(rollouts, lambda name, steps: pipe.send((name, steps))) as writer:
            while (task := _next_task(pipe)) is not None:
                seed, policy = task
                record_into(writer, [env], make_policy(policy), [seed], policy_attributes(settings, policy))
        env.close()
    except KeyboardInterrupt:
        pass  # the collector says so
    except Exception as error:
        known = isinstance(error, SemoreError)
        with suppress(ConnectionError):  # nobody listens: the collector was stopped, and this worker with it
            pipe.send(error if known else RuntimeError(f"a recording worker failed:\n{traceback.format_exc()}"))


def _next_task(pipe: Connection) -> tuple[int, str] | None:
    pipe.send(None)
    return cast(tuple[int, str] | None, pipe.recv())


def _die_with_parent() -> None:
    """Have the kernel end this worker when the collector is killed, so that none lingers (Linux only)."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
