"""A server that speaks CARLA 0.9.16's protocol, with the embedded world behind it (docs/loopback.md)."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from types import FrameType

from semore.datasets.command_line import read_settings
from semore.datasets.errors import SemoreError
from semore.datasets.run_command import run_command


@dataclass(frozen=True)
class LoopbackSettings:
    """What to serve, where, and what to do wrong on purpose."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 2000
    """For procedures; streams use the next one. 0: any free pair."""
    map: str = "Town01"
    """Town01 or Town04."""
    fault: str = "none"
    """What to do wrong on purpose; docs/loopback.md lists the faults."""
    after: int = 0
    """Ticks that clients must ask for before the fault."""
    seconds: float = 1.0
    """How late `fault delay` answers."""
    megabytes: int = 10
    """What `fault leak` takes with every tick."""


def check(chosen: LoopbackSettings) -> None:
    """SemoreError naming the choices when the map or fault is none of them."""
    from semore.collect.carla.loopback.faults import KINDS
    from semore.collect.embedded.maps.town import SPECS  # with numba

    for name, value, choices in (("map", chosen.map, SPECS), ("fault", chosen.fault, KINDS)):
        if value not in choices:
            raise SemoreError(f"unknown {name} {value!r}; choose one of {', '.join(choices)}")


def main() -> None:
    chosen = read_settings(LoopbackSettings, "loopback")
    check(chosen)
    from semore.collect.carla.loopback import wire
    from semore.collect.carla.loopback.faults import Fault
    from semore.collect.carla.loopback.server import Server

    fault = Fault(chosen.fault, chosen.after, chosen.seconds, chosen.megabytes)
    try:
        server = Server(chosen.host, chosen.port, chosen.map, fault)
    except (OSError, OverflowError) as error:
        raise SemoreError(
            f"ports {chosen.port} and {chosen.port + 1} of {chosen.host} cannot be had ({error}); "
            "choose another --port, or 0 for any two that are free"
        ) from error
    signal.signal(signal.SIGTERM, _stop)
    print(f"loopback: CARLA {wire.VERSION} on {chosen.host}:{server.port} ({chosen.map})", flush=True)
    try:
        server.run()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    run_command(main)
