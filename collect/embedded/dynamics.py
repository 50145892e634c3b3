"""How the ego moves: a kinematic bicycle with lagged steering and a governed engine. Pure functions, SI units."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from collect.simulator import Control
from datasets.schema import DT, KIND_INDEX, KINDS

EGO_KIND: Final = KINDS[KIND_INDEX["sedan"]]
WHEELBASE: Final = 2.875
"""m."""
MAX_STEER: Final = math.radians(35.0)
"""rad at the wheels, at standstill."""
STEER_LAG: Final = 0.1
"""s, first order."""
TOP_SPEED: Final = 25.0
"""m/s; the engine is governed here."""
GRIP: Final = 7.8
"""m/s²; limits lateral acceleration and damps sideways sliding."""
BRAKING: Final = 8.0
"""m/s² at full brake."""


@dataclass(frozen=True)
class EgoState:
    """Centre x, y (m), yaw (rad), forward speed and sideways slip to the right (m/s), and lagged steering [−1, 1].

    Slip is 0 in ordinary driving and comes from collisions only; a collision may also throw the ego backwards."""

    x: float
    y: float
    yaw: float
    speed: float = 0.0
    slip: float = 0.0
    steering: float = 0.0

    @property
    def velocity(self) -> tuple[float, float]:
        """World velocity, m/s."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return self.speed * cos - self.slip * sin, self.speed * sin + self.slip * cos

    def with_velocity(self, vx: float, vy: float) -> EgoState:
        """The same pose with the world velocity (vx, vy) m/s."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return replace(self, speed=vx * cos + vy * sin, slip=vy * cos - vx * sin)


def steering_limit(speed: float) -> float:
    """Largest wheel angle (rad) at `speed` m/s: 35°, less 0.9% per m/s, never under 70% of it."""
    return MAX_STEER * max(0.7, 1.0 - 0.3 * abs(speed) / 33.0)


def acceleration(speed: float, control: Control) -> float:
    """m/s² along the heading: 4·throttle·(1 − v/25) − 8·brake − 0.05 − 0.01·v."""
    return 4.0 * control.throttle * (1.0 - speed / TOP_SPEED) - BRAKING * control.brake - 0.05 - 0.01 * speed


def toward_zero(value: float, step: float) -> float:
    """`value` moved towards 0 by at most `step`."""
    return math.copysign(max(0.0, abs(value) - step), value)


def advance(ego: EgoState, control: Control, dt: float = DT) -> EgoState:
    """One step of the bicycle: yaw rate v/2.875·tan(angle), held to |v·yaw rate| ≤ 7.8 m/s²; the position then moves
    by exactly the new velocity times dt. Forward speed stays in [0, 25]; thrown backwards, the ego slows at 8 m/s²."""
    steering = ego.steering + (control.steer - ego.steering) * min(1.0, dt / STEER_LAG)
    if ego.speed < 0.0:
        speed = toward_zero(ego.speed, BRAKING * dt)
    else:
        speed = min(max(0.0, ego.speed + acceleration(ego.speed, control) * dt), TOP_SPEED)
    rate = speed / WHEELBASE * math.tan(steering * steering_limit(speed))
    if abs(speed) > 1e-6:
        rate = max(-GRIP / abs(speed), min(GRIP / abs(speed), rate))
    moved = EgoState(ego.x, ego.y, ego.yaw + rate * dt, speed, toward_zero(ego.slip, GRIP * dt), steering)
    vx, vy = moved.velocity
    return replace(moved, x=ego.x + vx * dt, y=ego.y + vy * dt)
