"""The frame pool: shows what the environment showed, and keeps what it keeps when it forgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from semore.annotate.pipeline import annotate_rollouts
from semore.annotate.registry import PRIVILEGED, make_producers
from semore.collect.env import DrivingEnv
from semore.collect.policies import Constant, Info, PerSlot, Policy, make_policy
from semore.collect.recorder import record
from semore.datasets.action_text import action_words
from semore.datasets.errors import SemoreError
from semore.datasets.frame_pool import FramePool, Transitions, forecast_bytes, rows_of
from semore.datasets.frame_view import View
from semore.datasets.knowledge.cache import KnowledgeCache, KnowledgeSet, open_set
from semore.datasets.rollouts.schema import FRAME_ARRAYS, STEP_ARRAYS
from semore.datasets.rollouts.store import Episode, Rollouts

CAMERA, SIZE, GRID, LIMIT = 32, 16, 5, 21


class Remembering:
    """Another policy, keeping every observation it is shown and every action it takes."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.observations, self.actions = policy, [], []

    def start(self, seeds: Sequence[int]) -> None:
        self.policy.start(seeds)

    def act(self, slots: Sequence[int], observations: np.ndarray, infos: Sequence[Info]) -> np.ndarray:
        (action,) = actions = self.policy.act(slots, observations, infos)
        self.observations.append(observations[0])
        self.actions.append(action)
        return actions


@dataclass
class Driven:
    """Rollouts and, for each episode, what its policy saw and the reward the environment gave for each decision."""

    rollouts: Rollouts
    seen: dict[str, Remembering]
    rewards: dict[str, dict[str, list[float]]]
    knowledge: KnowledgeSet


POLICIES = {
    "noisy_driver": lambda: make_policy("noisy_driver"),
    "wander": lambda: make_policy("wander"),
    "swerve": lambda: PerSlot(lambda _: Constant((1.0, 1.0))),  # leaves the road
    "crawl": lambda: PerSlot(lambda _: Constant((0.0, 0.4))),
    "crash": lambda: PerSlot(lambda _: Constant((-1.0, 1.0))),  # into the guard rail
}


def rewards_of(env: DrivingEnv, seed: int, actions: list[np.ndarray]) -> list[float]:
    env.reset(seed=seed)
    return [env.step(action)[1] for action in actions]


def drive_all(root: Path, skip: int) -> Driven:
    """Each policy's episode on HighWay at `skip`, recorded, annotated, and its rewards of both kinds."""
    rollouts = Rollouts(root / "r.zarr")
    rollouts.create()
    seen, rewards = {}, {}
    for seed, policy in enumerate(POLICIES):
        # Leaving the road and crashing take longer.
        options = {"size": SIZE, "camera": CAMERA, "frame_skip": skip}
        options["max_episode_steps"] = 120 if policy in ("swerve", "crash") else LIMIT
        remembering = Remembering(POLICIES[policy]())
        env = DrivingEnv("HighWay", **options)
        (name,) = record(rollouts, [env], remembering, [seed], {"policy": policy, "action_repeat": skip})
        seen[name] = remembering
        rewards[name] = {
            kind: rewards_of(DrivingEnv("HighWay", reward=kind, **options), seed, remembering.actions)
            for kind in ("published", "safety")
        }
    annotate_rollouts([rollouts.path], KnowledgeCache(root / "knowledge"), "k", make_producers(PRIVILEGED), quiet=True)
    return Driven(rollouts, seen, rewards, open_set(root / "knowledge", "k"))


@pytest.fixture(scope="module", params=[1, 2], ids=["skip1", "skip2"])
def driven(request, tmp_path_factory) -> tuple[int, Driven]:
    return request.param, drive_all(tmp_path_factory.mktemp(f"skip{request.param}"), request.param)


def pooled(driven: Driven, skip: int, reward: str = "published") -> tuple[FramePool, dict[str, Transitions]]:
    pool = FramePool(View(SIZE, GRID, skip, reward), 400)
    return pool, {episode.name: pool.add(episode, driven.knowledge) for episode in driven.rollouts.episodes()}


