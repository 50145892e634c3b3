"""A full disk as one clear error: which file could not be written, what it takes, what is free, and what to do."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from semore.datasets.errors import SemoreError

REASONS: Final = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your quota of the disk is used up",
    errno.EFBIG: "no file may become so large here (ulimit -f)",
}


def want_of_space(error: BaseException) -> str | None:
    """What a failed write was short of; None when it failed for another reason. Libraries written in C put the system's
    words into errors of their own."""
    for number, reason in REASONS.items():
        if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
            return reason
    return None


@contextmanager
def room_for(path: Path, needed: Callable[[], str] = str) -> Iterator[None]:
    """Turn a want of space met while `path` is written into a SemoreError; `needed` says how much the file takes, if
    that is known."""
    try:
        yield
    except SemoreError:
        raise
    except Exception as error:
        reason = want_of_space(error)
        if reason is None:
            raise
        folder = next(each for each in path.absolute().parents if each.is_dir())
        takes = f"it takes {size}, and " if (size := needed()) else ""
        raise SemoreError(
            f"{path} cannot be written: {reason}; {takes}{megabytes(shutil.disk_usage(folder).free)} are free there. "
            "Make room; what was written before is whole, and the same command goes on"
        ) from None


def megabytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 1e6:,.1f} MB"
