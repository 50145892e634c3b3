"""The real CARLA client against our loopback server keeps every promise of a Simulator, and drives like `embedded`.

The world behind the wire is the embedded one, so this proves the adapter and the protocol, not Unreal's physics or
pictures; `docs/carla.md` tells how to run the same against a real server.
"""

from __future__ import annotations

import atexit
import math
from contextlib import ExitStack
from functools import cache

import numpy as np
import pytest

pytest.importorskip("carla.libcarla", reason="the carla wheel is not installed: make setup SIM=carla")

from simulator_contract import SimulatorContract

from semore.collect.carla.client import CarlaSimulator
from semore.collect.carla.loopback.running import running
from semore.collect.embedded.world import EmbeddedSimulator
from semore.collect.env import DrivingEnv, SimStep
from semore.collect.scenarios import EgoStart
from semore.collect.simulator import Simulator
from semore.datasets.rollouts.schema import ACTOR_COLUMN

YAW = ACTOR_COLUMN["yaw"]


@cache
def loopback() -> int:
    """The port of this process's loopback server, which ends with it."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(running()).port


@pytest.mark.slow
class TestCarla(SimulatorContract):
    name = "carla"
    road_end = ("Town01", EgoStart(12, (1,), (60.0, 60.0), 0.0, 0.0))

    def make_simulator(self, size: int) -> Simulator:
        return CarlaSimulator("127.0.0.1", loopback(), size, timeout=20.0)


def episode(simulator: Simulator, scenario: str, seed: int, steps: int) -> list[SimStep]:
    """The steps of an episode under a fixed run of actions: half throttle, weaving."""
    env = DrivingEnv(scenario, simulator=simulator, size=64, camera=64, max_episode_steps=steps)
    env.reset(seed=seed)
    found: list[SimStep] = []
    env.listener = found.append
    actions = np.random.default_rng(seed).normal(0.0, 0.05, steps)
    for steer in actions:
        _, _, terminated, truncated, _ = env.step(np.array((steer, 0.5), np.float32))
        if terminated or truncated:
            break
    return found


@pytest.mark.parametrize(("scenario", "seed"), [("JayWalk", 2), ("HighBeam", 1), ("HighWay", 1)])
def test_same_actions_same_rewards_as_embedded(scenario: str, seed: int) -> None:
    """Seeds under which the ego hits somebody or something."""
    simulator = CarlaSimulator("127.0.0.1", loopback(), 64)
    try:
        ours, theirs = (episode(world, scenario, seed, 200) for world in (simulator, EmbeddedSimulator(64)))
    finally:
        simulator.close()
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.reward == pytest.approx(other.reward, abs=2e-3)
        assert one.impulse == pytest.approx(other.impulse, rel=1e-3, abs=1.0)
        assert (one.terminated, one.truncated) == (other.terminated, other.truncated)
        assert [hit.name for hit in one.snapshot.collisions] == [hit.name for hit in other.snapshot.collisions]
        actors, others = one.snapshot.actors, other.snapshot.actors
        turned = np.remainder(actors[:, YAW] - others[:, YAW] + math.pi, math.tau) - math.pi
        np.testing.assert_allclose(turned, 0.0, atol=0.01)
        np.testing.assert_allclose(np.delete(actors, YAW, 1), np.delete(others, YAW, 1), atol=0.02)
    assert any(step.snapshot.collisions for step in theirs)
