"""The cache records that a run rests on: results name them, and no clean-up of the cache removes them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semore.datasets.action_text import action_words
from semore.datasets.atomic_io import digest16, write_bytes
from semore.datasets.knowledge.cache import KnowledgeSet, read_pins
from semore.datasets.knowledge.records import Digests
from semore.datasets.rollouts.store import Episode


class Pins:
    """The run's knowledge_used.npy, renewed whenever more is added."""

    def __init__(self, path: Path, goes_on: bool) -> None:
        """A run that `goes_on` is answered as it was before, whatever has been annotated since; another begins with
        none."""
        self._path = path
        self.records = read_pins(path) if goes_on and path.exists() else np.zeros((0, 16), np.uint8)

    @property
    def digest(self) -> str:
        """Hex digest over all of them."""
        return digest16(self.records.tobytes()).hex()

    def add(self, records: Sequence[Digests]) -> None:
        """Keep these too."""
        if not records:
            return
        self.records = np.unique(np.concatenate([self.records, *records]), axis=0)
        whole = io.BytesIO()  # NumPy's own writer says nothing of what a full disk was short of
        np.save(whole, self.records)
        write_bytes(self._path, whole.getbuffer())


def records_used(episode: Episode, knowledge: KnowledgeSet, rows: NDArray[np.int64]) -> Digests:
    """(M, 16) digests of the cache records that serve these rows of an episode."""
    arrays = episode.read("digest", "state_digest", "action")
    texts = knowledge.record_digests_used(arrays["digest"][rows], arrays["state_digest"][rows])
    acted = rows[rows < episode.steps]
    words = action_words(arrays["action"][acted])
    judged = knowledge.record_digests_used(arrays["digest"][acted], arrays["state_digest"][acted], words)
    return np.unique(np.concatenate([texts, judged]), axis=0)
