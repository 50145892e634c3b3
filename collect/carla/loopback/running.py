"""The loopback server in a process of its own for the length of a block, for tests and benchmarks."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from semore.datasets.errors import SemoreError


@dataclass(frozen=True)
class Running:
    """A server's process and the port it answers on, at 127.0.0.1."""

    process: subprocess.Popen[str]
    port: int


@contextmanager
def running(*options: str) -> Iterator[Running]:
    """Start a server on free ports with further command-line `options`, and end it with the block.

    SemoreError when it ends before it is ready."""
    command = [sys.executable, "-m", "semore.collect.carla.loopback", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        ready = re.match(r"loopback: CARLA \S+ on [\d.]+:(\d+)", line)
        if ready is None:
            raise SemoreError(f"the loopback server did not start: {' '.join(command)} said {line!r}")
        yield Running(process, int(ready.group(1)))
    finally:
        process.kill()  # it holds nothing worth saving, and a hostile one ignores gentler words
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
