"""The life of one CARLA server: found running or started, watched, ended and started again."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from semore.collect.carla import fitness, watchdog
from semore.collect.carla.ping import Identity, identity
from semore.collect.carla.ports import Lease
from semore.collect.carla.settings import CarlaSettings
from semore.datasets.atomic_io import missing_folders, remove_empty
from semore.datasets.errors import SemoreError

TAIL: Final = 60
"""Lines of a server's output worth showing."""
STARTS: Final = 3
"""Tries to start a server before giving up: right after a crash its ports or its GPU may not be free yet."""
LOOK: Final = 0.2
"""Seconds between looks at whether a server answers yet."""
DYING: Final = 1.0
"""Seconds a dying server may take to be dead."""


class Sample(NamedTuple):
    """The memory of the server's processes in bytes, and the time of a steady clock in seconds."""

    seconds: float
    bytes: int


class Server:
    """The server on a leased port. It ends only servers that it has started itself, and a started server also ends when
    this process does (watchdog.py)."""

    def __init__(self, settings: CarlaSettings, lease: Lease) -> None:
        self._settings, self._lease = settings, lease
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._known = False  # whether it could be driven on before
        self._remark = ""  # what was last said of it
        self.port = lease.port
        self.log = Path(settings.logs) / f"server-{self.port}.log"
        """Output of the server when it was started here."""
        self._made: list[Path] = []  # folders there were none of before it
        self.samples: deque[Sample] = deque(maxlen=1_000)
        """Its memory over time, since its start."""

    @property
    def ours(self) -> bool:
        """Whether it was started here."""
        return self._watchdog is not None

    @property
    def exit_code(self) -> int | None:
        """Of a server started here; None while it runs. 128 + n for one that signal n ended."""
        return self._watchdog.poll() if self._watchdog else None

    def ready(self) -> Identity:
        """Have it running and answering; returns who it is. SemoreError when it can't be had, or can't be driven on.

        A server that somebody else starts is asked once, or for `patience` seconds; one that was there before is
        awaited like one that is started here."""
        found = self.look()
        if found is None:
            found = self._started() if self._settings.command else self._returned()
        if found is None:
            raise SemoreError(self._absence())
        verdict = fitness.server(found, self._settings.host)
        if not verdict.fit:
            raise SemoreError(f"CARLA server at {self._where}: {verdict.remark}")
        if verdict.remark != self._remark:
            print(f"carla: {self._where}: {verdict.remark}", file=sys.stderr, flush=True)
        self._known, self._remark = True, verdict.remark
        return found

    def look(self) -> Identity | None:
        """Who answers right now."""
        return identity(self._settings.host, self.port, self._settings.timeout)

    def settle(self) -> None:
        """Give a server that is dying a moment to be dead, so that its exit code and last words can be had."""
        if self._watchdog is not None:
            with suppress(subprocess.TimeoutExpired):
                self._watchdog.wait(DYING)

    def measure(self) -> int:
        """Bytes of memory its processes hold now, 0 for a server not started here; remembered in `samples`."""
        held = 0
        if self._watchdog is not None:
            with suppress(psutil.NoSuchProcess):  # it is just ending; whoever drives on it will notice
                for process in psutil.Process(self._watchdog.pid).children(recursive=True):
                    held += process.memory_info().rss
            self.samples.append(Sample(time.monotonic(), held))
        return held

    def tail(self) -> list[str]:
        """Its last lines of output; none of a server not started here."""
        if not self.ours or not self.log.exists():
            return []
        return self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]

    def stop(self) -> None:
        """End it if it was started here; returns when it is gone. Harmless twice."""
        if self._watchdog is None:
            return
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.close()
        self._watchdog.wait()
        self._watchdog = None
        if self.log.exists() and not self.log.stat().st_size:  # it had nothing to say
            self.log.unlink()
            remove_empty(self._made)

    def _started(self) -> Identity | None:
        for _ in range(STARTS):
            self.stop()
            self._start()
            if (found := self._awaited(self._settings.start_timeout)) is not None:
                return found
        return None

    def _returned(self) -> Identity | None:
        """A server that somebody else started, or will."""
        if not self._waits:
            return None
        print(f"carla: nothing answers at {self._where}, waiting up to {self._waits:g} s", file=sys.stderr, flush=True)
        return self._awaited(self._waits)

    @property
    def _where(self) -> str:
        return f"{self._settings.host}:{self.port}"

    @property
    def _waits(self) -> float:
        """Seconds to wait for a server that is not started here."""
        return self._settings.start_timeout if self._known else self._settings.patience

    def _start(self) -> None:
        words = shlex.split(self._settings.command.replace("{port}", str(self.port)))
        if shutil.which(words[0]) is None:
            raise SemoreError(f"carla.command: {words[0]} does not exist or cannot be run")
        self._made = missing_folders(self.log.parent)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        stop = self._settings.stop.replace("{port}", str(self.port))
        self.samples.clear()
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", watchdog.__file__, str(self.log), stop, *words],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=[self._lease.fileno()], start_new_session=True,
        )  # fmt: skip

    def _awaited(self, seconds: float) -> Identity | None:
        deadline = time.monotonic() + seconds
        while self.exit_code is None and time.monotonic() < deadline:
            if (found := self.look()) is not None:
                return found
            time.sleep(LOOK)
        return None

    def _absence(self) -> str:
        if not self._settings.command:
            waited = f" within {self._waits:g} s" if self._waits else ""
            return (
                f"no CARLA server answered at {self._where}{waited}; start one (docs/carla.md), have it started with "
                '--carla.command "..." (CARLA="..." with make), or have one that is about to start waited for with '
                "--carla.patience 120"
            )
        ending = "does not answer" if self.exit_code is None else f"ended with code {self.exit_code}"
        said = "\n  ".join(self.tail()[-10:]) or "nothing"
        return (
            f"the CARLA server started for {self._where} {ending} ({STARTS} tries of up to "
            f"{self._settings.start_timeout:g} s); its last words, from {self.log}:\n  {said}"
        )
