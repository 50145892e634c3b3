"""Leases on server ports, so that each server has one user. The kernel holds them: a crash leaves none behind."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, TextIO

from semore.collect.carla.settings import CarlaSettings
from semore.datasets.errors import SemoreError

MEMORY: Final = Path("/dev/shm")
"""Where leases lie when the temporary folder has no locks."""
LOOK: Final = 0.2
"""Seconds between looks for a free server."""


class Lease:
    """The right to drive on the server at `port` until `close`. A started server holds it too, until it has ended."""

    def __init__(self, port: int, handle: TextIO) -> None:
        self.port, self._handle = port, handle

    def fileno(self) -> int:
        """The lock's file descriptor: a process that inherits it shares the lease."""
        return self._handle.fileno()

    def close(self) -> None:
        """Give it back; harmless twice."""
        self._handle.close()

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def lease(settings: CarlaSettings, patience: float) -> Lease:
    """A lease on the first server on which no process of this user on this machine drives, waiting up to `patience`
    seconds for one; SemoreError naming the holders otherwise."""
    deadline = time.monotonic() + patience
    while True:
        holders = []
        for port in settings.ports():
            taken = _take(f"{settings.host.replace('/', '_')}-{port}.lock")
            if not isinstance(taken, str):
                return Lease(port, taken)
            holders.append(f"{settings.host}:{port} by {taken}")
        if time.monotonic() >= deadline:
            raise SemoreError(
                f"all CARLA servers are in use ({', '.join(holders)}); wait for them, or raise carla.servers"
            )
        time.sleep(LOOK)


def _take(name: str) -> TextIO | str:
    """The locked file of this name, or who has it. The temporary folder may lie where there are no locks, as on a
    cluster's file system; this machine's memory has them. SemoreError when neither has."""
    tried = []
    for folder in dict.fromkeys((Path(tempfile.gettempdir()), MEMORY)):
        try:
            return _locked(folder / f"semore-carla-{os.getuid()}" / name)
        except OSError as error:
            tried.append(f"{folder}: {error.strerror}")
    raise SemoreError(f"no folder for the leases on CARLA servers ({'; '.join(tried)}); set TMPDIR to a local folder")


def _locked(path: Path) -> TextIO | str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = open(path, "a+", encoding="utf-8")  # noqa: SIM115  (the lease closes it)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if not isinstance(error, BlockingIOError):
            handle.close()
            raise
        handle.seek(0)
        holder = handle.read().strip()
        handle.close()
        return holder or "an unknown process"
    handle.truncate(0)
    handle.write(f"process {os.getpid()}\n")
    handle.flush()
    return handle
