"""One step of the loopback world's walkers, traffic, ego dynamics and contacts, for any number of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.carla.loopback.actors import Actors, Body, Vehicle, Walker
from semore.collect.embedded.maps.town import Town
from semore.collect.embedded.physics import vehicles, walkers
from semore.collect.embedded.physics.contact import collide, lean
from semore.collect.embedded.physics.dynamics import advance
from semore.collect.simulator import Control
from semore.datasets.rollouts.schema import SemanticClass

Floats = NDArray[np.float64]

_REACH: Final = 30.0  # m of road on either side of a driven car whose scenery it can touch
_NOBODY: Final = np.array([-1e6, 1e6, 0.0, 0.0, 0.0])


@dataclass(frozen=True)
class Hit:
    """`body` was hit by `other`, or by scenery of a class; the impulse on `body` in the world's axes, N·s."""

    body: Body
    other: Body | SemanticClass
    impulse: tuple[float, float, float]


def step(actors: Actors, rng: np.random.Generator, dt: float) -> list[Hit]:
    """Move all bodies by `dt` s as their last positions suggest, then resolve the contacts of those that overlap."""
    people, cars = actors.every(Walker), actors.every(Vehicle)
    driven = [car for car in cars if car.row is None]
    traffic = [car for car in cars if car.row is not None]
    bodies: list[Body] = [*driven, *traffic, *people]
    before = [(body.vx, body.vy) for body in bodies]
    if people:
        _walk(people, actors.town, dt)
    if traffic:
        _flow(traffic, driven, actors.town, dt)
    for car in driven:
        car.recall()
        if not car.frozen:
            car.state = advance(car.state, _wish(car.control), dt)
            _show_driven(car)
    hits = _collide(bodies, len(driven), len(cars), actors.town, rng, dt) if bodies else []
    for body, (vx, vy) in zip(bodies, before, strict=True):
        body.z = 0.0
        body.ax, body.ay = (body.vx - vx) / dt, (body.vy - vy) / dt
    return hits


def _wish(control: list[Any]) -> Control:
    """What the embedded dynamics make of a VehicleControl: they know no reverse gear, and one brake."""
    throttle, steer, brake = (value if math.isfinite(value) else 0.0 for value in control[:3])  # a client's, not ours
    hand_brake, reverse = control[3:5]
    return Control(steer, 0.0 if reverse else throttle, 1.0 if hand_brake else brake).clipped()


def _walk(people: list[Walker], town: Town, dt: float) -> None:
    wishes = np.array([(one.control[0][0] * one.control[1], one.control[0][1] * one.control[1]) for one in people])
    rows = walkers.stroll(np.stack([one.row for one in people]), town.road.segments, wishes, dt)
    for one, row, wish in zip(people, rows, wishes, strict=True):
        one.row = row
        _show_walker(one)
        if not one.down and row[walkers.DAZE] == 0.0 and wish.any():
            one.yaw = math.atan2(wish[1], wish[0])


def _flow(traffic: list[Vehicle], driven: list[Vehicle], town: Town, dt: float) -> None:
    """Vehicles on autopilot; to them the first driven car is the ego, further ones are stunned traffic."""
    road = town.road
    others = [_seen(car, town) for car in driven[1:]]
    rows = np.array([car.row for car in traffic] + others)
    ego = _NOBODY
    if driven:
        first = driven[0]
        ego = np.array([*_on_the_road(first, town), first.kind.length, first.kind.width])
    rows = vehicles.drive(rows, road.segments, road.length, road.driving_lanes, town.edges, ego, dt)
    for car, row in zip(traffic, rows, strict=False):
        car.row = row
    _show_traffic(traffic, town)


def _seen(car: Vehicle, town: Town) -> Floats:
    """A driven car as traffic sees it."""
    s, t, along = _on_the_road(car, town)
    row = vehicles.vehicle_row(car.kind, s, t, math.copysign(1.0, along), t, 1.0)
    row[vehicles.SPEED], row[vehicles.STUN] = abs(along), vehicles.STUN_TIME
    return row


def _on_the_road(car: Vehicle, town: Town) -> tuple[float, float, float]:
    """s, t (m), and the velocity along the road, m/s."""
    s, t = town.road.locate(car.x, car.y)
    heading = town.road.pose(s, 0.0)[2]
    return s, t, car.vx * math.cos(heading) + car.vy * math.sin(heading)


