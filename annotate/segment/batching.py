"""Batching for learned segmenters: each frame and each phrase is encoded once, pairs are answered in batches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CAPACITY: Final = 1024
"""Phrases remembered: 40 MB for CRIS."""


class Group(NamedTuple):
    """Frames to encode together, and what is asked about them."""

    frames: NDArray[np.int64]
    """(F,) indices of the frames, ascending."""
    span: slice
    """Where their phrases lie in the flat list of all phrases."""
    rows: Tensor
    """(phrases of the span,) int64: which of the F frames each phrase is about."""


def groups(phrases: Sequence[Sequence[str]], size: int) -> Iterator[Group]:
    """Up to `size` frames at a time of those that are asked about; phrases[i] are frame i's."""
    owners = np.repeat(np.arange(len(phrases)), [len(named) for named in phrases])
    asked = np.unique(owners)
    for first in range(0, len(asked), size):
        frames = asked[first : first + size]
        begin, end = np.searchsorted(owners, [frames[0], frames[-1] + 1]).tolist()
        yield Group(frames, slice(begin, end), torch.from_numpy(np.searchsorted(frames, owners[begin:end])))


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
