"""The other road users: vehicles that follow their lane at a distance, walkers that cross by method.md §2.2's rule."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from collect.embedded.jit import kernel
from collect.embedded.road import pose_at

Floats = NDArray[np.float64]

VEHICLE_FIELDS: Final = (
    "s", "t", "speed", "drift", "way", "lane_t", "desired", "length", "width", "accel", "stun", "parked",
)  # fmt: skip
"""Columns of `vehicles` (V, 12): road position (m), speed along its way and drift along t (m/s), way ±1 along s, the t
it keeps to, the speed it likes (m/s), size (m), liveliest acceleration (m/s²), seconds it is still stunned by a crash,
and 1 once it has left the road."""

WALKER_FIELDS: Final = ("s", "t", "x", "y", "vx", "vy", "order", "facing", "down")
"""Columns of `walkers` (W, 9): road position, world position and velocity, standing order −1 (left), 0 or +1 (right),
the side it faces, and 1 once knocked over."""

STUN: Final = 3.0
"""s a vehicle stands on its brakes after being hit."""
NUDGE: Final = 2.0
"""m/s of velocity change up to which a hit leaves it driving on."""
PARKING: Final = -5000.0
"""x and y (m) where vehicles wait that have left the road."""

_HEADWAY, _STANDSTILL, _COMFORT = 1.2, 2.0, 3.0  # s, m (the traffic manager's leading distance), m/s²
_HARDEST = 8.0  # m/s², strongest braking in traffic
_SLIDING = 6.0  # m/s², friction of a pushed vehicle
_BODY_FRICTION = 6.9  # m/s², 0.7 g
_BEYOND = 30.0  # m past the road's end before a vehicle is parked
_WALL = 9.4  # m from the reference line: nobody walks into the houses
DECISION_STEPS: Final = 20
"""A waiting walker tosses its coin every so many steps."""


@kernel
def _gap_ahead(vehicles: Floats, i: int, ego: Floats) -> tuple[float, float]:
    """Bumper distance (m) to whatever is next in vehicle i's way and how fast it is approached (m/s)."""
    way, best, closing = vehicles[i, 4], 1e6, 0.0
    for j in range(-1, vehicles.shape[0]):
        if j == i or (j >= 0 and vehicles[j, 11] > 0.0):
            continue
        s, t, along, length, width = ego[0], ego[1], ego[2], ego[3], ego[4]
        if j >= 0:
            s, t, length, width = vehicles[j, 0], vehicles[j, 1], vehicles[j, 7], vehicles[j, 8]
            along = vehicles[j, 2] * vehicles[j, 4]
        if abs(t - vehicles[i, 1]) > (width + vehicles[i, 8]) / 2 + 0.2 or (s - vehicles[i, 0]) * way <= 0.0:
            continue
        gap = (s - vehicles[i, 0]) * way - (length + vehicles[i, 7]) / 2
        if gap < best:
            best, closing = gap, vehicles[i, 2] - along * way
    return best, closing


@kernel
def _wish(speed: float, desired: float, accel: float, gap: float, closing: float) -> float:
    """Intelligent Driver Model: a·(1 − (v/v₀)⁴ − (s*/gap)²), s* = 2 + 1.2·v + v·Δv/(2√(a·b)); m/s²."""
    wanted = _STANDSTILL + max(0.0, _HEADWAY * speed + speed * closing / (2.0 * math.sqrt(accel * _COMFORT)))
    near = wanted / max(gap, 0.3)
    return max(-_HARDEST, accel * (1.0 - (speed / desired) ** 4 - near * near))


@kernel
def _calm(value: float, step: float) -> float:
    return math.copysign(max(0.0, abs(value) - step), value)


@kernel
def drive(vehicles: Floats, segments: Floats, length: float, ego: Floats, dt: float) -> Floats:
    """The vehicles one step later, (V, 12).

    `ego` (5,): its s, t, velocity along s, length and width; `length`: of the road, m. A stunned vehicle slides to a
    stop, then finds back to the middle of its lane and drives on. There are no lane changes."""
    after = vehicles.copy()
    for i in range(vehicles.shape[0]):
        if vehicles[i, 11] > 0.0:
            continue
        s, t, speed, drift, way = vehicles[i, 0], vehicles[i, 1], vehicles[i, 2], vehicles[i, 3], vehicles[i, 4]
        if vehicles[i, 10] > 0.0 or speed < 0.0:
            after[i, 10] = max(0.0, vehicles[i, 10] - dt)
            speed, drift = _calm(speed, _SLIDING * dt), _calm(drift, _SLIDING * dt)
        else:
            gap, closing = _gap_ahead(vehicles, i, ego)
            speed = max(0.0, speed + _wish(speed, vehicles[i, 6], vehicles[i, 9], gap, closing) * dt)
            drift = min(1.0, 0.2 * speed) * max(-1.0, min(1.0, vehicles[i, 5] - t))
        bend = pose_at(segments, s, 0.0)[3]
        after[i, 0] = s + way * speed * dt / max(0.2, 1.0 - bend * t)
        after[i, 1] = t + drift * dt
        after[i, 2], after[i, 3] = speed, drift
        if after[i, 0] < -_BEYOND or after[i, 0] > length + _BEYOND:
            after[i, 2], after[i, 3], after[i, 11] = 0.0, 0.0, 1.0
    return after


