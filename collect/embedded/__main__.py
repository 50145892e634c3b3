"""Compile the embedded world's kernels into numba's on-disk cache, so that the first recording starts at once."""

from __future__ import annotations

from semore.collect.embedded.world import EmbeddedSimulator
from semore.collect.scenarios import SCENARIOS, weather
from semore.collect.simulator import Control
from semore.datasets.rollouts.schema import RECORDING_SIZE


def main() -> None:
    simulator = EmbeddedSimulator(RECORDING_SIZE)
    for scenario in SCENARIOS.values():
        simulator.reset(scenario, weather(scenario.weather), seed=0)
        for _ in range(20):
            assert simulator.step(Control(throttle=1.0)).images.rgb.any()
    simulator.close()


if __name__ == "__main__":
    main()
