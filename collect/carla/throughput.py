"""Where the time of driving on CARLA servers goes: ticks, waiting for pictures, and our own work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

PARTS: Final = (("tick", "server tick"), ("camera", "camera wait"), ("own", "our overhead"))


def throughput(accounts: Sequence[dict[str, float]], seconds: float) -> str:
    """One line from the timings of several simulators (collect.carla.supervisor.Client.timings) that drove side by side
    for `seconds`: steps, steps per second, and milliseconds per step of each part."""
    steps = sum(account.get("steps", 0.0) for account in accounts)
    parts = [
        f"{name} {1e3 * sum(account.get(key, 0.0) for account in accounts) / max(steps, 1.0):.2f} ms"
        for key, name in PARTS
    ]
    servers = len([account for account in accounts if account])
    return (
        f"carla: {steps:,.0f} steps on {servers} server(s), {steps / max(seconds, 1e-9):,.0f} steps/s in all; per step "
        f"{', '.join(parts)}"
    )
