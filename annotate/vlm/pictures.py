"""Frames as a vision-language model is shown them: small ones are upscaled, since 128×128 is 25 tokens."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FILTER: Final = Image.Resampling.BICUBIC


def picture(frame: NDArray[np.uint8], side: int) -> Image.Image:
    """The frame (H, W, 3) uint8; where its shorter side is below `side` pixels, upscaled to it."""
    shown = Image.fromarray(np.ascontiguousarray(frame))
    shorter = min(shown.size)
    if shorter >= side:
        return shown
    width, height = (round(length * side / shorter) for length in shown.size)
    return shown.resize((width, height), FILTER)


def preprocessing(side: int) -> str:
    """What `picture` does, for an identity."""
    return f"{FILTER.name.lower()} to {side}" if side > 0 else "as recorded"
