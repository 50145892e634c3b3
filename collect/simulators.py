"""The simulators by the names that settings give them, and how many of each may drive at once."""

from __future__ import annotations

from typing import Final

from semore.collect.carla.settings import CarlaSettings, check_client
from semore.collect.simulator import Simulator
from semore.datasets.errors import SemoreError

SIMULATORS: Final = ("embedded", "carla")


def make_simulator(name: str, size: int, carla: CarlaSettings | None = None) -> Simulator:
    """The simulator called `name` with a square camera of `size` pixels, `carla` saying where its servers are; cheap: a
    CARLA server is looked for at the first reset. SemoreError naming the choices, or what is not installed."""
    if name == "embedded":
        from semore.collect.embedded.world import EmbeddedSimulator

        return EmbeddedSimulator(size)
    if name == "carla":
        from semore.collect.carla.supervisor import SupervisedCarla

        check_client()
        return SupervisedCarla(carla or CarlaSettings(), size)
    raise SemoreError(f"unknown simulator {name!r}; choose one of {', '.join(SIMULATORS)}")


def at_once(name: str, wanted: int, carla: CarlaSettings) -> int:
    """How many simulators called `name` may drive at once when `wanted` would be welcome: for carla one per server."""
    return min(wanted, carla.servers) if name == "carla" else wanted


def worker_count(name: str, wanted: int, carla: CarlaSettings) -> int:
    """How many processes that drive in a simulator called `name` there should be: for carla one for every server, else
    as many as `wanted`."""
    return carla.servers if name == "carla" else wanted
