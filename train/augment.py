"""Random shifts, the augmentation that DrQ and CURL use here."""

from __future__ import annotations

import torch
from torch import Tensor

from semore.datasets.frame_pool import Batch


def augmented(batch: Batch, copies: int) -> tuple[Batch, Tensor, Tensor]:
    """The batch, and its frames (B,4,3,S,S) uint8 as s and as s' are seen: with shifts, so many copies of all three,
    each frame of a copy moved anew; without (`copies` 0), as they are. The batch keeps its own frames."""
    if not copies:
        return batch, batch.frames, batch.frames
    seen, following = (torch.cat([random_shift(batch.frames) for _ in range(copies)]) for _ in range(2))
    repeated = (part.repeat(copies, *[1] * (part.dim() - 1)) for part in batch[1:])
    return Batch(batch.frames, *repeated), seen, following


def random_shift(frame_BFCHW: Tensor) -> Tensor:
    """Each sample moved by up to a 21st of its side (4 of 84 pixels, as DrQ) in both directions, all its frames alike;
    the border is repeated. Frames (B,F,C,H,W) in, the same shape and dtype out."""
    batch, _, _, height, width = frame_BFCHW.shape
    reach, device = max(round(height / 21), 1), frame_BFCHW.device
    moved = torch.randint(0, 2 * reach + 1, (2, batch, 1), device=device) - reach
    rows = (moved[0] + torch.arange(height, device=device)).clamp_(0, height - 1)
    columns = (moved[1] + torch.arange(width, device=device)).clamp_(0, width - 1)
    sample = torch.arange(batch, device=device)[:, None, None]
    # Indices around the frames and channels put these last, where channels-last convolutions want them.
    shifted: Tensor = frame_BFCHW[sample, :, :, rows[:, :, None], columns[:, None, :]]
    return shifted.permute(0, 3, 4, 1, 2)
