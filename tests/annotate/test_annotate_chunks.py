"""Plans cut into chunks: every frame once, whatever the speed; and which frames come first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_oracle_rules import write_rollouts

from semore.annotate.scheduling.budget import rounds
from semore.annotate.scheduling.chunks import AT_RISK, DEATHS, SHORTEST, ChunkQueue, WorkChunk, WorkerDied
from semore.annotate.scheduling.plan import Part, Plan, all_frames, decision_frames
from semore.annotate.scheduling.priority import change_clock, frame_order, visiting_order
from semore.annotate.settings import Budget
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.records import Status, Text
from semore.datasets.rollouts.store import Episode, Rollouts


def part(number: int, frames: int) -> Part:
    return Part(
        Episode(f"e{number}", Path(f"/r/e{number}"), {"steps": frames - 1}),
        np.arange(frames) * 2,
        (None,) * frames,
        ("straight, brake",) * frames,
        np.ones(frames, np.bool_),
        np.arange(frames) % 2 == 0,
    )


def frames_of(chunks: list[WorkChunk]) -> list[tuple[str, int]]:
    return [(own.episode.name, row) for chunk in chunks for own in chunk.parts for row in own.rows.tolist()]


sizes = st.lists(st.integers(1, 30), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(sizes, st.integers(1, 9), st.lists(st.floats(0.001, 50), max_size=8), st.randoms(use_true_random=False))
def test_every_frame_is_handed_out_once_whatever_the_speed_and_whoever_dies(lengths, batch, speeds, random):
    plan = Plan(tuple(part(number, length) for number, length in enumerate(lengths)))
    queue, finished = ChunkQueue(plan, batch, 10.0), []
    while (chunk := queue.next()) is not None:
        if random.random() < 0.2 and len(chunk) > 1:  # its worker died
            queue.give_back(*chunk.halves())
            continue
        finished.append(chunk)
        queue.learn(len(chunk), len(chunk) * (speeds[len(finished) % len(speeds)] if speeds else 0.1))
    assert sorted(frames_of(finished)) == sorted(frames_of([WorkChunk(plan.parts)]))


def test_shares_begin_with_a_batch_and_grow_with_the_time_worked():
    queue = ChunkQueue(Plan((part(0, 5000),)), 8, 20.0)
    first = queue.next()
    assert first is not None
    assert len(first) == 8
    queue.learn(8, 0.8)
    second = queue.next()
    assert second is not None
    assert len(second) == round(SHORTEST / 0.1 / 8) * 8
    queue.learn(992, 99.2)  # 100 s so far
    third = queue.next()
    assert third is not None
    assert len(third) == round(AT_RISK * 100 / 0.1 / 8) * 8
    queue.learn(99_000, 9900.0)
    last = queue.next()
    assert last is not None
    assert len(last) == round(20.0 / 0.1 / 8) * 8  # never longer than asked


@settings(max_examples=50, deadline=None)
@given(sizes, st.integers(1, 9))
def test_batches_are_full_but_the_last_and_keep_the_order(lengths, size):
    chunk = WorkChunk(tuple(part(number, length) for number, length in enumerate(lengths)))
    groups = [WorkChunk(group) for group in chunk.batches(size)]
    assert frames_of(groups) == frames_of([chunk])
    assert [len(group) for group in groups[:-1]] == [size] * (len(groups) - 1)
    assert 0 < len(groups[-1]) <= size


def test_one_frame_cannot_be_halved():
    with pytest.raises(ValueError, match="halved"):
        WorkChunk((part(0, 1),)).halves()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_the_visiting_order_is_a_permutation(places):
    order = visiting_order(np.sort(np.array(places)))
    assert sorted(order.tolist()) == list(range(len(places)))


def test_scene_changes_come_before_near_copies():
    rgb = np.zeros((100, 32, 32, 3), np.uint8)
    rgb[40:] = 200  # one cut, otherwise nothing moves
    rgb[70:72] = 120  # and one flash
    clock = change_clock(rgb)
    assert clock[0] == 0
    assert clock[-1] == pytest.approx(1)
    first = visiting_order(clock)[:6]
    assert {bool(row < 40) for row in first} == {True, False}
    assert any(70 <= row <= 72 for row in first)
    still = visiting_order(change_clock(np.zeros((65, 16, 16, 3), np.uint8)))
    assert sorted(still[:3].tolist()) == [16, 32, 48]  # nothing happens: spread over time


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory) -> Rollouts:
    return write_rollouts(tmp_path_factory.mktemp("rollouts") / "r.zarr")


def test_a_longer_order_begins_with_the_shorter_one_and_spreads_over_episodes(rollouts):
    episodes = list(rollouts.episodes())
    rows = [all_frames(episode) for episode in episodes]
    whole = frame_order(episodes, rows)
    assert len(whole) == 120
    assert set(whole.numbers[:3].tolist()) == {0, 1, 2}
    for count in (1, 2, 7, 50):
        short = frame_order(episodes, rows, count)
        assert short.numbers.tolist() == whole.numbers[:count].tolist()
        assert short.rows.tolist() == whole.rows[:count].tolist()


def whole_plan(episodes: list[Episode]) -> Plan:
    parts = []
    for episode in episodes:
        rows = all_frames(episode)
        some = np.ones(len(rows), np.bool_)
        parts.append(Part(episode, rows, (None,) * len(rows), ("",) * len(rows), some, ~some))
    return Plan(tuple(parts), frames=sum(map(len, parts)))


@pytest.mark.parametrize(
    ("extent", "expected"), [(Budget(sample=7), 7), (Budget(frames=7), 7), (Budget(budget=10.0), 12), (Budget(), 120)]
)
def test_every_extent_is_the_beginning_of_one_order(rollouts, monkeypatch, extent, expected):
    """Ten minutes at 0.02 frames per second are 12 frames: 5 at first, then as the time left allows."""
    clock = [0.0]
    monkeypatch.setattr("semore.annotate.scheduling.budget.time.monotonic", lambda: clock[0])
    episodes = list(rollouts.episodes())
    rows = [all_frames(episode) for episode in episodes]
    plan = whole_plan(episodes)
    done: list[tuple[str, int]] = []
    for cut in rounds(extent, plan, episodes, rows, 5, lambda: 0.02):
        done += frames_of([WorkChunk(cut.parts)])
        clock[0] += cut.todo / 0.02
    assert len(set(done)) == len(done) == expected
    order = frame_order(episodes, rows, len(done))
    assert set(done) == {(episodes[number].name, row) for number, row in zip(order.numbers, order.rows, strict=True)}


def test_only_one_extent_at_a_time():
    with pytest.raises(SemoreError, match="only one"):
        Budget(sample=5, budget=3)
    with pytest.raises(SemoreError, match="negative"):
        Budget(frames=-1)


def test_decision_frames_are_those_at_which_actions_are_chosen():
    episode = Episode("e", Path("/r/e"), {"steps": 7, "action_repeat": 3})
    assert decision_frames(episode).tolist() == [0, 3, 6, 7]
    assert decision_frames(Episode("e", Path("/r/e"), {"steps": 2})).tolist() == [0, 1, 2]


def test_frames_that_killed_workers_before_come_last_and_alone():
    whole = part(0, 10)
    texts = [None] * 10
    texts[3] = Text((), Status.FAILED, f"{WorkerDied.__name__}: 3 workers died over this frame")
    texts[6] = Text((), Status.FAILED, "TimeoutError: late")
    queue = ChunkQueue(Plan((replace(whole, texts=tuple(texts)),)), 4, 10.0)
    handed_out = []
    while (chunk := queue.next()) is not None:
        handed_out.append(chunk)
    assert [len(chunk) for chunk in handed_out] == [4, 4, 1, 1]
    assert frames_of(handed_out)[-1] == ("e0", 6)  # row 3 of the part is frame 6
    assert [chunk.deaths for chunk in handed_out] == [0, 0, 0, DEATHS - 1]
