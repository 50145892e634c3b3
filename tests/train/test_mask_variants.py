"""H_ka replaced: what each variant keeps, what it loses, and that the pool shows it wherever it reads masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from test_replay import GRID, SIDE, Knowing, Recorded

from semore.datasets.errors import SemoreError
from semore.datasets.frame_pool import FramePool
from semore.datasets.frame_view import View
from semore.datasets.mask_variants import MASKS, frame_generators, replaced

masks_Ngg = arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=6))


def frames_of(count: int, salt: int = 0) -> np.ndarray:
    frames = np.zeros((count, 16), np.uint8)
    frames[:, 0], frames[:, 15] = np.arange(count), salt
    return frames


def variant(masks: np.ndarray, name: str, seed: int = 0, salt: int = 0) -> np.ndarray:
    return replaced(masks, name, frame_generators(frames_of(len(masks), salt), seed))


@settings(max_examples=60, deadline=None)
@given(masks_Ngg, st.integers(0, 2**31))
def test_each_variant_keeps_what_it_says(masks, seed):
    before = masks.copy()
    assert (variant(masks, "plain") == masks).all()
    assert not variant(masks, "empty").any()
    assert (variant(variant(masks, "inverted"), "inverted") == masks).all()
    assert (variant(masks, "inverted").astype(int) + masks == 255).all()
    shuffled = variant(masks, "shuffled", seed)
    flat = (len(masks), -1)
    assert (np.sort(shuffled.reshape(flat)) == np.sort(masks.reshape(flat))).all()
    assert (shuffled == variant(masks, "shuffled", seed)).all()
    assert all(variant(masks, name).dtype == np.uint8 for name in MASKS)
    assert (masks == before).all()


def test_shuffling_is_the_frames_own_whatever_stands_beside_it():
    masks = np.broadcast_to(np.arange(36, dtype=np.uint8).reshape(6, 6), (5, 6, 6))
    whole = variant(masks, "shuffled", 3)
    assert len({own.tobytes() for own in whole}) == 5  # no order that a network could learn to undo
    alone = replaced(masks[3:4], "shuffled", frame_generators(frames_of(5)[3:4], 3))
    assert (alone[0] == whole[3]).all()
    assert (variant(masks, "shuffled", 4) != whole).any()
    assert (variant(masks, "shuffled", 3, salt=1) != whole).any()


def test_masks_in_0_to_1_and_none_at_all():
    masks = np.array([[[0.0, 0.25], [0.5, 1.0]]], np.float32)
    inverted = replaced(masks, "inverted", [], full=1)
    assert inverted.dtype == np.float32
    assert inverted.ravel().tolist() == [1.0, 0.75, 0.5, 0.0]
    assert replaced(masks[:0], "shuffled", []).shape == (0, 2, 2)


def test_an_unknown_variant_is_refused_with_the_choices():
    with pytest.raises(SemoreError, match="unknown masks 'blurred'; choose one of plain, shuffled, empty, inverted"):
        replaced(np.zeros((1, 2, 2), np.uint8), "blurred", [])


@pytest.mark.parametrize("name", MASKS)
def test_the_pool_shows_the_variant_of_known_frames_only(name):
    """Recorded episodes and those of a refresh, whose knowledge comes later, alike."""
    plain, pool = (FramePool(View(SIDE, GRID, 1, "published", masks, 5), 100) for masks in ("plain", name))
    episode = Recorded(1, 20)
    for each in (plain, pool):
        each.add(episode, Knowing(), np.zeros(0, np.int64))  # a refresh: nothing is known yet
        assert not each.mask_valid[: each.size].any()
        each.learn(episode, Knowing())
    known = plain.mask_valid[: plain.size]
    assert torch.equal(pool.mask_valid[: pool.size], known)
    assert known.any()
    assert not known.all()
    assert not pool.masks[: pool.size][~known].any()
    digests = torch.from_numpy(episode.read("digest")["digest"])
    expected = replaced(plain.masks[:21].numpy(), name, frame_generators(digests.numpy(), 5))
    assert torch.equal(pool.masks[:21][known], torch.from_numpy(expected)[known])
    assert torch.equal(pool.verdict, plain.verdict)
