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
    with ThreadPoolExecutor(threads) as pool:
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
                actions = policy.act(live, np.stack([observations[slot] for slot in live]), [infos[s] for s in live])
                if watch:
                    for slot, action in zip(live, actions, strict=True):
                        watch(batch[slot], observations[slot], action, infos[slot])
                steps = pool.map(lambda pair: envs[pair[0]].step(pair[1]), zip(live, actions, strict=True))
                running = []
                for slot, (observation, _, terminated, truncated, info) in zip(live, steps, strict=True):
                    observations[slot], infos[slot] = observation, info
                    if not (terminated or truncated):
                        running.append(slot)
                    elif watch:
                        watch(batch[slot], observation, None, info)
                live = running
            yield from zip(batch, infos, strict=True)
