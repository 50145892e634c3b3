"""Endings: every reason of method.md §2.5 that a world must be able to bring about, through the environment."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from semore.collect.env import COLLISION_LIMIT, STUCK_EVERY, DrivingEnv, SimStep
from semore.collect.scenarios import Scenario
from semore.collect.simulator import Simulator
from semore.datasets.rollouts.schema import DT
from simulator_contract.base import EGO_MASS, Contract, creeping, lane_keeper


class Endings(Contract):
    """Episodes of DrivingEnv on this simulator."""

    def test_off_road(self, simulator: Simulator) -> None:
        steps = self.episode(simulator, self.stage(None, 0.0), 500, (0.8, 0.6))
        assert self.ending == "off_road"
        assert (steps[-1].terminated, steps[-1].truncated) == (True, False)
        assert steps[-1].snapshot.lane is None
        assert all(step.snapshot.lane is not None for step in steps[:-1])
        assert steps[-1].speed == 0.0

    def test_road_end(self, simulator: Simulator) -> None:
        if self.road_end is None:
            pytest.skip(f"{self.name} names no road that ends")
        town, start = self.road_end
        steps = self.episode(simulator, replace(self.stage(None, 0.0), map=town, ego=start), 600, None)
        assert self.ending == "no_waypoints"
        assert steps[-1].snapshot.road_ends
        assert not any(step.snapshot.road_ends for step in steps[:-1])
        assert steps[-1].terminated

    def test_twenty_collisions_in_a_row(self, simulator: Simulator) -> None:
        steps = self.episode(simulator, self.stage(creeping("fire truck"), 20.0), 500, (0.0, 1.0))
        hits = [bool(step.snapshot.collisions) for step in steps]
        assert self.ending == "collisions"
        assert hits[-COLLISION_LIMIT:] == [True] * COLLISION_LIMIT
        assert not any(all(hits[k : k + COLLISION_LIMIT]) for k in range(len(hits) - COLLISION_LIMIT))
        assert (steps[-1].terminated, steps[-1].truncated) == (True, False)
        assert max(step.impulse for step in steps) > EGO_MASS

    def test_success_at_the_step_limit(self, simulator: Simulator) -> None:
        steps = self.episode(simulator, self.stage(None, 0.0), 80, None)
        assert (self.ending, len(steps)) == ("success", 80)
        assert (steps[-1].terminated, steps[-1].truncated) == (False, True)

    def test_stuck(self, simulator: Simulator) -> None:
        steps = self.episode(simulator, self.stage(None, 0.0), 500, (0.0, -1.0))
        assert (self.ending, len(steps)) == ("stuck", STUCK_EVERY)
        assert steps[-1].terminated

    def test_published_scenarios_begin_and_go_on(self, simulator: Simulator, scenario: Scenario) -> None:
        steps = self.episode(simulator, scenario, 40, (0.0, 0.3))
        assert (self.ending, len(steps)) == ("success", 40)
        path = sum(step.progress for step in steps)
        first, last = steps[0].snapshot.ego, steps[-1].snapshot.ego
        assert path == pytest.approx(math.hypot(last.x - first.x, last.y - first.y) + steps[0].progress, abs=0.3)
        assert path == pytest.approx(DT * sum(step.speed for step in steps))

    def episode(
        self, simulator: Simulator, scenario: Scenario, limit: int, action: tuple[float, float] | None
    ) -> list[SimStep]:
        """Every step of an episode of at most `limit` under one action, or (None) down the lane at full throttle."""
        env = DrivingEnv(simulator=simulator, size=8, camera=64, max_episode_steps=limit)
        env.scenario = scenario  # staged ones have no name to ask for
        steps: list[SimStep] = []
        _, info = env.reset(seed=1)
        env.listener = steps.append
        ended = False
        while not ended:
            keep = lane_keeper(0, env.snapshot)
            chosen = (keep.steer, keep.throttle) if action is None else action
            _, _, terminated, truncated, info = env.step(np.array(chosen, np.float32))
            ended = terminated or truncated
        self.ending = info["ending"]
        return steps