def test_the_pool_shows_what_the_environment_showed(driven):
    skip, driven = driven
    pool, transitions = pooled(driven, skip)
    for name, remembering in driven.seen.items():
        first, decisions = transitions[name].first, len(remembering.observations)
        assert transitions[name].count == decisions
        index = torch.arange(first, first + decisions)
        shown = torch.from_numpy(np.stack(remembering.observations))
        assert torch.equal(pool.observation(index), shown)
        assert torch.equal(pool.action[index], torch.from_numpy(np.clip(remembering.actions, -1, 1)))
        batch = pool.gather(index)
        assert torch.equal(batch.frames[:, :3].reshape(shown.shape), shown)
        # The next observation is the window's last three frames, except at the start, where it holds two first frames.
        assert torch.equal(batch.frames[:-1, 1:].reshape(-1, 9, SIZE, SIZE), shown[1:])
    assert len(np.unique(np.stack(remembering.observations), axis=0)) == decisions


def test_the_last_next_frame_is_the_one_after_the_last_step(driven):
    skip, driven = driven
    transitions = pooled(driven, skip)[1]
    whole = FramePool(View(CAMERA, GRID, skip, "published"), 400)
    for episode in driven.rollouts.episodes():
        added = whole.add(episode, driven.knowledge)
        last = torch.tensor([added.first + added.count - 1])
        stored = torch.from_numpy(episode.read("rgb")["rgb"]).permute(0, 3, 1, 2)
        assert torch.equal(whole.gather(last).frames[0, 3], stored[-1])
        assert torch.equal(whole.gather(last).frames[0, 2], stored[(episode.steps - 1) // skip * skip])
        assert added.first == transitions[episode.name].first


@pytest.mark.parametrize("kind", ["published", "safety"])
def test_rewards_are_the_environments(driven, kind):
    skip, driven = driven
    pool, transitions = pooled(driven, skip, kind)
    for name, rewards in driven.rewards.items():
        first = transitions[name].first
        got = pool.reward[first : first + len(rewards[kind]), 0].numpy()
        assert got == pytest.approx(np.array(rewards[kind]), abs=1e-5)
    for name, kinds in driven.rewards.items():
        collided = bool(driven.rollouts.episode(name).read("impulse")["impulse"].any())
        assert (kinds["published"] != kinds["safety"]) == collided
        assert collided == (driven.rollouts.episode(name).attributes["policy"] == "crash")


def test_only_terminal_decisions_are_done(driven):
    skip, driven = driven
    pool, transitions = pooled(driven, skip)
    endings = {}
    for episode in driven.rollouts.episodes():
        added = transitions[episode.name]
        done = 1 - pool.not_done[added.first : added.first + added.count, 0]
        assert not done[:-1].any()
        endings[episode.attributes["ending"]] = bool(done[-1])
    assert endings == {"success": False, "off_road": True, "collisions": True}


def test_with_longer_returns_a_window_ends_where_they_do(driven):
    """s' is what was shown three decisions later, or last; the returns are sums of the rewards up to there."""
    skip, driven = driven
    pool = FramePool(View(SIZE, GRID, skip, "published", n_step=3, discount=0.9), 400)
    for episode in driven.rollouts.episodes():
        added = pool.add(episode, driven.knowledge)
        index = torch.arange(added.first, added.first + added.count)
        batch = pool.gather(index)
        later = (index + 3).clamp_max(added.first + added.count)
        assert torch.equal(batch.frames[:, :3].reshape(-1, 9, SIZE, SIZE), pool.observation(index))
        assert torch.equal(batch.frames[:, 1:4].reshape(-1, 9, SIZE, SIZE), pool.observation(index + 1))
        assert torch.equal(batch.frames[:, 4:].reshape(-1, 9, SIZE, SIZE), pool.observation(later))
        assert torch.equal(batch.mask_valid[:, 2], pool.mask_valid[later])
        assert torch.equal(batch.mask[:, 2], pool.masks[later] / 255.0)
        rewards = pool.reward[index, 0].tolist()
        expected = [sum(r * 0.9**k for k, r in enumerate(rewards[t : t + 3])) for t in range(len(rewards))]
        assert batch.returns.flatten().tolist() == pytest.approx(expected, abs=1e-5)
        terminal = episode.attributes["ending"] != "success"
        factors = [
            0.9 ** min(3, len(rewards) - t) * (not terminal or t + 3 < len(rewards)) for t in range(len(rewards))
        ]
        assert batch.discount.flatten().tolist() == pytest.approx(factors, abs=1e-6)


def test_who_drove_and_what_counts_as_random(driven):
    skip, driven = driven
    pool, transitions = pooled(driven, skip)
    by_policy = {added.policy: added for added in transitions.values()}
    assert set(by_policy) == set(POLICIES)
    assert {policy: added.initial for policy, added in by_policy.items()} == {
        "noisy_driver": False, "wander": True, "swerve": False, "crawl": False, "crash": False,
    }  # fmt: skip
    for policy, added in by_policy.items():
        index = torch.arange(added.first, added.first + added.count)
        batch = pool.gather(index)
        assert set(batch.driver.flatten().tolist()) == {float(policy == "noisy_driver")}
        assert torch.equal(batch.advice, batch.action)


@pytest.mark.parametrize("grid", [5, 8, 1, CAMERA])
def test_masks_and_verdicts_are_the_knowledge_sets(driven, grid):
    skip, driven = driven
    pool = FramePool(View(SIZE, grid, skip, "published"), 400)
    any_mask = any_verdict = False
    for episode in driven.rollouts.episodes():
        added = pool.add(episode, driven.knowledge)
        arrays = episode.read("digest", "state_digest", "action", "instance")
        rows = [*range(0, episode.steps, skip), episode.steps]
        masks, valid = driven.knowledge.h_ka(arrays["digest"], arrays["state_digest"], size=(CAMERA, CAMERA))
        assert valid[rows].all()
        expected = functional.adaptive_max_pool2d(torch.from_numpy(masks[rows])[:, None].float(), grid)[:, 0]
        held = slice(added.first, added.first + len(rows))
        assert torch.equal(pool.masks[held].float(), expected)
        assert pool.mask_valid[held].all()
        index = torch.arange(added.first, added.first + len(rows) - 1)
        batch = pool.gather(index)
        assert torch.equal(batch.mask[:, 0], expected[:-1] / 255)
        assert torch.equal(batch.mask[:, 1], expected[1:] / 255)
        assert batch.mask_valid.all()
        words = action_words(arrays["action"][rows[:-1]])
        judged = driven.knowledge.verdicts(arrays["digest"][rows[:-1]], arrays["state_digest"][rows[:-1]], words)
        assert np.array_equal(pool.verdict[added.first : added.first + added.count], judged)
        assert set(judged.tolist()) <= {0, 1}
        any_mask |= bool(expected.any())
        any_verdict |= bool(judged.any())
    assert any_mask
    assert any_verdict


def test_frames_without_knowledge_are_invalid_and_unjudged(driven, tmp_path):
    skip, driven = driven
    first, *others = driven.rollouts.episodes()
    partly = Rollouts(tmp_path / "one.zarr")
    partly.create()
    partly.write(first.name, first.read(*FRAME_ARRAYS, *STEP_ARRAYS), first.attributes)
    annotate_rollouts([partly.path], KnowledgeCache(tmp_path / "k"), "k", make_producers(PRIVILEGED), quiet=True)
    knowledge = open_set(tmp_path / "k", "k")
    pool = FramePool(View(SIZE, GRID, skip, "published"), 400)
    known, unknown = pool.add(first, knowledge), pool.add(others[0], knowledge)
    assert set(pool.verdict[: known.count].tolist()) <= {0, 1}
    assert set(pool.verdict[unknown.first : pool.size].tolist()) == {255}
    assert pool.mask_valid[: unknown.first].all()
    assert not pool.mask_valid[unknown.first : pool.size].any()
    assert not pool.masks[unknown.first : pool.size].any()


def test_only_visible_rows_are_known_and_the_rest_can_be_learnt_later(driven):
    skip, driven = driven
    first, second, *_ = driven.rollouts.episodes()
    pool, whole = (FramePool(View(SIZE, GRID, skip, "published"), 400) for _ in range(2))
    visible = np.array([0, 4 * skip, 5 * skip + 1])  # the last of them is no row of the pool at skip 2
    rows = rows_of(second, skip)
    seen = np.isin(rows, visible)
    assert seen.sum() == (3 if skip == 1 else 2)
    for each, shown in ((pool, visible), (whole, None)):
        each.add(first, driven.knowledge)
        added = each.add(second, driven.knowledge, shown)
    own = slice(added.first, added.first + len(rows))
    assert np.array_equal(pool.mask_valid[own], seen)
    assert torch.equal(pool.masks[own][seen], whole.masks[own][seen])
    assert not pool.masks[own][~seen].any()
    assert np.array_equal(pool.verdict[own] != 255, seen & (rows < second.steps))
    assert torch.equal(pool.verdict[own][seen], whole.verdict[own][seen])
    assert pool.learn(second, driven.knowledge)
    assert all(torch.equal(getattr(pool, name), getattr(whole, name)) for name in ("masks", "mask_valid", "verdict"))
    assert pool.learn(second, driven.knowledge, np.empty(0, np.int64))  # and can be taken back
    assert not pool.mask_valid[own].any()
    assert not pool.masks[own].any()
    assert (pool.verdict[own] == 255).all()
    assert pool.mask_valid[: added.first].all()


def test_a_frame_without_a_decision_has_no_action_of_its_predecessor_in_the_pool():
    pool = FramePool(TINY, 12)
    for number, frames in ((1, 12), (2, 6), (5, 5)):
        pool.forget(frames)
        add(pool, MadeUp(number, frames))
    assert pool.episodes == [("e002", 6), ("e005", 5)]
    for last in (5, 10):
        parts = (pool.action, pool.reward, pool.not_done, pool.driver, pool.advice)
        assert [part[last].tolist() for part in parts] == [[0.0, 0.0], [0.0], [1.0], [0.0], [0.0, 0.0]]


def test_what_has_been_forgotten_cannot_be_learnt():
    pool, knowledge = FramePool(TINY, 12), MadeUpKnowledge()
    for number in range(3):
        pool.forget(6)
        add(pool, MadeUp(number, 6))
    before = [store.clone() for store in vars(pool).values() if isinstance(store, torch.Tensor)]
    gone: Any = MadeUp(0, 6)
    known: Any = knowledge
    assert not pool.learn(gone, known)
    after = [store for store in vars(pool).values() if isinstance(store, torch.Tensor)]
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))


