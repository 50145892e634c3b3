"""Progress with rate and ETA: a rich bar on a terminal, and a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

PLAIN_SECONDS = 10.0


class Meter:
    """Counts work done; `advance` is cheap enough to call per episode, batch or hundred updates."""

    def __init__(self, label: str, total: int, unit: str, done: int = 0) -> None:
        self._label, self._total, self._unit, self._done, self._initial = label, total, unit, done, done
        self._start = self._last = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[rate]}"), console=Console(stderr=True))
            self._task = self._bar.add_task(label, total=total, completed=done, rate="")
            self._bar.start()

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count `amount` units as done and show it."""
        self._done += amount
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, rate=self._rate(note))
        elif time.monotonic() - self._last >= PLAIN_SECONDS or self._done == self._total:
            self._last = time.monotonic()
            print(f"{self._label}: {self._done}/{self._total} {self._rate(note)}", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Print a line without tearing the bar."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _rate(self, note: str) -> str:
        rate = (self._done - self._initial) / max(time.monotonic() - self._start, 1e-9)
        left = (self._total - self._done) / rate if rate > 0 else 0.0
        return f"{rate:,.1f} {self._unit}/s, {left:,.0f} s left{'  ' + note if note else ''}"


@contextmanager
def meter(label: str, total: int, unit: str, done: int = 0) -> Iterator[Meter]:
    """A Meter that is closed at the end of the block, also after an exception."""
    counter = Meter(label, total, unit, done)
    try:
        yield counter
    finally:
        counter.close()
