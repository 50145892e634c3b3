"""Compile the kernels of the embedded world, of views and of digests into numba's cache on disk, so that the first
recording starts at once."""

from __future__ import annotations

from dataclasses import dataclass

from semore.collect.scenarios import SCENARIOS, weather
from semore.collect.simulator import Control
from semore.datasets.command_line import read_settings
from semore.datasets.rollouts.schema import RECORDING_SIZE
from semore.datasets.run_command import run_command


@dataclass(frozen=True)
class CompileSettings:
    """Nothing to choose."""


def main() -> None:
    read_settings(CompileSettings, "compile")
    import numpy as np

    from semore.collect.digest_lanes import digests, whole
    from semore.collect.embedded.world import EmbeddedSimulator  # with numba
    from semore.collect.observation import observe

    simulator = EmbeddedSimulator(RECORDING_SIZE)
    for scenario in SCENARIOS.values():
        simulator.reset(scenario, weather(scenario.weather), seed=0)
        for _ in range(20):
            assert simulator.step(Control(throttle=1.0)).images.rgb.any()
    simulator.close()
    assert digests(whole(np.zeros(1, np.uint8))).any()
    for size in (RECORDING_SIZE, RECORDING_SIZE // 2):
        observe(np.zeros((RECORDING_SIZE, RECORDING_SIZE, 3), np.uint8), size)


if __name__ == "__main__":
    run_command(main)
