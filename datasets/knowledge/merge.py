"""H_ka from phrase masks: the merge rule and the max-pooling onto the grid (method.md §5.1, design.md §7.1)."""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Merge = Literal["max", "mean"]
MERGES: Final[tuple[Merge, ...]] = ("max", "mean")
"""`max` keeps every object whole; `mean` is the public code's and fades an object named by one of n phrases to 1/n."""


def merge_masks(masks: NDArray[np.uint8], starts: NDArray[np.int64], merge: Merge) -> NDArray[np.uint8]:
    """(F, H, W): masks (M, H, W) of F frames merged; frame f's are masks[starts[f]:starts[f + 1]], at least one."""
    counts = np.diff(starts, append=len(masks))
    merged: NDArray[Any] = masks[starts] if merge == "max" else masks[starts].astype(np.uint32)
    combine = np.maximum if merge == "max" else np.add
    for place in range(1, int(counts.max(initial=1))):  # 18x faster than reduceat over whole masks
        (more,) = np.nonzero(counts > place)
        merged[more] = combine(merged[more], masks[starts[more] + place])
    if merge == "max":
        return merged
    share = counts[:, None, None]
    rounded: NDArray[np.uint8] = ((merged + share // 2) // share).astype(np.uint8)
    return rounded


def max_pool(masks: NDArray[np.uint8], grid: int) -> NDArray[np.uint8]:
    """(N, H, W) → (N, grid, grid) by adaptive max-pooling, bins as torch's: [⌊i·H/grid⌋, ⌈(i+1)·H/grid⌉)."""
    for axis in (1, 2):
        size = masks.shape[axis]
        lines = np.moveaxis(masks, axis, 0)
        cells = []
        for index in range(grid):
            begin, end = index * size // grid, -(-(index + 1) * size // grid)
            cell = lines[begin].copy()
            for line in lines[begin + 1 : end]:  # line by line: faster than numpy's max over a middle axis
                np.maximum(cell, line, out=cell)
            cells.append(cell)
        masks = np.stack(cells, axis)
    return masks


def pooled(masks: NDArray[np.uint8], starts: NDArray[np.int64], merge: Merge, grid: int | None) -> NDArray[np.uint8]:
    """Merged masks of F frames, (F, H, W) or, with `grid`, max-pooled to (F, grid, grid)."""
    if grid is None:
        return merge_masks(masks, starts, merge)
    if merge == "max":  # maxima commute: pooling first leaves far less to merge
        return merge_masks(max_pool(masks, grid), starts, merge)
    return max_pool(merge_masks(masks, starts, merge), grid)
