"""Alignment check: would the masks fit the truth much better if they were shifted, mirrored or transposed?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from semore.annotate.audit.metrics import Masks, share
from semore.datasets.errors import SemoreError

REACH: Final = 0.25
"""Shifts up to this share of the picture's side are tried, all of them."""

_TURNS: Final[dict[str, Callable[[Any], Any]]] = {
    "mirrored left to right": lambda mask: mask[:, :, ::-1],
    "turned upside down": lambda mask: mask[:, ::-1],
    "rotated by 180°": lambda mask: mask[:, ::-1, ::-1],
    "transposed (rows and columns swapped)": lambda mask: mask.transpose(0, 2, 1),
    "rotated by 90° anticlockwise": lambda mask: mask.transpose(0, 2, 1)[:, ::-1],
    "rotated by 90° clockwise": lambda mask: mask.transpose(0, 2, 1)[:, :, ::-1],
    "transposed across the other diagonal": lambda mask: mask.transpose(0, 2, 1)[:, ::-1, ::-1],
}


class Fit(NamedTuple):
    """The IoU over all frames with every mask changed in one way."""

    change: str
    iou: float


class Alignment:
    """Gathers masks and truths frame by frame; `best` answers over all of them."""

    def __init__(self) -> None:
        self._shape: tuple[int, ...] = ()
        self._spectrum: NDArray[np.complex128] | None = None  # of the cross-correlation: the overlap at every shift
        self._turned = dict.fromkeys(_TURNS, 0)
        self._pixels = 0

    def add(self, mask: Masks, truth: Masks) -> None:
        """Gather B frames; SemoreError when their size differs from the earlier ones'."""
        self._shape = self._shape or mask.shape[1:]
        if mask.shape[1:] != self._shape:
            raise SemoreError(
                f"frames of {self._shape} and of {mask.shape[1:]} pixels; audit one camera size at a time"
            )
        shown = (mask | truth).any((1, 2))
        mask, truth = mask[shown], truth[shown]
        if not len(mask):
            return
        padded = tuple(side + reach for side, reach in zip(self._shape, self._reach(), strict=True))
        transformed = [scipy.fft.rfft2(frames.astype(np.float32), s=padded) for frames in (mask, truth)]
        overlap = (transformed[0].conj() * transformed[1]).sum(0, dtype=np.complex128)
        self._spectrum = overlap if self._spectrum is None else self._spectrum + overlap
        for change, turn in _TURNS.items():
            turned = turn(mask)
            if turned.shape == truth.shape:
                self._turned[change] += int((turned & truth).sum())
        self._pixels += int(mask.sum()) + int(truth.sum())

    def best(self) -> Fit:
        """The change that fits best; a shift is judged as if no mask pixel had left the picture, so rather low. As is:
        Fit("", …). IoU NaN when there is nothing to fit."""
        if self._spectrum is None:
            return Fit("", float("nan"))
        tall, wide = self._reach()
        padded = (self._shape[0] + tall, self._shape[1] + wide)
        overlaps = np.fft.fftshift(scipy.fft.irfft2(self._spectrum, s=padded))
        centre = padded[0] // 2, padded[1] // 2
        near = overlaps[centre[0] - tall : centre[0] + tall + 1, centre[1] - wide : centre[1] + wide + 1]
        place = np.unravel_index(int(near.argmax()), near.shape)
        down, right = int(place[0]) - tall, int(place[1]) - wide
        fits = [Fit(_moved(down, right), self._iou(round(float(near.max()))))]
        fits += [Fit(change, self._iou(both)) for change, both in self._turned.items()]
        return max(fits, key=lambda fit: fit.iou)

    def _reach(self) -> tuple[int, int]:
        return max(1, int(REACH * self._shape[0])), max(1, int(REACH * self._shape[1]))

    def _iou(self, both: int) -> float:
        return share(both, self._pixels - both)


def _moved(down: int, right: int) -> str:
    ways = [
        f"{abs(amount)} px {names[amount > 0]}"
        for amount, names in ((down, ("up", "down")), (right, ("left", "right")))
        if amount
    ]
    return f"moved {' and '.join(ways)}" if ways else ""