def test_an_action_that_changes_within_a_decision_is_refused(driven):
    skip, driven = driven
    noisy = next(episode for episode in driven.rollouts.episodes() if episode.attributes["policy"] == "noisy_driver")
    with pytest.raises(SemoreError, match=rf"{noisy.name}.*held for {skip} steps.*frame_skip {2 * skip}.*record with"):
        FramePool(View(SIZE, GRID, 2 * skip, "published"), 400).add(noisy, driven.knowledge)
    FramePool(View(SIZE, GRID, 1, "published"), 400).add(noisy, driven.knowledge)  # finer always works
    crawl = next(episode for episode in driven.rollouts.episodes() if episode.attributes["policy"] == "crawl")
    FramePool(View(SIZE, GRID, 3, "published"), 400).add(crawl, driven.knowledge)  # one action all along


def test_an_action_that_is_no_number_is_refused_by_its_episode(driven, monkeypatch):
    skip, driven = driven
    episode = next(iter(driven.rollouts.episodes()))
    read = type(episode).read

    def spoilt(self, *names):
        arrays = read(self, *names)
        arrays["action"] = np.where(np.arange(self.steps)[:, None] == 2, np.float32(np.nan), arrays["action"])
        return arrays

    monkeypatch.setattr(type(episode), "read", spoilt)
    pool = FramePool(View(SIZE, GRID, skip, "published"), 400)
    with pytest.raises(SemoreError, match=rf"{episode.name}: an action .* finite numbers, not \[nan, nan\]"):
        pool.add(episode, driven.knowledge)
    assert (pool.size, pool.episodes) == (0, [])


