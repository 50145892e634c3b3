"""The smaller view of a recorded frame, with the same bytes in the environment and in the frame pool."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from semore.datasets.errors import SemoreError

GREY: Final = 128
"""What every pixel is for a policy that is not to see (design.md §7.5)."""


def shrink(frame_NCHW: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Area-average square pictures (..., H, W) to (..., size, size); SemoreError when `size` exceeds the picture.

    The bytes are those of torch's `adaptive_avg_pool2d`, rounded, but without torch: its threads do not survive a fork,
    and environments are forked (`gymnasium.vector.AsyncVectorEnv` would wait for them for ever)."""
    side = frame_NCHW.shape[-1]
    if size == side:
        return frame_NCHW
    if size > side:
        raise SemoreError(f"frames are {side} pixels wide and cannot be viewed at {size}; record them larger")
    starts = np.arange(size) * side // size
    widths = -(-np.arange(1, size + 1) * side // size) - starts
    rows = _sums(frame_NCHW.swapaxes(-1, -2), starts, widths).swapaxes(-1, -2)
    means = _sums(rows, starts, widths) / widths[:, None].astype(np.float32) / widths.astype(np.float32)
    shrunk: NDArray[np.uint8] = np.rint(means).astype(np.uint8, order="C")
    return shrunk


def _sums(values: NDArray[Any], starts: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.float32]:
    """Sums along the last axis over windows that may overlap; exact, below 2**24."""
    total = values[..., starts].astype(np.float32)
    for offset in range(1, int(widths.max())):
        reach = widths > offset
        if reach.all():
            total += values[..., starts + offset]
        else:
            total[..., reach] += values[..., starts[reach] + offset]
    return total
