"""Views of recorded frames, smaller pictures and pooled masks, the same bytes for the environment and the pool."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from datasets.errors import SemoreError


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


def pool_mask(mask_NHW: Tensor, grid: int) -> Tensor:
    """Max-pool uint8 masks (N,H,W) to (N,grid,grid): thin objects stay visible (design.md §7.1)."""
    return functional.adaptive_max_pool2d(mask_NHW[:, None].float(), grid)[:, 0].to(torch.uint8)
