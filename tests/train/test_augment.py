"""Random shifts: what they keep, what they repeat, and that nothing but the drawn offset decides."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_agent import make_batch

from perf.plain_update import plain_shift
from semore.train.augment import augmented, random_shift


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 3), st.integers(1, 4), st.sampled_from([8, 21, 32, 45]))
def test_a_shift_is_a_look_up_of_rows_and_columns(seed, count, frames, side):
    """Content up to the reach, the border's pixels beyond it, one offset for all frames and channels of a sample."""
    picture = torch.rand(count, frames, 3, side, side, generator=torch.Generator().manual_seed(seed))
    before = picture.clone()
    torch.manual_seed(seed)
    found = random_shift(picture)
    torch.manual_seed(seed)
    assert torch.equal(found, plain_shift(picture))
    assert torch.equal(picture, before)
    assert found.shape == picture.shape


@pytest.mark.parametrize(("side", "reach"), [(8, 1), (32, 2), (84, 4)])
def test_every_offset_up_to_a_21st_of_the_side_occurs(side, reach):
    """On a picture that names its own rows and columns; DrQ's 4 of 84 pixels."""
    named = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"))
    count, middle = 60 * (2 * reach + 1), side // 2
    torch.manual_seed(0)
    found = random_shift(named.float().expand(count, 1, 2, side, side))[:, 0, :, middle, middle].int() - middle
    for moved in found.T.tolist():
        times = [moved.count(offset) for offset in range(-reach, reach + 1)]
        assert sum(times) == count
        assert min(times) > 30
        assert max(times) < 120
    assert len({tuple(pair) for pair in found.tolist()}) > (2 * reach + 1) ** 2 / 2  # rows and columns apart


def test_frames_of_a_sample_move_together_and_samples_apart():
    torch.manual_seed(0)
    picture = torch.rand(1, 1, 3, 64, 64).expand(50, 4, 3, 64, 64)
    found = random_shift(picture)
    for frame in range(1, 4):
        assert torch.equal(found[:, frame], found[:, 0])
    assert len({tuple(sample[0, 0, 30, :4].tolist()) for sample in found}) > 20


def test_the_border_is_repeated():
    """A picture bright at its border only: after any shift no dark pixel has come in from outside."""
    picture = torch.zeros(40, 1, 1, 32, 32)
    picture[..., (0, -1), :], picture[..., :, (0, -1)] = 1.0, 1.0
    torch.manual_seed(0)
    for sample in random_shift(picture)[:, 0, 0]:
        bright = sample == 1.0
        # Along each axis the border got wider on the side the picture moved away from, and left on the other.
        for axis in (0, 1):
            full = bright.all(1 - axis)
            left, right = full.int().cumprod(0).sum(), full.int().flip(0).cumprod(0).sum()
            assert int(left + right) <= 3
            assert int(left + right) >= 1


def test_without_shifts_a_batch_is_seen_as_it_is():
    batch, before = make_batch(5), torch.get_rng_state()
    same, seen, following = augmented(batch, 0)
    assert same is batch
    assert torch.equal(seen, batch.frames)
    assert torch.equal(following, batch.frames)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("copies", [1, 2])
def test_a_shifted_batch_has_so_many_copies_each_moved_anew(copies):
    """One after the other: first the copies that s is seen by, then those of s'; what is no picture is repeated along,
    and the batch keeps its own frames."""
    batch = make_batch(5)
    kept = [part.clone() for part in batch]
    torch.manual_seed(1)
    repeated, seen, following = augmented(batch, copies)
    torch.manual_seed(1)
    for frames in (seen, following):
        assert frames.dtype == torch.uint8
        assert torch.equal(frames, torch.cat([plain_shift(batch.frames) for _ in range(copies)]))
    assert torch.equal(repeated.frames, batch.frames)
    for name, part in batch._asdict().items():
        if name != "frames":
            assert torch.equal(getattr(repeated, name), torch.cat([part] * copies)), name
    moved = [*seen.chunk(copies), *following.chunk(copies)]
    assert not any(torch.equal(one, two) for at, one in enumerate(moved) for two in moved[:at])
    assert all(torch.equal(part, before) for part, before in zip(batch, kept, strict=True))
