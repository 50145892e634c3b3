"""Places a scenario's actors on the embedded world's road, from an InitialState (collect.spawns)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semore.collect.embedded.maps.road import Road, travel
from semore.collect.embedded.physics.dynamics import EgoState
from semore.collect.embedded.physics.vehicles import VEHICLE_COLUMNS, vehicle_row
from semore.collect.embedded.physics.walkers import WALKER_COLUMNS, walker_row
from semore.collect.embedded.render.shapes import PALETTE
from semore.collect.scenarios import Scenario
from semore.collect.spawns import draw_initial_state
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import ACTOR_FIELDS, KIND_INDEX, KINDS

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cast:
    """An episode's start: the ego, the physics tables of `vehicles` (V, 17) and `walkers` (W, 11), `actors` (V+W, 14)
    with the columns that never change filled in (vehicles first, ids from 1), their `paint` (V+W, 3), and the
    crossing speeds (m/s)."""

    ego: EgoState
    vehicles: Floats
    walkers: Floats
    actors: NDArray[np.float32]
    paint: Floats
    walk_left: float
    walk_right: float


def place(scenario: Scenario, on: Road, rng: np.random.Generator) -> Cast:
    """Draw a start for `scenario` on the road `on`; SemoreError when a group doesn't fit or names a lane it lacks."""

    def where(road: int, lane: int, s: float, offset: float = 0.0) -> tuple[float, float, float]:
        _check(road, on)
        x, y, heading = on.pose(s, on.lane_centre(lane) + travel(lane) * offset)
        return x, y, heading + (0.0 if travel(lane) > 0 else math.pi)

    start = draw_initial_state(scenario, where, rng)
    ego = start.ego
    x, y, yaw = where(ego.road, ego.lane, ego.s, ego.offset)
    vehicles = [
        vehicle_row(
            KINDS[one.kind], one.s, on.lane_centre(one.lane), travel(one.lane),
            on.lane_centre(one.lane), on.limit / 3.6 * (1.0 - one.percent / 100.0),
        )
        for one in start.vehicles
    ]  # fmt: skip
    walkers = []
    for one in start.walkers:
        _check(one.road, on)
        t = on.lane_centre(one.lane)
        walkers.append(walker_row(one.s, t, *on.pose(one.s, t)[:2], facing=-math.copysign(1.0, t)))
    looks = [(one.kind, float(one.lights)) for one in start.vehicles]
    looks += [(KIND_INDEX["pedestrian"], 0.0)] * len(walkers)
    actors = [_actor(number, kind, lights) for number, (kind, lights) in enumerate(looks, start=1)]
    return Cast(
        EgoState(x, y, yaw + ego.turn),
        np.array(vehicles, np.float64).reshape(-1, VEHICLE_COLUMNS),
        np.array(walkers, np.float64).reshape(-1, WALKER_COLUMNS),
        np.array(actors, np.float32).reshape(-1, len(ACTOR_FIELDS)),
        np.array(PALETTE)[list(start.paints)].reshape(-1, 3),
        start.walk_left,
        start.walk_right,
    )


def _actor(identity: int, kind: int, lights: float) -> tuple[float, ...]:
    shape = KINDS[kind]
    return (identity, kind, 0, 0, 0, 0, 0, 0, shape.length, shape.width, shape.height, lights, 0, 0)


def _check(number: int, road: Road) -> None:
    if number != road.id:
        raise SemoreError(f"this map has only road {road.id}; the scenario asks for road {number}")
