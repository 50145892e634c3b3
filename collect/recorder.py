"""Records episodes: an EpisodeRecorder listens to each environment, and an EpisodeWriter takes what it gathers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from semore.collect.env import DrivingEnv
from semore.collect.policies import Policy
from semore.collect.recording import EpisodeRecorder
from semore.collect.rollout import Lost, drive, tell
from semore.collect.simulator import simulator_identity
from semore.collect.writer import EpisodeWriter
from semore.datasets.provenance import code_version
from semore.datasets.rollouts.schema import split_of
from semore.datasets.rollouts.store import Rollouts


def episode_name(scenario: str, seed: int) -> str:
    """The name of an episode, which sorts by scenario, then seed: `jaywalk-0000042`."""
    return f"{scenario.lower()}-{seed:07d}"


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
    lost: Lost = tell,
) -> list[str]:
    """`record` with a writer that outlives the call: the last episodes may not be on disk yet when it returns. `lost`
    is called with episodes that are driven again (collect.rollout)."""
    recorders: dict[int, EpisodeRecorder] = {}

    def begin(seed: int, env: DrivingEnv) -> EpisodeRecorder:
        if seed in recorders:  # it was lost, and is driven again
            recorders[seed].begin(env.snapshot)
        elif writer.spare:
            recorders[seed] = writer.spare.pop()
            recorders[seed].begin(env.snapshot)
        else:
            recorders[seed] = EpisodeRecorder(env.snapshot)
        return recorders[seed]

    names = []
    env = envs[0]
    for seed, info in drive(envs, policy, seeds, begin, threads=threads, lost=lost):
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
        recorder = recorders.pop(seed)
        writer.put(name, recorder.arrays, {**about, **attributes}, partial(writer.spare.append, recorder))
        names.append(name)
    return names
