"""From simulator steps to one episode's arrays: a recorder listens to an environment, a writer takes what it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collect.behaviour import Policy
from collect.driving import DrivingEnv, SimStep, ego_row
from collect.episodes import drive
from collect.simulator import Snapshot, simulator_identity
from collect.writer import EpisodeWriter
from datasets.provenance import code_version
from datasets.rollouts import Rollouts, row_digests
from datasets.schema import FRAME_ARRAYS, MAX_EPISODE_STEPS, STEP_ARRAYS, split_of


def episode_name(scenario: str, seed: int) -> str:
    """Sorts by scenario, then seed: `jaywalk-0000042`."""
    return f"{scenario.lower()}-{seed:07d}"


class _Rows:
    """Rows of one shape in a growing array: each is copied once, when it arrives. Unfilled room costs no memory."""

    def __init__(self, dtype: str) -> None:
        self._dtype, self._count = dtype, 0
        self._room: NDArray[Any] | None = None

    def add(self, row: Any) -> None:
        if self._room is None:
            self._room = np.empty((MAX_EPISODE_STEPS + 1, *np.shape(row)), self._dtype)
        elif self._count == len(self._room):
            self._room = np.concatenate([self._room, np.empty_like(self._room)])
        self._room[self._count] = row
        self._count += 1

    def array(self) -> NDArray[Any]:
        """All rows, (N, …) and contiguous."""
        return np.empty(0, self._dtype) if self._room is None else self._room[: self._count]


class EpisodeRecorder:
    """Gathers one episode in memory: T + 1 frames (the one after the warm-up, `first`, begins) and T steps."""

    def __init__(self, first: Snapshot) -> None:
        self._frames = {name: _Rows(FRAME_ARRAYS[name]) for name in ("rgb", "semantic", "instance", "actors", "ego")}
        self._steps = {name: _Rows(dtype) for name, dtype in STEP_ARRAYS.items()}
        self._add_frame(first)

    def __call__(self, step: SimStep) -> None:
        """Take one simulator step; the listener of DrivingEnv."""
        for name, rows in self._steps.items():
            rows.add(getattr(step, name))
        self._add_frame(step.snapshot)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every array of datasets.schema, frame and state digests included."""
        arrays = {name: rows.array() for name, rows in self._frames.items()}
        arrays["digest"] = row_digests(arrays["rgb"])
        arrays["state_digest"] = row_digests(arrays["ego"], arrays["actors"], arrays["semantic"], arrays["instance"])
        return arrays | {name: rows.array() for name, rows in self._steps.items()}

    def _add_frame(self, snapshot: Snapshot) -> None:
        images = snapshot.images
        row = (images.rgb, images.semantic, images.instance, snapshot.actors, ego_row(snapshot))
        for rows, value in zip(self._frames.values(), row, strict=True):
            rows.add(value)


def record(
    rollouts: Rollouts,
    envs: Sequence[DrivingEnv],
    policy: Policy,
    seeds: Sequence[int],
    attributes: Mapping[str, Any],
    threads: int = 1,
    finished: Callable[[str, int], None] = lambda name, steps: None,
) -> list[str]:
    """Drive and write one episode per seed; returns their names in seed order, all of them on disk.

    An episode is written while the next ones are driven (collect.writer). `attributes` (policy, action_repeat, …) join
    what the recorder knows itself: scenario, weather, seed, split, simulator, renderer, code version, ending.
    `finished(name, steps)` is called, in seed order, after each episode is on disk.
    """
    with EpisodeWriter(rollouts, finished) as writer:
        return record_into(writer, envs, policy, seeds, attributes, threads)


def record_into(
    writer: EpisodeWriter,
    envs: Sequence[DrivingEnv],
    policy: Policy,
    seeds: Sequence[int],
    attributes: Mapping[str, Any],
    threads: int = 1,
) -> list[str]:
    """`record` with a writer that outlives the call: the last episodes may not be on disk yet when it returns."""
    recorders: dict[int, EpisodeRecorder] = {}

    def begin(seed: int, env: DrivingEnv) -> EpisodeRecorder:
        recorders[seed] = EpisodeRecorder(env.snapshot)
        return recorders[seed]

    names = []
    env = envs[0]
    for seed, info in drive(envs, policy, seeds, begin, threads=threads):
        name = episode_name(env.scenario.name, seed)
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
        writer.put(name, recorders.pop(seed).arrays, {**about, **attributes})
        names.append(name)
    return names
