"""The annotators' protocols: Describer (frame → phrases), Segmenter (phrase → soft mask), Judge (action → verdict)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from semore.datasets.knowledge.cache import SetManifest
from semore.datasets.knowledge.merge import Merge
from semore.datasets.knowledge.records import INVALID, Digests, Identity, Status, Text, is_privileged
from semore.datasets.rollouts.store import Episode

MAX_PHRASES: Final = 8
"""Phrases per frame at most (method.md §8)."""
FRAME_SOURCES: Final = ("rgb", "digest", "state_digest", "semantic", "instance", "actors", "ego")
"""The recorded arrays that a FrameBatch is made of, in the order of its fields."""
PICTURES: Final = 3
"""Number of arrays at the front of FRAME_SOURCES that an unprivileged producer may read."""


@dataclass(frozen=True)
class FrameBatch:
    """B frames, as recorded (layouts: datasets.rollouts.schema).

    rgb (B, H, W, 3) uint8 is all a learned producer may look at; frames and states (B, 16) are the digests that key the
    cache. Privileged: semantic (B, H, W) uint8, instance (B, H, W) uint16, actors (B, A, 14), ego (B, 17) float32.
    Frames of episodes with fewer actors are filled up with actors of id 0, which stand for nobody. Where no producer is
    privileged, those four are not read: they are (B, 0).
    """

    rgb: NDArray[np.uint8]
    frames: Digests
    states: Digests
    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint16]
    actors: NDArray[np.float32]
    ego: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rgb)

    def take(self, rows: Any) -> FrameBatch:
        """The frames at `rows` (indices or a boolean mask); views where they lie side by side."""
        chosen: Any = np.arange(len(self))[rows]
        if len(chosen) == len(self) and (chosen == np.arange(len(self))).all():
            return self
        if len(chosen) and chosen[-1] - chosen[0] + 1 == len(chosen) and (np.diff(chosen) == 1).all():
            chosen = slice(int(chosen[0]), int(chosen[-1]) + 1)
        return FrameBatch(*(array[chosen] for array in self._arrays()))

    @staticmethod
    def read(episode: Episode, privileged: bool) -> FrameBatch:
        """All frames of an episode; the privileged arrays are read only with `privileged`."""
        names = FRAME_SOURCES if privileged else FRAME_SOURCES[:PICTURES]
        arrays = episode.read(*names)
        unread: NDArray[Any] = np.zeros((episode.steps + 1, 0), np.uint8)
        return FrameBatch(*(arrays.get(name, unread) for name in FRAME_SOURCES))

    @staticmethod
    def joined(batches: Sequence[FrameBatch]) -> FrameBatch:
        """The frames of several batches of one picture size, in order."""
        if len(batches) == 1:
            return batches[0]
        most = max(batch.actors.shape[1] for batch in batches)
        filled = [
            replace(batch, actors=np.pad(batch.actors, ((0, 0), (0, most - batch.actors.shape[1]), (0, 0))))
            if batch.actors.shape[1] < most
            else batch
            for batch in batches
        ]
        return FrameBatch(*map(np.concatenate, zip(*(batch._arrays() for batch in filled), strict=True)))

    def _arrays(self) -> tuple[NDArray[Any], ...]:
        return self.rgb, self.frames, self.states, self.semantic, self.instance, self.actors, self.ego


class Verdict(NamedTuple):
    """A judge's answer: 1 reasonable, 0 not (or uncertain), INVALID (255) with status EMPTY or FAILED and a reason."""

    value: int
    status: Status = Status.OK
    reason: str = ""

    @staticmethod
    def invalid(reason: str, status: Status = Status.EMPTY) -> Verdict:
        """An answer that is neither 1 nor 0."""
        return Verdict(INVALID, status, reason)


class Describer(Protocol):
    """Names what matters for driving in each frame."""

    @property
    def identity(self) -> Identity:
        """Everything that can change an answer; `privileged: True` when it looks at more than rgb."""

    def load(self) -> None:
        """Load weights, once, before the work; a second call does nothing. Making a producer and asking its identity
        needs no weights. SemoreError when they are missing or broken."""

    def describe(self, batch: FrameBatch) -> Sequence[Text]:
        """B answers: at most MAX_PHRASES distinct phrases each. Status OK without phrases: nothing relevant in view;
        EMPTY: no usable answer; FAILED: with a reason. An exception fails only the frame that causes it."""


class Segmenter(Protocol):
    """Finds the pixels that a phrase names."""

    @property
    def identity(self) -> Identity:
        """See Describer.identity."""

    def load(self) -> None:
        """See Describer.load."""

    def segment(self, batch: FrameBatch, phrases: Sequence[Sequence[str]]) -> NDArray[np.uint8]:
        """(M, H, W) uint8 soft masks, 0–255 for [0, 1], frame by frame, each frame's phrases in order; M is the number
        of phrases. All zeros where the phrase names nothing in view."""


class Judge(Protocol):
    """Says whether an action is reasonable (method.md §6.1)."""

    @property
    def identity(self) -> Identity:
        """See Describer.identity."""

    def load(self) -> None:
        """See Describer.load."""

    def judge(self, batch: FrameBatch, actions: Sequence[str]) -> Sequence[Verdict]:
        """B verdicts on the B actions in words (datasets.action_text)."""


@dataclass(frozen=True)
class Producers:
    """The describer, segmenter and judge of a pass; without a judge there are no verdicts.

    They travel to other processes by pickle, and a copy is as new: no weights, locks or connections go with it, nor
    what was looked up about files here, so that on another machine its identity tells of the files there.
    """

    describer: Describer
    segmenter: Segmenter
    judge: Judge | None

    @property
    def privileged(self) -> bool:
        """Whether any of them reads more than pictures."""
        everybody = (self.describer, self.segmenter, self.judge)
        return any(is_privileged(producer.identity) for producer in everybody if producer is not None)

    def manifest(self, merge: Merge = "max", recipe: Mapping[str, Any] | None = None) -> SetManifest:
        """The manifest of the knowledge set that they fill; `recipe` holds the settings to make them again with."""
        judge = self.judge.identity if self.judge is not None else None
        return SetManifest(self.describer.identity, self.segmenter.identity, judge, merge, dict(recipe or {}))

    def load(self) -> None:
        """Load the weights of all producers."""
        for producer in (self.describer, self.segmenter, self.judge):
            if producer is not None:
                producer.load()
