"""Driving many episodes in lockstep: one policy call per decision serves every live environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from collect.behaviour import Action, Policy
from collect.driving import DrivingEnv, Info, SimStep

Begin = Callable[[int, DrivingEnv], Callable[[SimStep], None] | None]
Watch = Callable[[int, np.ndarray[Any, np.dtype[np.uint8]], Action | None, Info], None]


def drive(
    envs: Sequence[DrivingEnv],
    policy: Policy,
    seeds: Sequence[int],
    begin: Begin | None = None,
    watch: Watch | None = None,
    threads: int = 1,
) -> Iterator[tuple[int, Info]]:
    """Drive one episode per seed, `len(envs)` at a time, and yield (seed, its last info) as each batch ends.

    `begin(seed, env)` is called after each reset and may return a listener for every simulator step; `watch(seed,
    observation, action, info)` sees each decision's observation and action, and the last observation with None.
    Drawing releases the interpreter lock, so `threads` > 1 overlaps the environments' steps.
    """

    def step(slot: int, action: Action) -> tuple[Any, float, bool, bool, Info]:
        return envs[slot].step(action)

    with ThreadPoolExecutor(threads) as pool:
        each: Callable[..., Any] = map if threads == 1 else pool.map  # a lone thread only adds its own hand-overs
        for first in range(0, len(seeds), len(envs)):
            batch = list(seeds[first : first + len(envs)])
            policy.start(batch)
            observations: list[Any] = []
            infos: list[Info] = []
            for env, seed in zip(envs, batch, strict=False):
                env.listener = None
                observation, info = env.reset(seed=seed)
                env.listener = begin(seed, env) if begin else None
                observations.append(observation)
                infos.append(info)
            live = list(range(len(batch)))
            while live:
                seen = observations[live[0]][None] if len(live) == 1 else np.stack([observations[s] for s in live])
                actions = policy.act(live, seen, [infos[slot] for slot in live])
                if watch:
                    for slot, action in zip(live, actions, strict=True):
                        watch(batch[slot], observations[slot], action, infos[slot])
                running = []
                for slot, after in zip(live, each(step, live, actions), strict=True):
                    observation, _, terminated, truncated, info = after
                    observations[slot], infos[slot] = observation, info
                    if not (terminated or truncated):
                        running.append(slot)
                    elif watch:
                        watch(batch[slot], observation, None, info)
                live = running
            yield from zip(batch, infos, strict=True)
