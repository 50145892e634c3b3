"""CRIS's square input from a frame, and its mask mapped back onto the frame (method.md §7)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

PROCESSING_VERSION: Final = 1
"""Part of the segmenter's identity: raise it with every change in this file or in the tokens that changes a mask."""
SIZE: Final = 416
"""Side of the network's input in pixels."""
MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
STD: Final = (0.26862954, 0.26130258, 0.27577711)
BORDER: Final = tuple(255 * mean for mean in MEAN)


def letterbox(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One frame (H, W, 3) uint8 → (416, 416, 3) uint8: scaled to fit, centred, cubic, the mean colour around it."""
    placed = cv2.warpAffine(rgb, _placing(*rgb.shape[:2]), (SIZE, SIZE), flags=cv2.INTER_CUBIC, borderValue=BORDER)
    return np.asarray(placed, np.uint8)


def prepare(frames: Iterable[NDArray[np.uint8]], device: torch.device) -> Tensor:
    """N frames, each (H, W, 3) uint8 → the network's input (N, 3, 416, 416) float32, letterboxed and normalised."""
    placed = torch.from_numpy(np.stack([letterbox(frame) for frame in frames])).to(device)
    mean, std = torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)
    return ((placed.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def restore(logits: Tensor, height: int, width: int) -> NDArray[np.float32]:
    """The network's answers (N, 1, 104, 104) → probabilities (N, height, width) float32 on the frame's own pixels.

    Cubic interpolation overshoots [0, 1] a little; `soft_mask` clips."""
    square = F.interpolate(logits.float().sigmoid(), (SIZE, SIZE), mode="bicubic", align_corners=True)
    placing, flags = _placing(height, width), cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    maps = square[:, 0].cpu().numpy()
    restored = np.empty((len(maps), height, width), np.float32)
    for index, whole in enumerate(maps):
        cv2.warpAffine(whole, placing, (width, height), restored[index], flags, borderValue=0.0)
    return restored


def soft_mask(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Probabilities of any shape → uint8, 0–255 for [0, 1]."""
    levels: NDArray[np.uint8] = np.rint(probabilities.clip(0.0, 1.0) * 255).astype(np.uint8)
    return levels


def _placing(height: int, width: int) -> NDArray[np.float64]:
    """(2, 3): a frame's pixel (x, y) → where it lies in the square. No half-pixel shift."""
    scale = min(SIZE / height, SIZE / width)
    return np.array([[scale, 0, (SIZE - scale * width) / 2], [0, scale, (SIZE - scale * height) / 2]])
