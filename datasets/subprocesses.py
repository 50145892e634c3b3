"""Worker processes that end with the process that started them, also when it is killed."""

from __future__ import annotations

import ctypes
import signal


def die_with_parent() -> None:
    """Have the kernel end this process when the thread that started it ends (Linux only)."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
