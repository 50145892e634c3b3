"""A simulator that loses episodes: each is recorded once, as if nothing had been, or the run says which cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semore.collect import rollout as episodes
from semore.collect.embedded.world import EmbeddedSimulator
from semore.collect.env import DrivingEnv
from semore.collect.policies import make_policy
from semore.collect.recorder import record, record_into
from semore.collect.rollout import drive
from semore.collect.simulator import Control, EpisodeLost
from semore.collect.writer import EpisodeWriter
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import FRAME_ARRAYS, STEP_ARRAYS
from semore.datasets.rollouts.store import Rollouts

SEEDS = range(5)
ABOUT = {"policy": "noisy_driver", "action_repeat": 1}


class Fragile(EmbeddedSimulator):
    """Loses the episode of a seed at each of the given steps, one after another; step 0 is its reset."""

    def __init__(self, losses: dict[int, list[int]]) -> None:
        super().__init__(16)
        self.losses, self.steps, self.seed = losses, 0, -1

    def reset(self, *what: Any) -> Any:
        self.steps, self.seed = 0, what[-1]
        self._may_fail()
        return super().reset(*what)

    def step(self, control: Control) -> Any:
        self.steps += 1
        self._may_fail()
        return super().step(control)

    def _may_fail(self) -> None:
        due = self.losses.get(self.seed, [])
        if due and due[0] == self.steps:
            due.pop(0)
            raise EpisodeLost(f"seed {self.seed} lost at step {self.steps}")


def env(losses: dict[int, list[int]] | None = None) -> DrivingEnv:
    return DrivingEnv("JayWalk", simulator=Fragile(losses or {}), size=16, camera=16, max_episode_steps=20)


def recorded(path: Path, envs: list[DrivingEnv], told: Callable[[int, EpisodeLost], None]) -> Rollouts:
    rollouts = Rollouts(path)
    rollouts.create()
    with EpisodeWriter(rollouts, lambda name, steps: None) as writer:
        record_into(writer, envs, make_policy("noisy_driver"), SEEDS, ABOUT, lost=told)
    return rollouts


@pytest.mark.parametrize("count", [1, 3])
def test_what_was_lost_is_recorded_once_and_as_if_nothing_had_been(tmp_path, count):
    lost: list[tuple[int, str]] = []
    # At the reset, in the warm-up, at the first step, in the middle, at the last; one seed four times.
    losses = {0: [0], 1: [3], 2: [6, 6, 15, 0], 4: [25]}
    envs = [env(losses) for _ in range(count)]  # they share the list, whoever drives the seed
    rollouts = recorded(tmp_path / "r.zarr", envs, lambda seed, error: lost.append((seed, str(error))))
    whole = recorded(tmp_path / "w.zarr", [env()], lambda *_: pytest.fail("nothing was to be lost"))
    assert rollouts.names() == whole.names()
    assert sorted(seed for seed, _ in lost) == [0, 1, 2, 2, 2, 2, 4]
    assert (2, "seed 2 lost at step 15") in lost
    for one, other in zip(rollouts.episodes(), whole.episodes(), strict=True):
        ours, theirs = (episode.read(*FRAME_ARRAYS, *STEP_ARRAYS) for episode in (one, other))
        for name in ours:
            assert np.array_equal(ours[name], theirs[name], equal_nan=name == "ego"), (one.path, name)
        assert one.attributes["checksum"] == other.attributes["checksum"]


def test_a_seed_that_is_always_lost_ends_the_run_and_what_is_recorded_stays(tmp_path):
    rollouts = Rollouts(tmp_path / "r.zarr")
    rollouts.create()
    fragile = env({2: [7] * episodes.ATTEMPTS})
    with pytest.raises(SemoreError, match=rf"seed 2 was lost {episodes.ATTEMPTS} times.*lost at step 7"):
        record(rollouts, [fragile], make_policy("noisy_driver"), SEEDS, ABOUT)
    assert [episode.attributes["seed"] for episode in rollouts.episodes()] == [0, 1]
    fragile.simulator.losses.clear()
    record(rollouts, [fragile], make_policy("noisy_driver"), range(2, 5), ABOUT)
    assert len(rollouts.names()) == 5


def test_who_watches_sees_the_episode_begin_again(capsys):
    seen: list[Any] = []

    def begin(seed: int, _: DrivingEnv) -> None:
        seen.append(f"begin {seed}")

    def watch(seed: int, observation: Any, action: Any, info: Any) -> None:
        seen.append("end" if action is None else seed)

    losing = env({8: [8]})
    ends = list(drive([losing], make_policy("full_throttle"), [8, 9], begin, watch))
    assert [(seed, info["metrics"]["steps"]) for seed, info in ends] == [(8, 20), (9, 20)]
    # Step 8 is the third after the warm-up: two decisions went well, the third was taken and lost.
    assert seen == ["begin 8", 8, 8, 8, "begin 8", *[8] * 20, "end", "begin 9", *[9] * 20, "end"]
    assert "seed 8 is driven again: seed 8 lost at step 8" in capsys.readouterr().err


def test_threads_lose_and_redo_the_same(tmp_path):
    losses = {1: [12], 3: [0, 9]}
    envs = [env(losses) for _ in range(3)]
    ends = dict(drive(envs, make_policy("noisy_driver"), SEEDS, threads=3, lost=lambda *_: None))
    quiet = dict(drive([env()], make_policy("noisy_driver"), SEEDS))
    assert list(ends) == list(SEEDS)
    assert {seed: info["metrics"] for seed, info in ends.items()} == {s: info["metrics"] for s, info in quiet.items()}
