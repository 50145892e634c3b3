"""A lock for file systems that have none of the kernel's (Lustre mounted without flock, some NFS, CIFS and FUSE): a
file for each process that wants it, named after that process.

Whoever comes makes its own file before it looks for others': two that come at once may both give way and try again, but
never both go on. A killed process leaves its file; its name tells who it was, so the next one on that machine knows it
is gone and removes it. No two processes ever share a name, so nobody's file is taken for another's."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Final, NamedTuple

from semore.datasets.errors import SemoreError

UNSUPPORTED: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
"""What flock and fsync answer where a file system does not have them."""
TRIES: Final = 4
"""Looks, with a random pause between two, before another's file is taken for a lock that is held."""
PAUSE: Final = 0.05
"""Longest pause in seconds."""


def has_locks(folder: Path) -> bool:
    """Whether files in this folder can be locked with flock."""
    with tempfile.TemporaryFile(dir=folder) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            return False
    return True


class _Process(NamedTuple):
    """A process as no other ever is: where it runs (machine, its start, namespace of numbers), and since when."""

    machine: str
    boot: str
    namespace: str
    number: str
    start: str

    @classmethod
    def this(cls) -> _Process:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
        number = str(os.getpid())
        return cls(os.uname().nodename, boot, str(os.stat("/proc/self/ns/pid").st_ino), number, _start(number))

    def near(self, other: _Process) -> bool:
        """Whether this process can be seen from the other one."""
        return self[:3] == other[:3]

    @property
    def gone(self) -> bool:
        """Whether it has ended; only to be asked of one that is near."""
        return _start(self.number) != self.start


def _start(number: str) -> str:
    """When the process of this number started, in ticks since the machine's start; "" when there is none."""
    try:
        return Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


@contextmanager
def named_lock(path: Path, purpose: str) -> Iterator[None]:
    """Hold `path` as a lock for this process; SemoreError naming the holder when another one has it."""
    me = _Process.this()
    own = path.with_name(f"{path.name}.held-{'.'.join(me)}")
    for left in reversed(range(TRIES)):
        holder = _taken(path, own, me)
        if holder is None:
            break
        if not left:
            raise SemoreError(_refusal(path, holder, purpose, me))
        time.sleep(random.uniform(0.0, PAUSE))
    try:
        yield
    finally:
        own.unlink(missing_ok=True)


def _taken(path: Path, own: Path, me: _Process) -> Path | None:
    """The file of somebody else who wants or has the lock; None when `own` is there, alone."""
    try:
        os.close(os.open(own, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        return own  # another thread, or further up in this one
    for other in sorted(path.parent.glob(f"{escape(path.name)}.held-*")):
        if other == own:
            continue
        if (process := _process(path, other)).near(me) and process.gone:
            other.unlink(missing_ok=True)
            continue
        own.unlink()
        return other
    return None


def _process(path: Path, file: Path) -> _Process:
    return _Process(*file.name.removeprefix(f"{path.name}.held-").rsplit(".", 4))


def _refusal(path: Path, holder: Path, purpose: str, me: _Process) -> str:
    process = _process(path, holder)
    told = (
        f"{path}: {purpose} is already running as process {process.number} on {process.machine}; wait for it or stop it"
    )
    if process.near(me):
        return told
    return f"{told}. This file system has no locks that end with their process: if that one is gone, remove {holder}"
