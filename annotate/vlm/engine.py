"""The protocol of vision-language engines: pictures and prompts in, raw answers out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from semore.datasets.knowledge.records import Identity


class Answer(NamedTuple):
    """A model's raw answer about one picture; `failure` is the reason when there is none (time-out, refused, …)."""

    text: str
    failure: str = ""
    cut: bool = False
    """Whether the cap ended it."""


class VisionLanguage(Protocol):
    """A vision-language model in this process or behind a server."""

    @property
    def identity(self) -> Identity:
        """Kind, id@revision or digest of the files, preprocessing, dtype, quantisation, decoding, engine: all that can
        change an answer, except the prompt and the answer cap, which come with the question."""

    @property
    def max_new_tokens(self) -> int:
        """The settings' cap of a description."""

    def load(self) -> None:
        """See Describer.load."""

    def answer(self, rgb: NDArray[np.uint8], prompts: Sequence[str], max_new_tokens: int | None = None) -> list[Answer]:
        """B answers on pictures (B, H, W, 3) uint8 and B prompts, greedy, of at most `max_new_tokens` (default the
        settings'); sub-batches as the settings say. SemoreError for what the user must mend."""
