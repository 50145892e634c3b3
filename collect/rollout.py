"""Drives many episodes in lockstep: one policy call per decision serves every live environment.

An episode that a failing simulator loses is driven again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np

from semore.collect.env import DrivingEnv, Info, SimStep
from semore.collect.policies import Action, Policy
from semore.collect.simulator import EpisodeLost
from semore.datasets.errors import SemoreError

ATTEMPTS: Final = 5
"""Times an episode is begun before its simulator is given up."""

Begin = Callable[[int, DrivingEnv], Callable[[SimStep], None] | None]
Watch = Callable[[int, np.ndarray[Any, np.dtype[np.uint8]], Action | None, Info], None]
Lost = Callable[[int, EpisodeLost], None]
Each = Callable[..., Any]


def tell(seed: int, error: EpisodeLost) -> None:
    """Report a lost episode on standard error."""
    print(f"seed {seed} is driven again: {error}", file=sys.stderr, flush=True)


def refuse(seed: int, error: EpisodeLost) -> None:
    """Give up: SemoreError that names the seed and the last error."""
    raise SemoreError(f"seed {seed} was lost {ATTEMPTS} times, the last time: {error}")


def drive(
    envs: Sequence[DrivingEnv],
    policy: Policy,
    seeds: Sequence[int],
    begin: Begin | None = None,
    watch: Watch | None = None,
    threads: int = 1,
    lost: Lost = tell,
    abandon: Lost = refuse,
) -> Iterator[tuple[int, Info]]:
    """Drive one episode per seed, `len(envs)` at a time, and yield (seed, its last info) as each batch ends.

    `begin(seed, env)` is called after each reset and may return a listener for every simulator step; `watch(seed,
    observation, action, info)` sees each decision's observation and action, and the last observation with None.
    Drawing releases the interpreter lock, so `threads` > 1 overlaps the environments' steps.

    When a simulator loses an episode, `lost(seed, error)` is called and the seed is driven again from its `begin`, by
    the same draws. When that has happened ATTEMPTS times, `abandon(seed, error)` is called, which raises SemoreError
    if not told otherwise; the seed is then left out.
    """
    with ThreadPoolExecutor(threads) as pool:
        each: Each = map if threads == 1 else pool.map  # a lone thread only adds its own hand-overs
        for first in range(0, len(seeds), len(envs)):
            batch = list(seeds[first : first + len(envs)])
            ends: dict[int, Info] = {}
            errors: dict[int, EpisodeLost] = {}
            for _ in range(ATTEMPTS):
                errors = {}
                missing = [seed for seed in batch if seed not in ends]
                for seed, end in _lockstep(envs, policy, missing, begin, watch, each):
                    if isinstance(end, EpisodeLost):
                        errors[seed] = end
                        lost(seed, end)
                    else:
                        ends[seed] = end
                if not errors:
                    break
            for seed, error in errors.items():
                abandon(seed, error)
            yield from ((seed, ends[seed]) for seed in batch if seed in ends)


def _lockstep(
    envs: Sequence[DrivingEnv],
    policy: Policy,
    seeds: Sequence[int],
    begin: Begin | None,
    watch: Watch | None,
    each: Each,
) -> Iterator[tuple[int, Info | EpisodeLost]]:
    """Drive each seed once, in an environment of its own; how each ended, in the order of the seeds."""

    def step(slot: int, action: Action) -> tuple[Any, float, bool, bool, Info] | EpisodeLost:
        try:
            return envs[slot].step(action)
        except EpisodeLost as error:
            return error

    policy.start(seeds)
    observations: dict[int, Any] = {}
    infos: dict[int, Info] = {}
    lost: dict[int, EpisodeLost] = {}
    for slot, (env, seed) in enumerate(zip(envs, seeds, strict=False)):
        env.listener = None
        try:
            observations[slot], infos[slot] = env.reset(seed=seed)
            env.listener = begin(seed, env) if begin else None
        except EpisodeLost as error:
            lost[slot] = error
    live = [slot for slot in range(len(seeds)) if slot not in lost]
    while live:
        seen = observations[live[0]][None] if len(live) == 1 else np.stack([observations[s] for s in live])
        actions = policy.act(live, seen, [infos[slot] for slot in live])
        if watch:
            for slot, action in zip(live, actions, strict=True):
                watch(seeds[slot], observations[slot], action, infos[slot])
        running = []
        for slot, after in zip(live, each(step, live, actions), strict=True):
            if isinstance(after, EpisodeLost):
                lost[slot] = after
                continue
            observations[slot], _, terminated, truncated, infos[slot] = after
            if not (terminated or truncated):
                running.append(slot)
            elif watch:
                watch(seeds[slot], observations[slot], None, infos[slot])
        live = running
    for slot, seed in enumerate(seeds):
        yield seed, lost.get(slot) or infos[slot]
