"""Who drives: an agent's episodes for refreshes, which are recorded, and for validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from semore.collect.network_policy import NetworkPolicy
from semore.collect.recorder import record
from semore.collect.rollout import drive
from semore.datasets.rollouts.store import Rollouts
from semore.train.learner import Learner
from semore.train.online import EnvPool, World

TOGETHER: Final = 16
"""Validation episodes driven in lockstep at most."""


class Actor:
    """Drives in a world, in environments that it shares with others."""

    def __init__(self, world: World, fleet: EnvPool, threads: int) -> None:
        self._world, self._fleet, self._threads = world, fleet, threads

    def record(self, agent: Learner, spread: float, seeds: Sequence[int], rollouts: Rollouts) -> list[str]:
        """Drive the seeds with `spread` times σ of noise, and record them; returns the episodes' names."""
        world = self._world
        about = {"policy": "trained", "action_repeat": world.frame_skip, "reward": world.reward}
        envs = self._fleet.envs(len(seeds))
        return record(rollouts, envs, self._policy(agent, spread), seeds, about, threads=self._threads)

    def drive(self, agent: Learner, seeds: Sequence[int]) -> list[Mapping[str, Any]]:
        """Drive the seeds without noise; returns the metrics of each."""
        envs = self._fleet.envs(min(len(seeds), TOGETHER))
        return [info["metrics"] for _, info in drive(envs, self._policy(agent), seeds, threads=self._threads)]

    def _policy(self, agent: Learner, spread: float = 0.0) -> NetworkPolicy:
        device = agent.device
        return self._world.policy(lambda seen: agent(seen.to(device)), spread)
