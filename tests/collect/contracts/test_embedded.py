"""The built-in world keeps every promise of a Simulator."""

from __future__ import annotations

from simulator_contract import SimulatorContract

from semore.collect.embedded.world import EmbeddedSimulator
from semore.collect.scenarios import EgoStart
from semore.collect.simulator import Simulator


class TestEmbedded(SimulatorContract):
    name = "embedded"
    road_end = ("Town01", EgoStart(12, (1,), (60.0, 60.0), 0.0, 0.0))

    def make_simulator(self, size: int) -> Simulator:
        return EmbeddedSimulator(size)