def test_a_batch_is_fresh(driven):
    skip, driven = driven
    pool, _ = pooled(driven, skip)
    index = torch.tensor([0, 1, 2])
    before = [tensor.clone() for tensor in pool.gather(index)]
    for tensor in (*pool.gather(index), pool.observation(index)):
        tensor.zero_()
    assert all(torch.equal(one, other) for one, other in zip(pool.gather(index), before, strict=True))


def test_a_batch_puts_its_frames_where_it_is_told(driven):
    skip, driven = driven
    pool, _ = pooled(driven, skip)
    index, held = torch.tensor([2, 0, 2]), torch.empty(12, 3, SIZE, SIZE, dtype=torch.uint8)
    batch = pool.gather(index, held)
    assert batch.frames.data_ptr() == held.data_ptr()
    assert all(torch.equal(one, other) for one, other in zip(batch, pool.gather(index), strict=True))


def test_a_batch_has_the_documented_shapes(driven):
    skip, driven = driven
    pool, _ = pooled(driven, skip)
    shapes = [(tuple(tensor.shape), tensor.dtype) for tensor in pool.gather(torch.tensor([3, 0]))]
    real = torch.float32
    assert shapes == [
        ((2, 4, 3, SIZE, SIZE), torch.uint8), ((2, 2, GRID, GRID), real), ((2, 2), torch.bool), ((2, 2), real),
        *[((2, 1), real)] * 5, ((2, 2), real),
    ]  # fmt: skip


