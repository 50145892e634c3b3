"""The agent's view has the bytes that the frame pool makes of the recorded picture."""

from __future__ import annotations

import numpy as np
import pytest

from semore.collect.observation import observe
from semore.datasets.resize import shrink


@pytest.mark.parametrize("side", [8, 31, 128])
def test_the_view_of_a_picture_is_that_of_the_frame_pool(side):
    rng = np.random.default_rng(side)
    pictures = [rng.integers(0, 256, (side, side, 3)).astype(np.uint8), np.full((side, side, 3), 255, np.uint8)]
    pictures.append(pictures[0][:, ::-1])
    for picture in pictures:
        for size in {1, 2, side // 2, side * 2 // 3, side - 1, side}:
            seen = observe(picture, size)
            assert (seen.shape, seen.dtype, seen.flags.c_contiguous) == ((3, size, size), np.uint8, True)
            assert np.array_equal(seen, shrink(picture.transpose(2, 0, 1), size)), size


def test_a_view_is_a_copy():
    picture = np.zeros((16, 16, 3), np.uint8)
    seen = observe(picture, 16)
    picture[:] = 1
    assert not seen.any()
