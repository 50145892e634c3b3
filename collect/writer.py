"""Writes episodes on a thread of its own: it digests and compresses one while the next is driven."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final

from semore.collect.recording import EpisodeRecorder
from semore.datasets.rollouts.store import Arrays, Rollouts

WAITING: Final = 1
"""Episodes that may wait behind the one being written; 500 frames of 128² are 50 MB."""


class EpisodeWriter:
    """Writes episodes on a thread of its own, one after another in the order they are put; a context manager.

    An episode appears in `rollouts` whole or not at all, as Rollouts.write promises; `finished(name, steps)` is called
    in the putting thread once it is on disk. The error of a failed write is raised by the next `put`, or on leaving;
    nothing put after the failed one is written. Leaving waits until everything is on disk, also when it is an error of
    the driver's that ends the context: what was driven to its end is kept.
    """

    def __init__(self, rollouts: Rollouts, finished: Callable[[str, int], None]) -> None:
        self._rollouts, self._finished = rollouts, finished
        self._pool = ThreadPoolExecutor(1, "episode-writer")
        self._pending: deque[Future[tuple[str, int]]] = deque()
        self._failed = False
        self.spare: deque[EpisodeRecorder] = deque()
        """Recorders whose episode is on disk, to be used again."""

    def __enter__(self) -> EpisodeWriter:
        return self

    def put(
        self,
        name: str,
        arrays: Callable[[], Arrays],
        attributes: Mapping[str, Any],
        written: Callable[[], None] = lambda: None,
    ) -> None:
        """Have episode `name` written. `arrays()`, and `written()` once they are on disk, are called on the writer's
        thread, so what they compute costs the driver nothing; blocks while more than WAITING episodes stand before."""
        self._settle(WAITING)
        self._pending.append(self._pool.submit(self._write, name, arrays, attributes, written))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._settle(0)
        finally:
            self._pool.shutdown(wait=True)

    def _settle(self, left: int) -> None:
        """Tell of every episode on disk, and wait until at most `left` are not."""
        while self._pending and (len(self._pending) > left or self._pending[0].done()):
            self._finished(*self._pending[0].result())
            self._pending.popleft()

    def _write(
        self, name: str, arrays: Callable[[], Arrays], attributes: Mapping[str, Any], written: Callable[[], None]
    ) -> tuple[str, int]:
        if self._failed:
            raise RuntimeError(f"episode {name} was put behind one that could not be written")
        try:
            rows = arrays()
            self._rollouts.write(name, rows, attributes)
        except BaseException:
            self._failed = True
            raise
        steps = len(rows["action"])
        written()
        return name, steps
