"""From simulator steps to one episode's arrays: a recorder listens to an environment and writes when it has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collect.behaviour import Policy
from collect.driving import DrivingEnv, SimStep, ego_row
from collect.episodes import drive
from collect.simulator import Snapshot, simulator_identity
from datasets.provenance import code_version
from datasets.rollouts import Rollouts, row_digests
from datasets.schema import FRAME_ARRAYS, STEP_ARRAYS, split_of


def episode_name(scenario: str, seed: int) -> str:
    """Sorts by scenario, then seed: `jaywalk-0000042`."""
    return f"{scenario.lower()}-{seed:07d}"


@dataclass
class EpisodeRecorder:
    """Gathers one episode in memory: T + 1 frames (the one after the warm-up first) and T steps."""

    first: Snapshot
    _frames: dict[str, list[Any]] = field(default_factory=dict)
    _steps: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._frames = {"rgb": [], "semantic": [], "instance": [], "actors": [], "ego": []}
        self._steps = {name: [] for name in STEP_ARRAYS}
        self._add_frame(self.first)

    def __call__(self, step: SimStep) -> None:
        """Take one simulator step; the listener of DrivingEnv."""
        for name, values in self._steps.items():
            values.append(getattr(step, name))
        self._add_frame(step.snapshot)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every array of datasets.schema, frame and state digests included."""
        arrays = {name: np.stack(rows).astype(FRAME_ARRAYS[name], copy=False) for name, rows in self._frames.items()}
        arrays["digest"] = row_digests(arrays["rgb"])
        arrays["state_digest"] = row_digests(arrays["ego"], arrays["actors"], arrays["semantic"], arrays["instance"])
        return arrays | {name: np.array(rows, STEP_ARRAYS[name]) for name, rows in self._steps.items()}

    def _add_frame(self, snapshot: Snapshot) -> None:
        images = snapshot.images
        row = (images.rgb, images.semantic, images.instance, snapshot.actors, ego_row(snapshot))
        for values, value in zip(self._frames.values(), row, strict=True):
            values.append(value)


def record(
    rollouts: Rollouts,
    envs: Sequence[DrivingEnv],
    policy: Policy,
    seeds: Sequence[int],
    attributes: Mapping[str, Any],
    threads: int = 1,
    finished: Callable[[str, int], None] = lambda name, steps: None,
) -> list[str]:
    """Drive and write one episode per seed; returns their names in seed order.

    `attributes` (policy, action_repeat, …) join what the recorder knows itself: scenario, weather, seed, split,
    simulator, renderer, code version, ending. `finished(name, steps)` is called after each episode is on disk.
    """
    recorders: dict[int, EpisodeRecorder] = {}

    def begin(seed: int, env: DrivingEnv) -> EpisodeRecorder:
        recorders[seed] = EpisodeRecorder(env.snapshot)
        return recorders[seed]

    names = []
    env = envs[0]
    for seed, info in drive(envs, policy, seeds, begin, threads=threads):
        name = episode_name(env.scenario.name, seed)
        arrays = recorders.pop(seed).arrays()
        about = {
            "scenario": env.scenario.name,
            "weather": env.weather.name,
            "seed": seed,
            "split": split_of(seed),
            "start_jitter": [env.scenario.ego.jitter_offset, env.scenario.ego.jitter_yaw],
            **simulator_identity(env.simulator),
            "code_version": code_version(),
            "ending": info["ending"],
            "total_reward": info["metrics"]["reward"],
        }
        rollouts.write(name, arrays, {**about, **attributes})
        names.append(name)
        finished(name, len(arrays["action"]))
    return names