@kernel
def vehicle_poses(vehicles: Floats, segments: Floats) -> Floats:
    """(V, 5) x, y, yaw, vx, vy of every vehicle; parked ones stand apart from each other, far from the road."""
    poses = np.zeros((vehicles.shape[0], 5))
    for i in range(vehicles.shape[0]):
        if vehicles[i, 11] > 0.0:
            poses[i, 0], poses[i, 1] = PARKING - 20.0 * i, PARKING
            continue
        x, y, heading, _ = pose_at(segments, vehicles[i, 0], vehicles[i, 1])
        along, drift = vehicles[i, 2] * vehicles[i, 4], vehicles[i, 3]
        poses[i, 0], poses[i, 1] = x, y
        poses[i, 2] = heading if vehicles[i, 4] > 0.0 else heading + math.pi
        poses[i, 3] = along * math.cos(heading) - drift * math.sin(heading)
        poses[i, 4] = along * math.sin(heading) + drift * math.cos(heading)
    return poses


def push_vehicle(vehicle: Floats, heading: float, dvx: float, dvy: float, dx: float, dy: float) -> Floats:
    """The row `vehicle` (12,) after a hit that changes its velocity by (dvx, dvy) m/s and moves it by (dx, dy) m on a
    road whose reference line has `heading` there; a hit beyond NUDGE stuns it."""
    cos, sin = math.cos(heading), math.sin(heading)
    after = vehicle.copy()
    after[0] += dx * cos + dy * sin
    after[1] += dy * cos - dx * sin
    after[2] += (dvx * cos + dvy * sin) * vehicle[4]
    after[3] += dvy * cos - dvx * sin
    if math.hypot(dvx, dvy) > NUDGE:
        after[10] = STUN
    return after


@kernel
def walk(
    walkers: Floats, segments: Floats, decide: bool, coins: Floats, band: float, left: float, right: float, dt: float
) -> Floats:
    """The walkers one step later, (W, 9).

    Beyond the band (|t| > `band` m) a walker waits or goes on as ordered; when `decide`, a coin below 0.5 sends it
    towards the road. Inside it keeps the direction it has, left when it has none. `left` and `right` are the crossing
    speeds, m/s. Someone knocked over slides to rest at 6.9 m/s²."""
    after = walkers.copy()
    for i in range(walkers.shape[0]):
        s, t = walkers[i, 0], walkers[i, 1]
        vx, vy = walkers[i, 4], walkers[i, 5]
        if walkers[i, 8] > 0.0:
            speed = math.hypot(vx, vy)
            keep = _calm(speed, _BODY_FRICTION * dt) / speed if speed > 0.0 else 0.0
            after[i, 4], after[i, 5] = vx * keep, vy * keep
            after[i, 2] += after[i, 4] * dt
            after[i, 3] += after[i, 5] * dt
            continue
        heading = pose_at(segments, s, 0.0)[2]
        across = vy * math.cos(heading) - vx * math.sin(heading)
        order = walkers[i, 6]
        if t > band:
            if decide and coins[i] < 0.5:
                order = -1.0
        elif t > -band:
            order = 1.0 if across > 0.0 else -1.0
        elif decide and coins[i] < 0.5:
            order = 1.0
        aim = t + (right if order > 0.0 else -left if order < 0.0 else 0.0) * dt
        aim = max(-_WALL, min(_WALL, aim))
        speed = (aim - t) / dt
        if speed != 0.0:
            after[i, 7] = 1.0 if speed > 0.0 else -1.0
        x, y, _, _ = pose_at(segments, s, aim)
        after[i, 1], after[i, 2], after[i, 3], after[i, 6] = aim, x, y, order
        after[i, 4], after[i, 5] = -speed * math.sin(heading), speed * math.cos(heading)
    return after
