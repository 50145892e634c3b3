"""The world that a run's policy drives in, its environments, and the agent as a policy of `collect`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from semore.collect.carla.settings import CarlaSettings
from semore.collect.env import DrivingEnv
from semore.collect.network_policy import Network, NetworkPolicy
from semore.collect.simulator import simulator_identity
from semore.collect.simulators import at_once, make_simulator
from semore.datasets.rollouts.schema import MAX_EPISODE_STEPS, RECORDING_SIZE
from semore.train.settings import TrainSettings


@dataclass(frozen=True)
class World:
    """Where the policy drives, and what it is shown there."""

    scenario: str
    weather: str
    simulator: str
    carla: CarlaSettings
    reward: str
    frame_skip: int
    size: int
    grey: bool
    max_episode_steps: int = MAX_EPISODE_STEPS

    @staticmethod
    def of(settings: TrainSettings) -> World:
        """The world of a run."""
        return World(
            settings.scenario, settings.weather, settings.simulator, settings.carla, settings.reward,
            settings.frame_skip, settings.agent.encoder.size, settings.grey,
        )  # fmt: skip

    @property
    def view(self) -> dict[str, Any]:
        """What an exported policy must be shown, and what it was trained for."""
        return {
            "size": self.size, "stack": 3, "frame_skip": self.frame_skip, "scenario": self.scenario,
            "weather": self.weather, "reward": self.reward, "simulator": self.simulator, "grey": self.grey,
        }  # fmt: skip

    def env(self) -> DrivingEnv:
        """An environment that shows what the network sees."""
        simulator = make_simulator(self.simulator, RECORDING_SIZE, self.carla)
        return DrivingEnv(
            self.scenario, self.weather, simulator, self.size, frame_skip=self.frame_skip, reward=self.reward,
            max_episode_steps=self.max_episode_steps,
        )  # fmt: skip

    def policy(self, network: Network, spread: float = 0.0, memory: float = 0.0) -> NetworkPolicy:
        """The network's mean as a policy, with `spread` times its σ of noise, which has that `memory`."""
        return NetworkPolicy(network, self.view, spread, memory)


class EnvPool:
    """The environments of a run, made when they are first needed; refresh and validation take turns with them."""

    def __init__(self, world: World, shares: int) -> None:
        """Servers are dealt out to so many shares, each at least one, whether or not others drive at the same time."""
        self._world = world
        self._room = replace(world.carla, servers=max(world.carla.servers // shares, 1))
        self._envs: list[DrivingEnv] = []
        self._identity: dict[str, str] = {}

    def envs(self, count: int) -> list[DrivingEnv]:
        """`count` environments, or fewer where the world has no room for so many."""
        count = at_once(self._world.simulator, count, self._room)
        while len(self._envs) < count:
            self._envs.append(self._world.env())
        return self._envs[:count]

    def identity(self) -> dict[str, str]:
        """Name and versions of the world they drive in."""
        self._identity = self._identity or simulator_identity(self.envs(1)[0].simulator)
        return self._identity

    def close(self) -> None:
        """Give servers back; others are taken when environments are needed again."""
        while self._envs:
            self._envs.pop().close()


def policy_view(settings: TrainSettings) -> dict[str, Any]:
    """`World.view` of a run."""
    return World.of(settings).view
