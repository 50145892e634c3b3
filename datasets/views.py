"""The smaller view of a recorded frame, the same bytes for the environment and the pool."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from datasets.errors import SemoreError

GREY: Final = 128
"""What every pixel is for a policy that is not to see (design.md §7.5)."""


def shrink(frame_NCHW: Tensor, size: int) -> Tensor:
    """Area-average uint8 pictures (N,C,H,W) to (N,C,size,size) uint8; SemoreError when `size` exceeds the picture."""
    side = frame_NCHW.shape[-1]
    if size == side:
        return frame_NCHW
    if size > side:
        raise SemoreError(f"frames are {side} pixels wide and cannot be viewed at {size}; record them larger")
    if side % size == 0:
        pooled = functional.avg_pool2d(frame_NCHW.float(), side // size)
    else:
        pooled = functional.adaptive_avg_pool2d(frame_NCHW.float(), size)
    return pooled.round_().to(torch.uint8)
