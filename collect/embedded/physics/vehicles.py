"""Traffic: vehicles follow their lane at a distance, overtake in a free neighbour lane, and brake.

A vehicle lives in road coordinates, so it can never lose its road by accident; a hit pushes and turns it there."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.embedded.jit import kernel
from semore.collect.embedded.maps.road import pose_at
from semore.collect.embedded.physics.dynamics import SPIN_GRIP, toward_zero
from semore.datasets.rollouts.schema import KIND_INDEX, KINDS, Kind

Floats = NDArray[np.float64]

(S, T, SPEED, DRIFT, WAY, LANE_T, DESIRED, LENGTH, WIDTH, ACCEL, STUN, PARKED, TURN, SPIN, BRAKE, WAIT, DOWN) = range(
    17
)
"""Columns of `vehicles` (V, 17): road position (m), speed along its way and drift along t (m/s), way ±1 along s, the t
it keeps to, the speed it likes (m/s), size (m), liveliest acceleration (m/s²), seconds it is still stunned by a crash,
1 once it has left the road, its heading off the lane's and the rate of that (rad, rad/s), 1 while braking, seconds
until it may change lanes again, 1 once knocked over."""

VEHICLE_COLUMNS: Final = 17
STUN_TIME: Final = 3.0
"""Seconds that a vehicle brakes after being hit."""
NUDGE: Final = 2.0
"""Velocity change in m/s up to which a vehicle drives on after a hit."""
WRECK: Final = 1e9
"""Stun time in s of a vehicle that will not drive on: turned across the road, or a cyclist knocked over."""
PARKING: Final = -5000.0
"""Coordinates x and y in m at which vehicles wait that have left the road."""

_CYCLIST: Final = KINDS[KIND_INDEX["cyclist"]]
_LIVELY = {"fire truck": 1.4, "ambulance": 2.0, "cyclist": 1.2}  # m/s² at most; cars 2.6
_HEADWAY, _STANDSTILL, _COMFORT = 1.2, 2.0, 3.0  # s, m (the traffic manager's leading distance), m/s²
_HARDEST = 8.0  # m/s², strongest braking in traffic
_SLIDING = 6.0  # m/s², friction of a pushed vehicle
_BEYOND = 30.0  # m past the road's end before a vehicle is parked
_CROSSWISE = 1.0  # rad off its lane's heading from which a stunned vehicle is a wreck
_SIDEWAYS = 1.4  # m/s, quickest change of lanes
_TURNING = 1.0  # rad/s
_BETWEEN_CHANGES = 4.0  # s
_WORTH = 1.0  # m/s that must be gained for a change of lanes
_BRAKE_LIGHTS = 0.7  # m/s² of slowing from which they shine


def vehicle_row(kind: Kind, s: float, t: float, way: float, lane_t: float, desired: float) -> Floats:
    """The row (17,) of a vehicle of `kind` that stands at (s, t) m, drives along s (`way` +1) or against it (−1), keeps
    to `lane_t` (m) and likes `desired` m/s."""
    row = np.zeros(VEHICLE_COLUMNS)
    row[[S, T, WAY, LANE_T, DESIRED]] = s, t, way, lane_t, desired
    row[[LENGTH, WIDTH, ACCEL]] = kind.length, kind.width, _LIVELY.get(kind.name, 2.6)
    return row


@kernel
def _neighbour(vehicles: Floats, i: int, ego: Floats, t: float, ahead: float) -> tuple[float, float]:
    """Bumper distance (m) from vehicle i to the next one on offset `t`, in front of it (`ahead` +1) or behind (−1),
    and the speed of that one along i's way (m/s). Somebody changing lanes occupies both. `ego` (5,): s, t, velocity
    along s, length, width."""
    way, best, speed = vehicles[i, WAY], 1e6, 0.0
    for j in range(-1, vehicles.shape[0]):
        if j == i or (j >= 0 and vehicles[j, PARKED] > 0.0):
            continue
        s, t1, along, length, width = ego[0], ego[1], ego[2], ego[3], ego[4]
        t2 = t1
        if j >= 0:
            s, t1, length, width = vehicles[j, S], vehicles[j, T], vehicles[j, LENGTH], vehicles[j, WIDTH]
            along = vehicles[j, SPEED] * vehicles[j, WAY]
            t2 = vehicles[j, LANE_T] if vehicles[j, STUN] <= 0.0 else t1
        if min(abs(t1 - t), abs(t2 - t)) > (width + vehicles[i, WIDTH]) / 2 + 0.2:
            continue
        distance = (s - vehicles[i, S]) * way * ahead
        if distance <= 0.0:
            continue
        gap = distance - (length + vehicles[i, LENGTH]) / 2
        if gap < best:
            best, speed = gap, along * way
    return best, speed


@kernel
def _wish(speed: float, desired: float, accel: float, gap: float, closing: float) -> float:
    """Intelligent Driver Model: a·(1 − (v/v₀)⁴ − (s*/gap)²), s* = 2 + 1.2·v + v·Δv/(2√(a·b)); m/s²."""
    wanted = _STANDSTILL + max(0.0, _HEADWAY * speed + speed * closing / (2.0 * math.sqrt(accel * _COMFORT)))
    near = wanted / max(gap, 0.3)
    return float(max(-_HARDEST, accel * (1.0 - (speed / desired) ** 4 - near * near)))


@kernel
def _better_lane(vehicles: Floats, i: int, ego: Floats, lanes: Floats, gap: float, leader: float) -> float:
    """t of the lane vehicle i should keep to, `gap` m behind a leader at `leader` m/s: a neighbour lane of `lanes` (L,
    2; t and way), the left one first, where the way is free for longer and nobody behind must brake; else its own."""
    speed, desired, own = vehicles[i, SPEED], vehicles[i, DESIRED], float(vehicles[i, LANE_T])
    if gap > 8.0 + 2.0 * speed or leader > desired - _WORTH or speed < 3.0:
        return own
    for side in (-1.0, 1.0):
        for k in range(lanes.shape[0]):
            away = (lanes[k, 0] - own) * side * vehicles[i, WAY]
            if lanes[k, 1] != vehicles[i, WAY] or away < 1.0 or away > 5.0:
                continue
            free, pace = _neighbour(vehicles, i, ego, lanes[k, 0], 1.0)
            behind, chaser = _neighbour(vehicles, i, ego, lanes[k, 0], -1.0)
            roomy = free > 6.0 + 0.7 * speed and (free > gap + 15.0 or pace > leader + _WORTH)
            if roomy and behind > 4.0 + max(0.0, 2.0 * (chaser - speed)):
                return float(lanes[k, 0])
    return own


@kernel
def drive(
    vehicles: Floats, segments: Floats, length: float, lanes: Floats, edges: tuple[float, float], ego: Floats, dt: float
) -> Floats:
    """The vehicles one step later, (V, 17).

    `length` of the road (m); `lanes` (L, 2): t and way ±1 of its driving lanes; `edges`: the t beyond which nothing
    slides; `ego` (5,): its s, t, velocity along s, length, width. A stunned vehicle slides and spins to a stop, then
    finds back to the middle of its lane and drives on, unless it is a wreck."""
    after = vehicles.copy()
    for i in range(vehicles.shape[0]):
        if vehicles[i, PARKED] > 0.0:
            continue
        t, speed, drift, way = vehicles[i, T], vehicles[i, SPEED], vehicles[i, DRIFT], vehicles[i, WAY]
        turn, brake = vehicles[i, TURN], 1.0
        if vehicles[i, STUN] > 0.0 or speed < 0.0:
            after[i, STUN] = max(0.0, vehicles[i, STUN] - dt)
            speed, drift = toward_zero(speed, _SLIDING * dt), toward_zero(drift, _SLIDING * dt)
            after[i, SPIN] = toward_zero(vehicles[i, SPIN], SPIN_GRIP * dt)
            turn += after[i, SPIN] * dt
            if abs(turn) > _CROSSWISE:
                after[i, STUN] = WRECK
        else:
            # `after` holds the choices others have made in this very step.
            gap, leader = _neighbour(after, i, ego, t, 1.0)
            after[i, WAIT] = max(0.0, vehicles[i, WAIT] - dt)
            if after[i, WAIT] == 0.0 and abs(t - vehicles[i, LANE_T]) < 0.3:
                lane = _better_lane(after, i, ego, lanes, gap, leader)
                if lane != vehicles[i, LANE_T]:
                    after[i, LANE_T], after[i, WAIT] = lane, _BETWEEN_CHANGES
            if abs(after[i, LANE_T] - t) > 0.5:
                beside, pace = _neighbour(after, i, ego, after[i, LANE_T], 1.0)
                if beside < gap:
                    gap, leader = beside, pace
            wish = _wish(speed, vehicles[i, DESIRED], vehicles[i, ACCEL], gap, speed - leader)
            brake = 1.0 if wish < -_BRAKE_LIGHTS else 0.0
            speed = max(0.0, speed + wish * dt)
            drift = min(_SIDEWAYS, 0.2 * speed) * max(-1.0, min(1.0, after[i, LANE_T] - t))
            aim = way * math.atan2(drift, max(speed, 3.0))
            turn += max(-_TURNING * dt, min(_TURNING * dt, aim - turn))
        bend = pose_at(segments, vehicles[i, S], 0.0)[3]
        after[i, S] = vehicles[i, S] + way * speed * dt / max(0.2, 1.0 - bend * t)
        after[i, T] = t + drift * dt
        low, high = edges[0] + vehicles[i, WIDTH] / 2, edges[1] - vehicles[i, WIDTH] / 2
        if after[i, T] < low or after[i, T] > high:
            after[i, T], drift = min(high, max(low, after[i, T])), 0.0
        after[i, SPEED], after[i, DRIFT], after[i, TURN], after[i, BRAKE] = speed, drift, turn, brake
        if after[i, S] < -_BEYOND or after[i, S] > length + _BEYOND:
            after[i, SPEED], after[i, DRIFT], after[i, PARKED] = 0.0, 0.0, 1.0
    return after


@kernel
def vehicle_poses(vehicles: Floats, segments: Floats) -> Floats:
    """(V, 5) x, y, yaw, vx, vy of every vehicle; parked ones stand apart from each other, far from the road."""
    poses = np.zeros((vehicles.shape[0], 5))
    for i in range(vehicles.shape[0]):
        if vehicles[i, PARKED] > 0.0:
            poses[i, 0], poses[i, 1] = PARKING - 20.0 * i, PARKING
            continue
        x, y, heading, _ = pose_at(segments, vehicles[i, S], vehicles[i, T])
        along, drift = vehicles[i, SPEED] * vehicles[i, WAY], vehicles[i, DRIFT]
        poses[i, 0], poses[i, 1] = x, y
        poses[i, 2] = heading + vehicles[i, TURN] + (0.0 if vehicles[i, WAY] > 0.0 else math.pi)
        poses[i, 3] = along * math.cos(heading) - drift * math.sin(heading)
        poses[i, 4] = along * math.sin(heading) + drift * math.cos(heading)
    return poses


def shove(
    vehicle: Floats, kind: Kind, heading: float, dvx: float, dvy: float, spin: float, dx: float, dy: float
) -> Floats:
    """As `push`, for a vehicle of `kind`: the hit that stuns others throws a cyclist down for good."""
    after = push(vehicle, heading, dvx, dvy, spin, dx, dy)
    if kind is _CYCLIST and math.hypot(dvx, dvy) > NUDGE:
        after[DOWN], after[STUN] = 1.0, WRECK
    return after


def push(vehicle: Floats, heading: float, dvx: float, dvy: float, spin: float, dx: float, dy: float) -> Floats:
    """The row `vehicle` (17,) after a hit that changes its velocity by (dvx, dvy) m/s, sets its spin (rad/s) and moves
    it by (dx, dy) m, on a road whose reference line has `heading` there; a hit beyond NUDGE stuns it."""
    cos, sin = math.cos(heading), math.sin(heading)
    after = vehicle.copy()
    after[S] += dx * cos + dy * sin
    after[T] += dy * cos - dx * sin
    after[SPEED] += (dvx * cos + dvy * sin) * vehicle[WAY]
    after[DRIFT] += dvy * cos - dvx * sin
    after[SPIN] = spin
    if math.hypot(dvx, dvy) > NUDGE:
        after[STUN] = max(STUN_TIME, vehicle[STUN])
    return after
