"""What an agent sees of a camera's picture: its three colour planes at the view's size, in compiled code.

The bytes are those of datasets.resize.shrink, which the frame pool uses; here it would take longer than physics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semore.collect.kernels import kernels

kernel = kernels("observation", Path(__file__).parent, [Path(__file__)])


def observe(rgb: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The square picture (H, W, 3) as (3, size, size), fresh; `size` is at most that of the picture."""
    planes = np.empty((3, size, size), np.uint8)
    flat = np.ascontiguousarray(rgb).reshape(len(rgb), -1)
    if size == len(rgb):
        _part(flat.reshape(-1), planes.reshape(3, -1))
    else:
        _average(flat, planes)
    return planes


@kernel
def _part(pixels: NDArray[np.uint8], planes: NDArray[np.uint8]) -> None:
    for place in range(planes.shape[1]):
        planes[0, place] = pixels[3 * place]
        planes[1, place] = pixels[3 * place + 1]
        planes[2, place] = pixels[3 * place + 2]


@kernel
def _average(lines: NDArray[np.uint8], planes: NDArray[np.uint8]) -> None:
    """Means over windows that may overlap: exact sums, then divided by the windows' heights and widths in turn."""
    side, size = lines.shape[0], planes.shape[1]
    sums = np.empty(lines.shape[1], np.uint32)
    for row in range(size):
        top, bottom = row * side // size, -(-(row + 1) * side // size)
        for place in range(sums.shape[0]):
            sums[place] = lines[top, place]
        for line in range(top + 1, bottom):
            for place in range(sums.shape[0]):
                sums[place] += lines[line, place]
        height = np.float32(bottom - top)
        for column in range(size):
            left, right = column * side // size, -(-(column + 1) * side // size)
            width = np.float32(right - left)
            for channel in range(3):
                total = np.uint32(0)
                for place in range(left, right):
                    total += sums[3 * place + channel]
                planes[channel, row, column] = np.uint8(np.rint(np.float32(total) / height / width))
