"""How many CPU cores there are for us."""

from __future__ import annotations

import os


def cores() -> int:
    """Cores that this process may run on: those that `taskset`, a container's cpuset or a cluster's scheduler left it,
    which can be few of the machine's."""
    return len(os.sched_getaffinity(0))
