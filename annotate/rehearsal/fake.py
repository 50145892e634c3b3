"""Fake producers that burn processor time and answer by the frame's digest."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.annotate.interfaces import FrameBatch, Producers, Verdict
from semore.annotate.rehearsal.faults import NO_FAULTS, Faults
from semore.datasets.knowledge.records import Identity, Text

NOUNS: Final = ("car ahead", "oncoming car", "pedestrian crossing the road", "cyclist ahead")


_BLOCK: Final = bytes(1 << 18)  # a quarter of a millisecond's work


def burn(seconds: float) -> None:
    """Keep this thread's processor busy for so many seconds of its own time, without Python's lock for most of it, as a
    network's layers do."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        blake2b(_BLOCK)


@dataclass(frozen=True)
class FakeProducer:
    """Describer, segmenter and judge at once; `seconds` per call. Phrases, masks, verdicts follow from the digest."""

    role: str
    seconds: float = 0.05
    version: int = 1
    faults: Faults = field(default=NO_FAULTS)

    @property
    def identity(self) -> Identity:
        """Its role and version."""
        return {"role": self.role, "kind": "rehearsal", "version": self.version, "privileged": False}

    def load(self) -> None:
        """Arm the faults of this worker."""
        self.faults.arm()

    def describe(self, batch: FrameBatch) -> list[Text]:
        """0 to 3 phrases a frame."""
        self._think("texts", batch)
        garbled = self.faults.garbled(batch)
        return [
            Text(NOUNS[first % len(NOUNS) :][: second % 4]) if not bad else Text(("", ""))
            for first, second, bad in zip(
                batch.frames[:, 0].tolist(), batch.frames[:, 1].tolist(), garbled, strict=True
            )
        ]

    def segment(self, batch: FrameBatch, phrases: Sequence[Sequence[str]]) -> NDArray[np.uint8]:
        """A box for each phrase."""
        self._think("masks", batch)
        masks = np.zeros((sum(map(len, phrases)), *batch.rgb.shape[1:3]), np.uint8)
        place = 0
        for frame, named in zip(batch.frames, phrases, strict=True):
            for phrase in named:
                left, top = frame[2] % (masks.shape[2] // 2), frame[3] % (masks.shape[1] // 2)
                masks[place, top : top + 3 + len(phrase) // 4, left : left + 8] = 255
                place += 1
        return masks

    def judge(self, batch: FrameBatch, actions: Sequence[str]) -> list[Verdict]:
        """1 or 0."""
        self._think("verdicts", batch)
        return [Verdict(int(value) % 2) for value in batch.frames[:, 4]]

    def _think(self, level: str, batch: FrameBatch) -> None:
        burn(self.seconds)
        self.faults.strike(level, batch)


def fake_producers(seconds: float, faults: Faults = NO_FAULTS) -> Producers:
    """Three fake producers. The describer takes `seconds` per call, the others a tenth of it."""
    return Producers(
        FakeProducer("describer", seconds, faults=faults),
        FakeProducer("segmenter", seconds / 10, faults=faults),
        FakeProducer("judge", seconds / 10, faults=faults),
    )
