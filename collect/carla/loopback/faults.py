"""Faults that the loopback server shows on request from a given tick on, to test clients against."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from typing import Final

KINDS: Final = {
    "none": "behave",
    "drop": "close every connection once, then go on serving new ones",
    "delay": "answer every tick `seconds` late",
    "wrong-frame": "stamp pictures and collisions with the frame before",
    "no-pictures": "send no more pictures",
    "die": "be killed in the middle of a tick",
    "hang": "keep every connection open and answer nothing any more",
    "leak": "take `megabytes` more memory with every tick",
}
"""What each fault does."""


@dataclass
class Fault:
    """The fault `kind` of KINDS, from the tick number `after` on; only ticks that clients ask for count."""

    kind: str = "none"
    after: int = 0
    seconds: float = 1.0
    megabytes: int = 10
    _asked: int = 0
    _dropped: bool = False
    _hoard: list[bytes] = field(default_factory=list)

    def active(self, kind: str) -> bool:
        """Whether the fault `kind` is to show."""
        return self.kind == kind and self._asked >= self.after

    def tick_asked(self) -> None:
        """Do what must be done now that a client has asked for a tick and has not had it yet."""
        self._asked += 1
        if self.active("delay"):
            time.sleep(self.seconds)
        elif self.active("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.active("leak"):
            self._hoard.append(os.urandom(4096) * (self.megabytes * 256))
        while self.active("hang"):
            time.sleep(1.0)  # a signal still ends the process

    def drops(self) -> bool:
        """Whether the connections are to be closed now; true once."""
        due = self.active("drop") and not self._dropped
        self._dropped |= due
        return due
