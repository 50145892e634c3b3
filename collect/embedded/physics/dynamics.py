"""How the ego moves: a kinematic bicycle with lagged steering and a governed engine. Pure functions, SI units.

The figures are a Tesla Model 3's (rear-wheel drive), rounded: length 4.69 m, width 1.85 m, wheelbase 2.875 m and a
turning circle of 11.6 m as the owner's manual lists them, kerb weight 1,845 kg and 0–100 km/h in 6.1 s as advertised
(6.3 s here), drag coefficient 0.23 on 2.22 m² of frontal area; braking from 100 km/h within 40–48 m and 0.8–0.9 g on
the skid pad as road tests report them. The steering limit follows CARLA's steering curve (1 at rest, 0.9 at 40, 0.7 at
120 km/h). Not a Model 3's: the governor at 25 m/s, since nothing in the three scenarios calls for more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from semore.collect.embedded.jit import kernel
from semore.collect.simulator import Control
from semore.datasets.rollouts.schema import DT, KIND_INDEX, KINDS

EGO_KIND: Final = KINDS[KIND_INDEX["sedan"]]
WHEELBASE: Final = 2.875
"""Distance between the axles in m."""
MAX_STEER: Final = math.radians(35.0)
"""Steering angle of the wheels at standstill in rad; a front corner then turns on a circle of about 11 m."""
STEER_LAG: Final = 0.1
"""Time constant of the steering in s; the lag is of first order."""
PULL: Final = 5.0
"""Acceleration at full throttle in m/s², up to 18 m/s."""
POWER: Final = 90.0
"""Power at the wheels in W/kg; beyond 18 m/s, acceleration is power over speed."""
TOP_SPEED: Final = 25.0
"""Speed in m/s at which the engine is governed."""
BRAKING: Final = 8.0
"""Deceleration at full brake in m/s²."""
ROLLING: Final = 0.10
"""Deceleration by rolling resistance in m/s²."""
DRAG: Final = 0.5 * 1.2 * 0.23 * 2.22 / EGO_KIND.mass
"""Air resistance is DRAG·v²; DRAG is in 1/m."""
GRIP: Final = 7.8
"""Grip of the tyres in m/s²: it limits lateral acceleration and damps sideways sliding."""
SPIN_GRIP: Final = GRIP * (WHEELBASE / 2) / ((EGO_KIND.length**2 + EGO_KIND.width**2) / 12)
"""Rate in rad/s² at which four sliding tyres end a spin of a box of the car's size."""


@dataclass(frozen=True)
class EgoState:
    """Centre x, y (m), yaw (rad), forward speed and sideways slip to the right (m/s), lagged steering [−1, 1], spin
    (rad/s).

    Slip and spin are 0 in ordinary driving and come from collisions only; one may also throw the ego backwards."""

    x: float
    y: float
    yaw: float
    speed: float = 0.0
    slip: float = 0.0
    steering: float = 0.0
    spin: float = 0.0

    @property
    def velocity(self) -> tuple[float, float]:
        """World velocity, m/s."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return self.speed * cos - self.slip * sin, self.speed * sin + self.slip * cos

    def after_hit(self, x: float, y: float, vx: float, vy: float, spin: float) -> EgoState:
        """The same heading and steering at (x, y) m with world velocity (vx, vy) m/s and `spin` rad/s."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return replace(self, x=x, y=y, speed=vx * cos + vy * sin, slip=vy * cos - vx * sin, spin=spin)


def steering_limit(speed: float) -> float:
    """Largest wheel angle (rad) at `speed` m/s: 35°, less 0.9% per m/s, never under 70% of it."""
    return MAX_STEER * max(0.7, 1.0 - 0.3 * abs(speed) / 33.0)


def acceleration(speed: float, control: Control) -> float:
    """m/s² along the heading at `speed` ≥ 0 m/s: engine less brake, rolling and air resistance."""
    engine = control.throttle * min(PULL, POWER / max(speed, 1.0))
    return engine - BRAKING * control.brake - ROLLING - DRAG * speed * speed


@kernel
def toward_zero(value: float, step: float) -> float:
    """`value` moved towards 0 by at most `step`."""
    return math.copysign(max(0.0, abs(value) - step), value)


def advance(ego: EgoState, control: Control, dt: float = DT) -> EgoState:
    """One step of the bicycle: yaw rate v/2.875·tan(angle), held to |v·yaw rate| ≤ 7.8 m/s², plus the spin of a hit;
    the position then moves by exactly the new velocity times dt. Forward speed stays in [0, 25] m/s; thrown backwards,
    the ego slows at 8 m/s²."""
    steering = ego.steering + (control.steer - ego.steering) * min(1.0, dt / STEER_LAG)
    if ego.speed < 0.0:
        speed = toward_zero(ego.speed, BRAKING * dt)
    else:
        speed = min(max(0.0, ego.speed + acceleration(ego.speed, control) * dt), TOP_SPEED)
    rate = speed / WHEELBASE * math.tan(steering * steering_limit(speed))
    if abs(speed) > 1e-6:
        rate = max(-GRIP / abs(speed), min(GRIP / abs(speed), rate))
    spin = toward_zero(ego.spin, SPIN_GRIP * dt)
    yaw = ego.yaw + (rate + spin) * dt
    moved = EgoState(ego.x, ego.y, yaw, speed, toward_zero(ego.slip, GRIP * dt), steering, spin)
    vx, vy = moved.velocity
    return replace(moved, x=ego.x + vx * dt, y=ego.y + vy * dt)
