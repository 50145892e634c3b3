"""The messages from the client's process to the driving process: a step's Snapshot without its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semore.collect.simulator import Collision, Ego, Lane

CAMERAS: Final = ("rgb", "semantic", "instance", "depth")
"""The cameras at the ego's windscreen, in the order of their pictures in the shared memory."""


class Cost(NamedTuple):
    """Seconds spent in one step: on the server's tick, and on the cameras and the collision sensor after it."""

    tick: float
    camera: float


@dataclass(frozen=True)
class StepMessage:
    """The world after one step, as the client's process reports it; fields as in collect.simulator.Snapshot.

    `eye` (4, 4) float64 maps points from the cameras' frame (x ahead, y right, z up; m) to the world's frame."""

    tick: int
    ego: Ego
    lane: Lane | None
    road_ends: bool
    collisions: tuple[Collision, ...]
    actors: NDArray[np.float32]
    eye: NDArray[np.float64]
    cost: Cost