# Forgetting, on made-up episodes

TINY = View(4, 2, 1, "published")


class MadeUp:
    """An episode of `frames` frames whose every value tells which episode and frame it is of."""

    def __init__(self, number: int, frames: int) -> None:
        self.name, self.path, self.number, self.frames = f"e{number:03d}", Path(f"e{number:03d}"), number, frames
        self.steps = frames - 1
        self.attributes = {"policy": ("driver", "random", "checkpoint:x")[number % 3], "action_repeat": 1}

    def read(self, *names: str) -> dict[str, np.ndarray]:
        rng, frames, steps = np.random.default_rng(self.number), self.frames, self.frames - 1
        arrays = {
            "rgb": rng.integers(0, 256, (frames, 4, 4, 3), np.uint8),
            "action": rng.uniform(-1, 1, (steps, 2)).astype(np.float32),
            "progress": rng.normal(size=steps).astype(np.float32),
            "impulse": rng.uniform(0, 9, steps).astype(np.float32),
            "terminated": np.arange(steps) == (steps - 1 if self.number % 2 else -1),
            "digest": rng.integers(0, 256, (frames, 16), np.uint8),
            "state_digest": rng.integers(0, 256, (frames, 16), np.uint8),
        }
        return {name: arrays[name] for name in names}


class MadeUpKnowledge:
    """Masks, validity and verdicts read off the digests."""

    def h_ka(self, frames: np.ndarray, states: np.ndarray, grid: int) -> tuple[np.ndarray, np.ndarray]:
        return frames[:, : grid * grid].reshape(-1, grid, grid), states[:, 0] > 100

    def verdicts(self, frames: np.ndarray, states: np.ndarray, words: list[str]) -> np.ndarray:
        assert len(words) == len(frames)
        return frames[:, 15] % 2


def add(pool: FramePool, episode: MadeUp) -> Transitions:
    kept: Any = episode
    assert isinstance(kept, MadeUp | Episode)
    knowledge: Any = MadeUpKnowledge()
    return pool.add(kept, knowledge)


def decisions(pool: FramePool) -> torch.Tensor:
    """Every index that starts a transition: all frames but the last of each episode."""
    found, first = [], 0
    for _, frames in pool.episodes:
        found += range(first, first + frames - 1)
        first += frames
    assert first == pool.size
    return torch.tensor(found, dtype=torch.int64)


