"""A vehicle's physics control as the loopback server answers it. Clients may change it; it moves nothing.

Cars move by the embedded ego dynamics, whatever their physics control says."""

from __future__ import annotations

import math
from typing import Any, Final

from semore.collect.embedded.physics.dynamics import MAX_STEER
from semore.datasets.rollouts.schema import Kind

_WHEEL: Final = [3.5, 0.25, math.degrees(MAX_STEER), 37.0, 1500.0, 3000.0, 2.0, 17.0, 1000.0, [0.0, 0.0, 0.0]]
"""Tyre friction, damping, steering angle (degrees), radius (cm), brake and hand brake torque (N·m), lateral stiffness
load and value, longitudinal stiffness, position."""


def default_physics(kind: Kind) -> list[Any]:
    """A VehiclePhysicsControl as procedures carry it, with CARLA's defaults but for the mass (kg)."""
    torque, steering = [[0.0, 500.0], [5000.0, 500.0]], [[0.0, 1.0], [40.0, 0.9], [120.0, 0.7]]
    engine = [torque, 5000.0, 1.0, 0.15, 2.0, 0.35, True, 0.5, 10.0, 4.0, []]
    return [*engine, kind.mass, 0.3, [0.0, 0.0, 0.0], steering, [list(_WHEEL) for _ in range(4)], False]
