"""One episode in memory while it is driven: a listener of DrivingEnv that gathers frames and steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from semore.collect.digests import digested
from semore.collect.env import SimStep, ego_row
from semore.collect.simulator import Snapshot
from semore.datasets.rollouts.schema import FRAME_ARRAYS, MAX_EPISODE_STEPS, STEP_ARRAYS
from semore.datasets.rollouts.store import Digested


class _Rows:
    """Rows of one shape in a growing array: each is copied once, when it arrives. Unfilled room costs no memory, and
    room once touched is used again: fetching fresh pages from the system takes longer than copying into them."""

    def __init__(self, dtype: str) -> None:
        self._dtype, self._count = dtype, 0
        self._room: NDArray[Any] | None = None

    def add(self, row: Any) -> None:
        if self._room is None or (self._count == 0 and self._room.shape[1:] != np.shape(row)):
            self._room = np.empty((MAX_EPISODE_STEPS + 1, *np.shape(row)), self._dtype)
        elif self._count == len(self._room):
            self._room = np.concatenate([self._room, np.empty_like(self._room)])
        self._room[self._count] = row
        self._count += 1

    def clear(self) -> None:
        self._count = 0

    def array(self) -> NDArray[Any]:
        """All rows, (N, …) and contiguous: a view, good until `clear`."""
        return np.empty(0, self._dtype) if self._room is None else self._room[: self._count]


class EpisodeRecorder:
    """Gathers one episode in memory: T steps, and T + 1 frames, the first of which is `first`, the frame after the
    warm-up."""

    def __init__(self, first: Snapshot) -> None:
        self._frames = {name: _Rows(FRAME_ARRAYS[name]) for name in ("rgb", "semantic", "instance", "actors", "ego")}
        self._steps = {name: _Rows(dtype) for name, dtype in STEP_ARRAYS.items()}
        self.begin(first)

    def begin(self, first: Snapshot) -> None:
        """Forget what there is and gather the next episode; arrays handed out before are overwritten."""
        for rows in (*self._frames.values(), *self._steps.values()):
            rows.clear()
        self._add_frame(first)

    def __call__(self, step: SimStep) -> None:
        """Take one simulator step; the listener of DrivingEnv."""
        for name, rows in self._steps.items():
            rows.add(getattr(step, name))
        self._add_frame(step.snapshot)

    def arrays(self) -> Digested:
        """Every array of datasets.rollouts.schema, frame and state digests included."""
        parts = {**self._frames, **self._steps}
        return digested({name: rows.array() for name, rows in parts.items()})

    def _add_frame(self, snapshot: Snapshot) -> None:
        images = snapshot.images
        row = (images.rgb, images.semantic, images.instance, snapshot.actors, ego_row(snapshot))
        for rows, value in zip(self._frames.values(), row, strict=True):
            rows.add(value)
