"""Random shifts, the augmentation that DrQ and CURL use here."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def random_shift(frame_BFCHW: Tensor) -> Tensor:
    """Each sample moved by up to a 21st of its side (4 of 84 pixels, as DrQ) in both directions, all its frames alike;
    the border is repeated. Frames (B,F,C,H,W) in, the same shape out."""
    batch, _, _, height, width = frame_BFCHW.shape
    reach = max(round(height / 21), 1)
    padded = functional.pad(frame_BFCHW.flatten(1, 2), (reach, reach, reach, reach), mode="replicate")
    moved = torch.randint(0, 2 * reach + 1, (2, batch, 1), device=frame_BFCHW.device)
    rows = moved[0] + torch.arange(height, device=frame_BFCHW.device)
    columns = moved[1] + torch.arange(width, device=frame_BFCHW.device)
    sample = torch.arange(batch, device=frame_BFCHW.device)[:, None, None]
    # Indices around the channels put these last: (B, H, W, F·C) is what channels-last convolutions want anyway.
    shifted: Tensor = padded[sample, :, rows[:, :, None], columns[:, None, :]]
    return shifted.permute(0, 3, 1, 2).reshape(frame_BFCHW.shape)
