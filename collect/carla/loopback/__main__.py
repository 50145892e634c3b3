"""The command: serve CARLA's protocol from the embedded world on this machine."""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType

from semore.collect.carla.loopback import wire
from semore.collect.carla.loopback.faults import KINDS, Fault
from semore.collect.carla.loopback.server import Server
from semore.collect.embedded.maps.town import SPECS
from semore.datasets.errors import SemoreError
from semore.datasets.settings import run_command


def main() -> None:
    chosen = _arguments()
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


def _arguments() -> argparse.Namespace:
    faults = "\n".join(f"  {name:<12} {meaning}" for name, meaning in KINDS.items())
    parser = argparse.ArgumentParser(
        prog="semore loopback",
        description="A server that speaks CARLA 0.9.16's protocol, the embedded world behind it (docs/loopback.md).",
        epilog=f"faults:\n{faults}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=2000, help="for procedures; streams use the next; 0: any free pair")
    parser.add_argument("--map", default="Town01", choices=list(SPECS))
    parser.add_argument("--fault", default="none", choices=list(KINDS), help="what to do wrong on purpose")
    parser.add_argument("--after", type=int, default=0, help="ticks that clients must ask for before the fault")
    parser.add_argument("--seconds", type=float, default=1.0, help="how late --fault delay answers")
    parser.add_argument("--megabytes", type=int, default=10, help="what --fault leak takes with every tick")
    return parser.parse_args()


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    run_command(main)
