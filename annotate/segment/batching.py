"""Batching for learned segmenters: each frame and each phrase is encoded once, pairs are answered in batches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CAPACITY: Final = 1024
"""Phrases remembered: 40 MB for CRIS."""


Segment = Callable[[NDArray[np.uint8], Sequence[str], Tensor], NDArray[np.uint8]]
"""Frames (F, H, W, 3) encoded together, m phrases, and rows (m,) int64, the frame that each is about → (m, H, W)."""


def in_groups(
    rgb: NDArray[np.uint8], phrases: Sequence[Sequence[str]], size: int, segment: Segment
) -> NDArray[np.uint8]:
    """(M, H, W) uint8 masks of frames (B, H, W, 3), of which phrases[i] are frame i's: frame by frame, each one's
    phrases in order. Asks about up to `size` frames at a time, and about none without a phrase."""
    owners = np.repeat(np.arange(len(phrases)), [len(named) for named in phrases])
    flat = [phrase for named in phrases for phrase in named]
    masks = np.zeros((len(flat), *rgb.shape[1:3]), np.uint8)
    asked = np.unique(owners)
    for first in range(0, len(asked), size):
        frames = asked[first : first + size]
        begin, end = np.searchsorted(owners, [frames[0], frames[-1] + 1]).tolist()
        rows = torch.from_numpy(np.searchsorted(frames, owners[begin:end]))
        masks[begin:end] = segment(rgb[frames], flat[begin:end], rows)
    return masks


class PhraseMemory:
    """Encodes each phrase once; forgets those not asked about for longest."""

    def __init__(self, encode: Callable[[list[str]], Sequence[Tensor]], capacity: int = CAPACITY) -> None:
        """encode: N phrases → tensors with N rows each."""
        self._encode = encode
        self._capacity = capacity
        self._known: OrderedDict[str, tuple[Tensor, ...]] = OrderedDict()

    def __call__(self, phrases: Sequence[str]) -> tuple[Tensor, ...]:
        """What `encode` says of the N phrases, in order; new ones are encoded in one batch."""
        new = [phrase for phrase in dict.fromkeys(phrases) if phrase not in self._known]
        if new:
            encoded = self._encode(new)
            for index, phrase in enumerate(new):
                self._known[phrase] = tuple(tensor[index].clone() for tensor in encoded)
        for phrase in phrases:
            self._known.move_to_end(phrase)
        found = tuple(map(torch.stack, zip(*(self._known[phrase] for phrase in phrases), strict=True)))
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)
        return found
