"""Units of work: a plan's frames dealt out as shares that last long enough to be worth a commit, and no longer."""

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
"""Share of the time worked so far that may be lost when a worker dies: what a share may last, within the bounds."""
SHORTEST: Final = 1.0
"""Seconds a share should last at least: below, scheduling and committing it would cost too much of it."""


@dataclass(frozen=True)
class WorkChunk:
    """Frames that are annotated together and committed together. `deaths` counts the workers that died over it."""

    parts: tuple[Part, ...]
    deaths: int = 0

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def batches(self, size: int) -> Iterator[tuple[Part, ...]]:
        """The frames in groups of `size` (the last one smaller), across episodes."""
        yield from _grouped(deque(self.parts), size)

    def halves(self) -> tuple[WorkChunk, WorkChunk]:
        """Two shares of half the frames each; ValueError for a single frame."""
        if len(self) < 2:
            raise ValueError("a share of one frame cannot be halved")
        first, *rest = self.batches(len(self) // 2)
        return WorkChunk(first, self.deaths), WorkChunk(tuple(part for group in rest for part in group), self.deaths)


class WorkerDied(Exception):
    """Frames that took their worker with them; its name begins the reason of their failed records."""


class ChunkQueue:
    """Deals a plan's frames in order. How many go into a share follows from the speed seen so far.

    batch: frames a producer gets at once; a share is a multiple of it, and the first ones are one batch each. longest:
    seconds a share may last. Frames over which workers died in an earlier pass come last, alone, and have one try.
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
        """The next share, None when all are dealt."""
        if self._returned:
            return self._returned.pop()
        if (group := next(_grouped(self._left, self._size()), None)) is not None:
            return WorkChunk(group)
        return self._deadly.pop() if self._deadly else None

    def give_back(self, *shares: WorkChunk) -> None:
        """Deal these again."""
        self._returned += shares

    def learn(self, frames: int, seconds: float) -> None:
        """Note that a share of `frames` took so long."""
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
