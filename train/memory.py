"""Freed memory stays with the process: an update asks for the same tens of megabytes again and again."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt (malloc.h)."""
KEPT: Final = 2**31 - 1
LARGEST: Final = 32 * 2**20
"""The most that glibc lets the threshold be beyond which it asks the system for each piece anew, in bytes."""


def keep_freed_memory() -> None:
    """Tell the C library not to hand large pieces back to the system, which clears every page of them when they are
    asked for again: a tenth of an update on small pictures, a fifth on larger ones. Without glibc it does nothing."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, LARGEST)
        library.mallopt(_TRIM_THRESHOLD, KEPT)
