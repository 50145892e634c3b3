"""Shrinking a frame: the rounded mean of each block, as torch would have it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from semore.datasets.errors import SemoreError
from semore.datasets.resize import shrink


def test_shrinking_is_the_rounded_mean_of_each_block():
    frame = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), np.uint8)
    blocks = frame.reshape(2, 3, 4, 2, 4, 2).astype(np.int64).sum((3, 5))
    assert np.array_equal(shrink(frame, 4), np.rint(blocks / 4))
    assert shrink(frame, 8).tobytes() == frame.tobytes()
    with pytest.raises(SemoreError, match="8 pixels wide"):
        shrink(frame, 9)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_shrinking_has_the_bytes_of_torch_s_pooling(data):
    """At every size, in both orders in which the environment and the pool hold their pictures; few grey levels make
    means that lie between two bytes frequent."""
    side = data.draw(st.integers(2, 140))
    size = data.draw(st.integers(1, side - 1))
    levels = data.draw(st.sampled_from([2, 3, 256]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    pictures = rng.integers(0, levels, (2, side, side, 3), np.uint8).transpose(0, 3, 1, 2)
    for held in (pictures, np.ascontiguousarray(pictures)):
        whole = torch.from_numpy(held).float()
        pooled = functional.adaptive_avg_pool2d(whole, size)
        assert np.array_equal(shrink(held, size), pooled.round().to(torch.uint8).numpy())
        if side % size == 0:
            pooled = functional.avg_pool2d(whole, side // size)
            assert np.array_equal(shrink(held, size), pooled.round().to(torch.uint8).numpy())
