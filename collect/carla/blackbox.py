"""The black box of a simulator failure: a JSON file with the last known facts of episode, client and server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from semore.collect.carla.server import Sample, Server
from semore.datasets.atomic_io import write_json


def write_black_box(folder: Path, server: Server, about: dict[str, Any], trace: Sequence[str]) -> Path:
    """Write `<folder>/<UTC time>-<port>.json` and return its path.

    It holds `about` (the reason, the episode, the step, and where time was spent), the client's last ticks and calls,
    and the server's last lines of output and its memory."""
    moment = datetime.now(UTC)
    path = folder / f"{moment:%Y%m%dT%H%M%S.%f}-{server.port}.json"
    now = time.monotonic()
    content = {
        "time": moment.isoformat(timespec="milliseconds"),
        "port": server.port,
        **about,
        "server_started_here": server.ours,
        "server_exit_code": server.exit_code,
        "memory_slope_mib_per_minute": memory_slope(server.samples),
        "memory_mib": [[round(s.seconds - now, 1), round(s.bytes / 2**20, 1)] for s in list(server.samples)[-100:]],
        "last_calls": list(trace),
        "server_output": server.tail(),
    }
    write_json(path, content)
    return path


def memory_slope(samples: Sequence[Sample]) -> float | None:
    """Growth of memory in MiB per minute, by least squares; None with fewer than two samples."""
    if len({sample.seconds for sample in samples}) < 2:
        return None
    seconds, held = np.array(samples, np.float64).T
    return round(float(np.polyfit(seconds - seconds[0], held, 1)[0]) * 60 / 2**20, 3)
