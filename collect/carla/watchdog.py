"""The watchdog of one server process: a script that ends the server when its owner is gone. Stdlib only.

    python watchdog.py LOG STOP COMMAND...

The server's output goes to LOG. When standard input ends (the owner closed it, or was killed), the server's process
group is ended and STOP, a command line, is run if there is one. Exits with the server's exit code.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Final

GRACE: Final = 3.0
"""Seconds between asking a server to end and killing it."""
LOOK: Final = 0.1
"""Seconds between looks at whether the server still runs."""


def keep(log: str, stop: str, command: list[str]) -> int:
    """Run `command` until it ends or until standard input does."""
    with open(log, "wb") as output:
        try:
            server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:
            output.write(f"{command[0]}: {error}\n".encode())
            return 127
        while server.poll() is None and not select.select([sys.stdin], [], [], LOOK)[0]:
            pass
        _signal(server, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(GRACE)
        _signal(server, signal.SIGKILL)  # also what a server that has ended by itself left of its group
        if stop:
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(shlex.split(stop), stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=60)
        return server.wait()


def _signal(server: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(server.pid, number)


if __name__ == "__main__":
    for owners in (signal.SIGINT, signal.SIGUSR1):  # Ctrl-C, and SLURM's warning to every process of a job
        signal.signal(owners, signal.SIG_IGN)
    code = keep(sys.argv[1], sys.argv[2], sys.argv[3:])
    sys.exit(code if code >= 0 else 128 - code)
