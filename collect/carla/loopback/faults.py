"""A server's bad days, on purpose: what it does wrong from a given tick on, for clients to be tested against."""

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
    """The fault `kind` of KINDS, from the tick number `after` of the server's life on."""

    kind: str = "none"
    after: int = 0
    seconds: float = 1.0
    megabytes: int = 10
    _hoard: list[bytearray] = field(default_factory=list)
    _dropped: bool = False

    def at_tick(self, ticks: int) -> None:
        """Do what must be done when tick number `ticks` has been asked for and not yet been taken."""
        if not self.on(ticks):
            return
        if self.kind == "delay":
            time.sleep(self.seconds)
        elif self.kind == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.kind == "hang":
            while True:
                time.sleep(1.0)  # SIGTERM still ends the process
        elif self.kind == "leak":
            self._hoard.append(bytearray(os.urandom(4096) * (self.megabytes * 256)))

    def drops(self, ticks: int) -> bool:
        """Whether the connections are to be closed now; true once."""
        due = self.kind == "drop" and self.on(ticks) and not self._dropped
        self._dropped |= due
        return due

    def on(self, ticks: int) -> bool:
        return self.kind != "none" and ticks >= self.after
