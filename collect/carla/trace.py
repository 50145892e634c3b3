"""The client process's last calls to the server, readable from outside even after it has died."""

from __future__ import annotations

import ctypes
from multiprocessing.context import SpawnContext
from typing import Any, Final

LINES: Final = 128
"""How many are kept."""
_WIDTH: Final = 80


class Trace:
    """A ring of LINES short lines in shared memory: one process writes it, and another reads it after the first has
    ended."""

    def __init__(self, context: SpawnContext) -> None:
        self._text: Any = context.RawArray(ctypes.c_char, LINES * _WIDTH)
        self._count: Any = context.RawValue(ctypes.c_uint64, 0)

    def write(self, line: str) -> None:
        """Add a line; what is longer than 80 bytes is cut."""
        start = self._count.value % LINES * _WIDTH
        self._text[start : start + _WIDTH] = line.encode(errors="replace")[:_WIDTH].ljust(_WIDTH)
        self._count.value += 1

    def read(self) -> list[str]:
        """The lines kept, oldest first."""
        end = self._count.value
        starts = (number % LINES * _WIDTH for number in range(max(0, end - LINES), end))
        return [self._text[start : start + _WIDTH].decode(errors="replace").rstrip() for start in starts]