def _show_walker(one: Walker) -> None:
    row = one.row
    one.x, one.y, one.vx, one.vy = row[[walkers.X, walkers.Y, walkers.VX, walkers.VY]].tolist()
    one.down = bool(row[walkers.DOWN])


def _show_traffic(traffic: list[Vehicle], town: Town) -> None:
    rows = np.array([car.row for car in traffic]).reshape(-1, vehicles.VEHICLE_COLUMNS)
    poses = vehicles.vehicle_poses(rows, town.road.segments).tolist()
    for car, row, pose in zip(traffic, rows, poses, strict=True):
        car.x, car.y, car.yaw, car.vx, car.vy = pose
        car.spin, car.down = float(row[vehicles.SPIN]), bool(row[vehicles.DOWN])


def _show_driven(car: Vehicle) -> None:
    state = car.state
    car.x, car.y, car.yaw, car.spin = state.x, state.y, state.yaw, state.spin
    car.vx, car.vy = state.velocity


def _collide(
    bodies: list[Body], driven: int, cars: int, town: Town, rng: np.random.Generator, dt: float
) -> list[Hit]:  # fmt: skip
    """Resolve every contact among bodies and scenery; the first `driven` are driven cars, the rest up to `cars`
    traffic."""
    near = _scenery(bodies[:driven], town)
    table = np.concatenate([np.array([body.box() for body in bodies]), town.scenery.bodies[near]])
    before = table[: len(bodies)].copy()
    hits = []
    contacts = collide(table, len(bodies), cars, dt)
    for one, other, strength, nx, ny in contacts.tolist():
        if strength > 0.0:
            first, row = bodies[int(one)], int(other)
            second = bodies[row] if row < len(bodies) else _class_of(town, near, row - len(bodies))
            push = (-strength * nx, -strength * ny, 0.0)
            hits.append(Hit(first, second, push))
            if isinstance(second, Body):
                hits.append(Hit(second, first, (-push[0], -push[1], 0.0)))
    for row in range(driven):
        hits += _rails(bodies[row], table[row], town)
    moved = np.flatnonzero((table[: len(bodies)] != before).any(axis=1)).tolist()
    for row in moved:
        _shove(bodies[row], table[row], before[row], town, rng)
    _show_traffic(
        [car for car in map(bodies.__getitem__, moved) if isinstance(car, Vehicle) and car.row is not None], town
    )
    return hits


def _scenery(driven: list[Body], town: Town) -> slice:
    places = [town.road.locate(car.x, car.y)[0] for car in driven]
    return town.scenery.between(min(places) - _REACH, max(places) + _REACH) if places else slice(0, 0)


def _class_of(town: Town, near: slice, row: int) -> SemanticClass:
    return SemanticClass(int(town.scenery.tags[near][row, 1]))


def _rails(car: Body, row: Floats, town: Town) -> list[Hit]:
    """Contacts with the fences along the road; `row` of contact.BODY_FIELDS is changed in place."""
    hits = []
    for fence in town.fences:
        strength = lean(row, town.road.segments, fence.t, fence.side)
        if strength > 0.0:
            heading = town.road.pose(town.road.locate(car.x, car.y)[0], 0.0)[2]
            push = (strength * fence.side * math.sin(heading), -strength * fence.side * math.cos(heading), 0.0)
            hits.append(Hit(car, fence.semantic, push))
    return hits


def _shove(body: Body, after: Floats, before: Floats, town: Town, rng: np.random.Generator) -> None:
    """A body takes its change of velocity and place."""
    dx, dy, dvx, dvy = (after - before)[[0, 1, 6, 7]].tolist()
    if isinstance(body, Walker):
        coin = float(rng.random()) if body.row[walkers.DAZE] == 0.0 else 1.0
        body.row = walkers.knock(body.row, dvx, dvy, dx, dy, coin)
        _show_walker(body)
    elif isinstance(body, Vehicle) and body.row is not None:
        heading = town.road.pose(body.row[vehicles.S], 0.0)[2]
        body.row = vehicles.shove(body.row, body.kind, heading, dvx, dvy, float(after[8]), dx, dy)
    elif isinstance(body, Vehicle):
        x, y, vx, vy, spin = after[[0, 1, 6, 7, 8]].tolist()
        body.state = body.state.after_hit(x, y, vx, vy, spin)
        _show_driven(body)