@given(lengths=st.lists(st.integers(2, 12), min_size=1, max_size=14), capacity=st.integers(12, 40))
@settings(deadline=None)
def test_forgetting_drops_the_oldest_and_keeps_the_rest_as_it_was(lengths, capacity):
    pool, held = FramePool(TINY, capacity), []
    for number, frames in enumerate(lengths):
        before, size = list(pool.episodes), pool.size
        dropped = pool.forget(frames)
        gone = before[: len(before) - len(pool.episodes)]
        assert dropped == sum(count for _, count in gone) == size - pool.size
        assert pool.size + frames <= capacity
        if size + frames <= capacity:
            assert dropped == 0
        elif gone:  # no more than asked for, or a tenth of the capacity
            assert pool.size + gone[-1][1] + max(frames, capacity // 10) > capacity
        held = held[len(gone) :]
        first = add(pool, MadeUp(number, frames)).first
        assert first == pool.size - frames
        held.append((number, frames))

        fresh = FramePool(TINY, capacity)
        for one, count in held:
            add(fresh, MadeUp(one, count))
        assert pool.episodes == fresh.episodes
        assert pool.size == fresh.size
        index = decisions(pool)
        for mine, theirs in zip(pool.gather(index), fresh.gather(index), strict=True):
            assert torch.equal(mine, theirs)
        everything = torch.arange(pool.size)
        assert torch.equal(pool.observation(everything), fresh.observation(everything))
        assert torch.equal(pool.start[: pool.size], fresh.start[: pool.size])


def test_windows_never_reach_into_another_episode():
    pool = FramePool(TINY, 40)
    for number in range(3):
        add(pool, MadeUp(number, 4))
    stored = [torch.from_numpy(MadeUp(number, 4).read("rgb")["rgb"]).permute(0, 3, 1, 2) for number in range(3)]
    windows = pool.gather(torch.tensor([4, 5, 6])).frames
    expected = [[0, 0, 0, 1], [0, 0, 1, 2], [0, 1, 2, 3]]
    assert torch.equal(windows, torch.stack([stored[1][rows] for rows in expected]))


def test_an_episode_larger_than_the_pool_is_refused():
    pool = FramePool(TINY, 10)
    add(pool, MadeUp(0, 10))
    with pytest.raises(SemoreError, match=r"episode of 11 frames exceeds the pool of 10; raise --replay\.pool_frames"):
        pool.forget(11)
    assert pool.episodes == [("e000", 10)]  # refused before anything was dropped
    assert pool.forget(10) == 10


def test_a_pool_takes_what_it_forecasts():
    pool = FramePool(View(20, 5, 1, "published"), 37)
    taken = sum(store.nbytes for store in pool._stores())
    # 3·20² picture, 5² mask, 1 validity, 1 verdict, 8 start, 4·8 window, 4·9 of a decision's outcome
    assert taken == forecast_bytes(pool.view, 37) == 37 * (1200 + 25 + 1 + 1 + 8 + 32 + 36)


def test_a_pool_beyond_the_memory_is_refused_early(monkeypatch):
    with pytest.raises(SemoreError, match=r"needs 4\d{4,}\.\d GiB.*choose a smaller --replay.pool_frames"):
        FramePool(View(128, 8, 1, "published"), 10**9)
    need = forecast_bytes(TINY, 100)
    for free, fits in ((need / 0.9 - 1, False), (need / 0.9 + 1, True)):
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
        if fits:
            FramePool(TINY, 100)
        else:
            with pytest.raises(SemoreError, match="a pool of 100 frames"):
                FramePool(TINY, 100)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ((0.31, 0.51), "steer right, throttle"),
        ((0.3, 0.5), "straight, keep speed"),
        ((-0.3, 0.0), "straight, keep speed"),
        ((-0.31, -0.01), "steer left, brake"),
        ((0.0, -0.0), "straight, keep speed"),
        ((1.0, -1.0), "steer right, brake"),
    ],
)
def test_actions_in_words(action, words):
    assert action_words(np.array([action])) == [words]
