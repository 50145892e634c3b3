"""Phrases as CLIP tokens for CRIS (method.md §7)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from instant_clip_tokenizer import Tokenizer
from torch import Tensor


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer()


def tokenize(phrases: Sequence[str], word_len: int) -> Tensor:
    """N phrases → (N, word_len) int64: lower-cased CLIP pieces between start and end token, padded with 0; what is too
    long is cut, the end token staying last."""
    return torch.from_numpy(_tokenizer().tokenize_batch(list(phrases), context_length=word_len).astype("int64"))
