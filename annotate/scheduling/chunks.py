"""A plan's frames in chunks that last long enough to be worth a commit, and no longer."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from semore.annotate.scheduling.plan import Part, Plan

DEATHS: Final = 3
"""Workers that may die over a single frame before it is recorded as failed: one death may be an accident."""
AT_RISK: Final = 0.02
"""Fraction of the time worked so far that a chunk may last: this much may be lost when a worker dies."""
SHORTEST: Final = 1.0
"""Seconds that a chunk should last at least; in a shorter one, scheduling and committing take too large a part."""


@dataclass(frozen=True)
class WorkChunk:
    """Frames that are annotated and committed together. `deaths` counts the workers that died over them."""

    parts: tuple[Part, ...]
    deaths: int = 0

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def batches(self, size: int) -> Iterator[tuple[Part, ...]]:
        """The frames in groups of `size` (the last one smaller), across episodes."""
        yield from _grouped(deque(self.parts), size)

    def halves(self) -> tuple[WorkChunk, WorkChunk]:
        """Two chunks of half the frames each; ValueError for a single frame."""
        if len(self) < 2:
            raise ValueError("a chunk of one frame cannot be halved")
        first, *rest = self.batches(len(self) // 2)
        return WorkChunk(first, self.deaths), WorkChunk(tuple(part for group in rest for part in group), self.deaths)


class WorkerDied(Exception):
    """The failure of frames whose worker died; its name begins the reason of their records."""


class ChunkQueue:
    """Hands out a plan's frames in order, in chunks. The speed seen so far decides how many frames a chunk has.

    A chunk is a multiple of `batch`, the number of frames that a producer gets at once; the first chunks are one batch
    each. No chunk is meant to last more than `longest` seconds. Frames over which workers died in an earlier pass come
    last, each in a chunk of its own, and are tried once.
    """

    def __init__(self, plan: Plan, batch: int, longest: float) -> None:
        self._left: deque[Part] = deque()
        self._deadly: list[WorkChunk] = []
        for part in plan.parts:
            deadly = np.array([text is not None and text.reason.startswith(WorkerDied.__name__) for text in part.texts])
            self._deadly += [WorkChunk((part.take(np.array([at])),), DEATHS - 1) for at in np.flatnonzero(deadly)]
            if not deadly.all():
                self._left.append(part.take(np.flatnonzero(~deadly)))
        self._batch, self._longest = batch, longest
        self._frames, self._seconds = 0, 0.0
        self._returned: list[WorkChunk] = []

    def next(self) -> WorkChunk | None:
        """The next chunk; None when all have been handed out."""
        if self._returned:
            return self._returned.pop()
        if (group := next(_grouped(self._left, self._size()), None)) is not None:
            return WorkChunk(group)
        return self._deadly.pop() if self._deadly else None

    def give_back(self, *chunks: WorkChunk) -> None:
        """Hand these chunks out again."""
        self._returned += chunks

    def learn(self, frames: int, seconds: float) -> None:
        """Note that a chunk of `frames` frames took so many seconds."""
        self._frames += frames
        self._seconds += seconds

    def _size(self) -> int:
        if not self._frames:
            return self._batch
        lasting = min(max(AT_RISK * self._seconds, SHORTEST), max(self._longest, 0.0))
        batches = round(lasting * self._frames / max(self._seconds, 1e-9) / self._batch)
        return self._batch * max(batches, 1)


def _grouped(parts: deque[Part], size: int) -> Iterator[tuple[Part, ...]]:
    """Groups of `size` frames taken from the left of `parts`, which is used up; what is not asked for stays there."""
    while parts:
        group, room = [], size
        while parts and room:
            part = parts.popleft()
            if len(part) > room:
                parts.appendleft(part.take(np.arange(room, len(part))))
                part = part.take(np.arange(room))
            group.append(part)
            room -= len(part)
        yield tuple(group)
