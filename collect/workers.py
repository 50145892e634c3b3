"""Recording a plan with worker processes: each takes whole episodes, nothing finished is recorded twice."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from collect.behaviour import make_policy
from collect.plan import CollectSettings, identity, plan, policy_attributes
from collect.recorder import episode_name, record
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
    workers = min(settings.workers, len(todo))
    with ProcessPoolExecutor(workers, get_context("spawn"), _die_with_parent) as pool:
        jobs = [pool.submit(_record_one, rollouts, settings, seed, policy) for seed, policy in todo]
        try:
            for job in as_completed(jobs):
                yield job.result()
        except BrokenProcessPool:
            raise SemoreError(
                "a recording worker died (out of memory, or killed); finished episodes are kept: run the same command "
                "again, with a smaller --workers if memory was short"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _record_one(rollouts: Rollouts, settings: CollectSettings, seed: int, policy: str) -> tuple[str, int]:
    env = settings.env()
    try:
        (name,) = record(rollouts, [env], make_policy(policy), [seed], policy_attributes(settings, policy))
        return name, rollouts.episode(name).steps
    finally:
        env.close()


def _die_with_parent() -> None:
    """Have the kernel end this worker when the collector is killed, so that none lingers (Linux only)."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
