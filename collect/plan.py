"""The settings of `collect`, and the deterministic plan of episodes that follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from semore.collect.carla.settings import CarlaSettings
from semore.collect.env import DrivingEnv
from semore.collect.policies import make_policy
from semore.collect.scenarios import scenario_and_weather
from semore.collect.simulator import Simulator, simulator_identity
from semore.collect.simulators import make_simulator
from semore.datasets.errors import SemoreError
from semore.datasets.names import rollouts_path
from semore.datasets.reward import IMPULSE_WEIGHT
from semore.datasets.rollouts.schema import MAX_EPISODE_STEPS, RECORDING_SIZE, SEED_SPLITS


@dataclass(frozen=True)
class CollectSettings:
    """Configuration of `collect`: what to record, and where."""

    stage = "collect"  # the section of presets that is read for it

    preset: str = "laptop"
    """A file of presets/ by name, or a path to a YAML file."""
    scenario: str = "JayWalk"
    """JayWalk, HighBeam or HighWay."""
    rollouts: str = ""
    """Name of the rollouts folder under <data>/rollouts, or a path ending in .zarr; default <scenario>-<preset>."""
    data: str = "data"
    """Folder of all recorded data."""
    weather: str = ""
    """Weather preset; default the scenario's own."""
    simulator: str = "embedded"
    """The world to drive in: embedded, or carla."""
    episodes: int = 60
    """Episodes with training seeds."""
    validation_episodes: int = 10
    """Noisy-driver episodes with validation seeds, never trained on: they measure the student mask."""
    first_seed: int = 0
    """Seed of the first training episode; the others follow."""
    policies: dict[str, float] = field(default_factory=lambda: {"noisy_driver": 0.5, "wander": 0.5})
    """Fraction of the episodes that each policy drives."""
    action_repeat: int = 2
    """Simulator steps for which a policy holds each action; every step is recorded."""
    reward: str = "published"
    """published, or safety (impulses weigh ten times)."""
    jitter: bool = True
    """Jitter the start pose; false gives the published fixed start."""
    max_episode_steps: int = MAX_EPISODE_STEPS
    """Simulator steps after which an episode is truncated."""
    camera: int = RECORDING_SIZE
    """Side of a recorded frame in pixels."""
    workers: int = 2
    """Worker processes; with carla there is one per server."""
    carla: CarlaSettings = field(default_factory=CarlaSettings)
    """CARLA servers; only looked at with simulator carla."""

    @property
    def rollouts_folder(self) -> Path:
        """The folder of the recorded episodes."""
        return rollouts_path(self.data, self.rollouts, self.scenario, self.preset, self.simulator)

    def validate(self) -> None:
        """SemoreError naming the first setting that makes no sense."""
        scenario_and_weather(self.scenario, self.weather)
        if self.reward not in IMPULSE_WEIGHT:
            raise SemoreError(f"unknown reward {self.reward!r}; choose one of {', '.join(IMPULSE_WEIGHT)}")
        if not self.policies or min(self.policies.values()) < 0 or sum(self.policies.values()) <= 0:
            raise SemoreError(f"policies {self.policies} must be non-negative shares, not all zero")
        for name in self.policies:
            make_policy(name)
        for name in ("episodes", "action_repeat", "max_episode_steps", "camera", "workers"):
            if getattr(self, name) < 1:
                raise SemoreError(f"{name} is {getattr(self, name)}; it must be at least 1")
        last = self.first_seed + self.episodes - 1
        if self.first_seed not in SEED_SPLITS["train"] or last not in SEED_SPLITS["train"]:
            raise SemoreError(f"seeds {self.first_seed}..{last} leave the training split {SEED_SPLITS['train']}")
        if self.validation_episodes not in range(len(SEED_SPLITS["validation"]) + 1):
            raise SemoreError(
                f"validation_episodes is {self.validation_episodes}; there are {len(SEED_SPLITS['validation'])} seeds"
            )
        self._make_simulator().close()  # an unknown one is refused before any folder is made

    @cached_property
    def simulator_identity(self) -> dict[str, str]:
        """Name and versions of the world; carla's server is asked for them. SemoreError when there is none of that
        name or camera size."""
        with closing(self._make_simulator()) as simulator:
            return simulator_identity(simulator)

    def env(self) -> DrivingEnv:
        """The environment that the policies drive in."""
        return DrivingEnv(
            self.scenario, self.weather, self._make_simulator(), self.camera, self.camera, self.action_repeat,
            reward=self.reward, jitter=self.jitter, max_episode_steps=self.max_episode_steps,
        )  # fmt: skip

    def _make_simulator(self) -> Simulator:
        return make_simulator(self.simulator, self.camera, self.carla)


def plan(settings: CollectSettings) -> list[tuple[int, str]]:
    """(seed, policy) of every episode. Policies alternate evenly, so that a longer plan begins with the shorter one."""
    total = sum(settings.policies.values())
    dealt = dict.fromkeys(settings.policies, 0)
    episodes = []
    for index in range(settings.episodes):
        # The policy furthest behind its fraction goes next.
        behind = {name: (index + 1) * share / total - dealt[name] for name, share in settings.policies.items()}
        chosen = max(behind, key=behind.__getitem__)
        dealt[chosen] += 1
        episodes.append((settings.first_seed + index, chosen))
    validation = SEED_SPLITS["validation"].start
    return episodes + [(validation + index, "noisy_driver") for index in range(settings.validation_episodes)]


def identity(settings: CollectSettings, policy: str) -> Mapping[str, Any]:
    """The attributes in which an episode on disk must agree with the plan to count as recorded."""
    scenario, weather = scenario_and_weather(settings.scenario, settings.weather)
    start = (scenario if settings.jitter else scenario.published_start()).ego
    return {
        "scenario": scenario.name,
        "weather": weather.name,
        **settings.simulator_identity,
        "start_jitter": [start.jitter_offset, start.jitter_yaw],
        **policy_attributes(settings, policy),
    }


def policy_attributes(settings: CollectSettings, policy: str) -> dict[str, Any]:
    """Episode attributes that come from the settings."""
    return {
        "policy": policy,
        "action_repeat": settings.action_repeat,
        "reward": settings.reward,
        "camera": settings.camera,
        "max_episode_steps": settings.max_episode_steps,
    }
