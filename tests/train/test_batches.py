"""Batches on their way to a GPU: a transfer that copies late stands for it. The true one is in tests/gpu."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
import torch
from test_replay import GRID, SIDE, VIEW, Knowing, Recorded, make_replay
from torch import Tensor

from semore.datasets import frame_pool
from semore.datasets.errors import SemoreError
from semore.datasets.frame_pool import Batch, FramePool, forecast_bytes, frame_bytes
from semore.train.admission import ReplaySettings
from semore.train.batches import Staging, batches
from semore.train.replay import SelectiveReplay

SIZE = 6
FRAMES = torch.Size((4 * SIZE, 3, SIDE, SIDE))
META = torch.device("meta")


class Late:
    """A transfer that copies nothing until somebody waits for it, and then all that was sent before that moment."""

    def __init__(self) -> None:
        self.rooms: list[Tensor] = []
        self._sent: list[tuple[Tensor, Tensor]] = []

    def room(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        self.rooms.append(torch.empty(shape, dtype=dtype))
        return self.rooms[-1]

    def send(self, part: Tensor) -> Tensor:
        assert any(part.untyped_storage().data_ptr() == room.untyped_storage().data_ptr() for room in self.rooms)
        copy = torch.full_like(part, 99)
        self._sent.append((copy, part))
        return copy

    def mark(self) -> Moment:
        return Moment(self._sent, len(self._sent))


class Moment:
    def __init__(self, sent: list[tuple[Tensor, Tensor]], count: int) -> None:
        self._sent, self._count = sent, count

    def synchronize(self) -> None:
        for number, (copy, part) in enumerate(self._sent[: self._count]):
            copy.copy_(part)
            self._sent[number] = copy, copy


def filled(home: torch.device = frame_pool.CPU) -> SelectiveReplay:
    replay = SelectiveReplay(FramePool(VIEW, 200, home), ReplaySettings(admission="off"), seed=3)
    for number in (1, 2, 3):
        replay.add(Recorded(number, 30), Knowing())
    return replay


def test_no_buffer_is_filled_before_what_was_in_it_is_copied():
    replay, alone, late = filled(), filled(), Late()
    staging = Staging(FRAMES, late)
    sent = [staging.send(lambda frames: replay.sample(SIZE, frames)) for _ in range(7)]
    late.mark().synchronize()
    for batch in sent:
        for found, expected in zip(batch, alone.sample(SIZE), strict=True):
            assert torch.equal(found, expected)
    assert len(late.rooms) == 2 * len(Batch._fields)


@contextmanager
def broken(staging: Staging, how: str) -> Iterator[None]:
    if how == "one buffer":
        staging._frames[1], staging._rooms[1] = staging._frames[0], staging._rooms[0]
    with pytest.MonkeyPatch.context() as patch:
        if how == "nobody waits":
            patch.setattr(Moment, "synchronize", lambda self: None)
        yield


@pytest.mark.parametrize("how", ["one buffer", "nobody waits"])
def test_the_late_transfer_would_tell(how):
    """What the test above is worth."""
    replay, alone, late = filled(), filled(), Late()
    staging = Staging(FRAMES, late)
    with broken(staging, how):
        sent = [staging.send(lambda frames: replay.sample(SIZE, frames)) for _ in range(4)]
    late.mark().synchronize()
    expected = [alone.sample(SIZE).frames for _ in range(4)]
    assert not all(torch.equal(batch.frames, frames) for batch, frames in zip(sent, expected, strict=True))


def test_frames_that_lie_on_the_device_are_gathered_there():
    """On a device without values: whatever reads some of a frame, or an index that was left behind, fails."""
    replay, alone, late = filled(META), filled(), Late()
    batch = Staging(None, late).send(lambda frames: replay.sample(SIZE, frames))
    late.mark().synchronize()
    expected = alone.sample(SIZE)
    assert batch.frames.device == META
    assert batch.frames.shape == expected.frames.shape
    for name in Batch._fields[1:]:
        assert torch.equal(getattr(batch, name), getattr(expected, name)), name
    assert len(late.rooms) == len(Batch._fields) - 1
    seen = replay.pool.observation(replay.latest(4))
    assert (seen.device, seen.shape) == (META, (4, 9, SIDE, SIDE))


def test_a_pool_elsewhere_forgets_learns_and_resumes_as_one_here():
    there, here = filled(META), filled()
    for number in range(4, 12):
        for replay in (there, here):
            replay.add(Recorded(number, 30), Knowing())
            replay.learn(Recorded(number, 30), Knowing(lambda *_: 0))
    assert there.pool.episodes == here.pool.episodes
    assert len(there.pool.episodes) < 11
    state = there.state()
    assert state["contents"] == here.state()["contents"]
    there.restore(state)
    assert torch.equal(there.latest(10), here.latest(10))


def test_a_pool_elsewhere_needs_little_of_this_memory(monkeypatch):
    rest = forecast_bytes(VIEW, 1000) - frame_bytes(VIEW, 1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Free", (), {"available": 2 * rest})())
    FramePool(VIEW, 1000, META)
    with pytest.raises(SemoreError, match="needs"):
        FramePool(VIEW, 1000)
    assert rest > GRID**2 * 1000


def test_on_a_cpu_all_batches_have_one_buffer_and_nothing_is_copied():
    replay, alone = make_replay(), make_replay()
    for each in (replay, alone):
        each.add(Recorded(1, 40), Knowing())
    draw = batches(replay, SIZE, SIDE, torch.device("cpu"))
    places = set()
    for _ in range(3):
        batch = draw()
        places.add(batch.frames.data_ptr())
        assert all(torch.equal(*pair) for pair in zip(batch, alone.sample(SIZE), strict=True))
    assert len(places) == 1
