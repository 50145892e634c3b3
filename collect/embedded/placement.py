"""Puts a scenario's actors on the road: everything drawn from the episode's generator, nothing on top of another."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from collect.embedded.dynamics import EgoState
from collect.embedded.road import Road, travel
from collect.embedded.shapes import PALETTE
from collect.embedded.vehicles import VEHICLE_COLUMNS
from collect.embedded.walkers import WALKER_COLUMNS
from collect.scenarios import Range, Scenario, VehicleGroup
from datasets.errors import SemoreError
from datasets.schema import ACTOR_FIELDS, KIND_INDEX, KINDS

Floats = NDArray[np.float64]

_EGO_CLEARANCE = 8.0  # m between centres (method.md §2.2)
_SPACING = 2.0  # m between bumpers in a lane
_TRIES = 2000
_ACCEL = {"fire truck": 1.4, "ambulance": 2.0, "cyclist": 1.2}  # m/s²; cars 2.6


@dataclass(frozen=True)
class Cast:
    """An episode's start: ego, `vehicles` (V, 17) as in vehicles.py and `walkers` (W, 11) as in walkers.py, `actors`
    (V+W, 14) with the columns that never change filled in (vehicles first, ids from 1), their `paint` (V+W, 3),
    crossing speeds (m/s)."""

    ego: EgoState
    vehicles: Floats
    walkers: Floats
    actors: NDArray[np.float32]
    paint: Floats
    walk_left: float
    walk_right: float


def place(scenario: Scenario, road: Road, rng: np.random.Generator) -> Cast:
    """Draw a start for `scenario` on `road`; SemoreError when a group doesn't fit or names a lane the road lacks."""
    ego = _place_ego(scenario, road, rng)
    vehicles: list[tuple[float, ...]] = []
    actors: list[tuple[float, ...]] = []
    for group in scenario.vehicles:
        for _ in range(group.count):
            kind = KIND_INDEX[group.kinds[rng.integers(len(group.kinds))]]
            vehicles.append(_place_vehicle(group, kind, road, ego, vehicles, rng))
            lights = float(rng.random() < group.lights)
            actors.append(_actor(len(actors) + 1, kind, lights))
    walkers = []
    for spawn in scenario.walkers:
        _check(spawn.road, road)
        s, t = _uniform(rng, spawn.s), road.lane_centre(spawn.lane)
        x, y, _ = road.pose(s, t)
        walkers.append((s, t, x, y, 0.0, 0.0, 0.0, -math.copysign(1.0, t), 0.0, 0.0, 0.0))
        actors.append(_actor(len(actors) + 1, KIND_INDEX["pedestrian"], 0.0))
    return Cast(
        ego,
        np.array(vehicles, np.float64).reshape(-1, VEHICLE_COLUMNS),
        np.array(walkers, np.float64).reshape(-1, WALKER_COLUMNS),
        np.array(actors, np.float32).reshape(-1, len(ACTOR_FIELDS)),
        np.array(PALETTE)[rng.integers(len(PALETTE), size=len(actors))],
        _uniform(rng, scenario.walker_speed),
        _uniform(rng, scenario.walker_speed),
    )


def _place_ego(scenario: Scenario, road: Road, rng: np.random.Generator) -> EgoState:
    start = scenario.ego
    _check(start.road, road)
    s = _uniform(rng, start.s)
    lane = start.lanes[rng.integers(len(start.lanes))]
    way = travel(lane)
    offset = rng.uniform(-1.0, 1.0) * start.jitter_offset
    turn = rng.uniform(-1.0, 1.0) * start.jitter_yaw
    x, y, heading = road.pose(s, road.lane_centre(lane) + way * offset)
    return EgoState(x, y, heading + turn + (0.0 if way > 0 else math.pi))


def _place_vehicle(
    group: VehicleGroup, kind: int, road: Road, ego: EgoState, others: list[tuple[float, ...]], rng: np.random.Generator
) -> tuple[float, ...]:
    """One vehicle at rest, as a row of vehicles.py."""
    _check(group.road, road)
    shape = KINDS[kind]
    percent = _uniform(rng, group.speed_difference)
    for _ in range(_TRIES):
        s = _uniform(rng, group.s)
        lane = group.lanes[rng.integers(len(group.lanes))]
        t = road.lane_centre(lane)
        x, y, _ = road.pose(s, t)
        apart = all(abs(o[1] - t) > 1.0 or abs(o[0] - s) > (o[7] + shape.length) / 2 + _SPACING for o in others)
        if apart and math.hypot(x - ego.x, y - ego.y) > max(_EGO_CLEARANCE, shape.length / 2 + 3.0):
            desired = road.limit / 3.6 * (1.0 - percent / 100.0)
            accel = _ACCEL.get(shape.name, 2.6)
            return (s, t, 0, 0, travel(lane), t, desired, shape.length, shape.width, accel, 0, 0, 0, 0, 0, 0, 0)
    raise SemoreError(
        f"no room for {group.count} vehicles on road {group.road} lanes {group.lanes} at s {group.s}; "
        "lower the count or widen the range"
    )


def _actor(identity: int, kind: int, lights: float) -> tuple[float, ...]:
    shape = KINDS[kind]
    return (identity, kind, 0, 0, 0, 0, 0, 0, shape.length, shape.width, shape.height, lights, 0, 0)


def _check(number: int, road: Road) -> None:
    if number != road.id:
        raise SemoreError(f"this map has only road {road.id}; the scenario asks for road {number}")


def _uniform(rng: np.random.Generator, bounds: Range) -> float:
    return float(rng.uniform(*bounds))
