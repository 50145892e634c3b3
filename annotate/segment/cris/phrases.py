"""Phrases into CLIP tokens, and a bounded memory of what they mean to a network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from typing import Final

import torch
from instant_clip_tokenizer import Tokenizer
from torch import Tensor

from annotate.segment.cris.network import CRIS, TextFeatures

CAPACITY: Final = 1024
"""Phrases remembered: about 40 MB."""


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer()


def tokenize(phrases: Sequence[str], word_len: int) -> Tensor:
    """N phrases → (N, word_len) int64: lower-cased CLIP pieces between start and end token, padded with 0; what is too
    long is cut, the end token staying last (method.md §7)."""
    return torch.from_numpy(_tokenizer().tokenize_batch(list(phrases), context_length=word_len).astype("int64"))


class PhraseMemory:
    """Encodes each phrase once; forgets those not asked about for longest."""

    def __init__(self, network: CRIS, device: torch.device, capacity: int = CAPACITY) -> None:
        self._network = network
        self._device = device
        self._capacity = capacity
        self._known: OrderedDict[str, TextFeatures] = OrderedDict()

    def __call__(self, phrases: Sequence[str]) -> TextFeatures:
        """The features of N phrases in order, on the device; new ones are encoded in one batch."""
        new = [phrase for phrase in dict.fromkeys(phrases) if phrase not in self._known]
        if new:
            encoded = self._network.encode_text(tokenize(new, self._network.word_len).to(self._device))
            for index, phrase in enumerate(new):
                self._known[phrase] = TextFeatures(*(feature[index].clone() for feature in encoded))
        for phrase in phrases:
            self._known.move_to_end(phrase)
        found = TextFeatures(*map(torch.stack, zip(*(self._known[phrase] for phrase in phrases), strict=True)))
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)
        return found
