"""The loopback server's actors: spawned, controlled and destroyed by clients, in CARLA's terms outside."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from semore.collect.carla.loopback import wire
from semore.collect.carla.loopback.blueprints import kind_of, known, paint_of
from semore.collect.embedded.maps.town import Town
from semore.collect.embedded.physics import vehicles, walkers
from semore.collect.embedded.physics.contact import build, overlap
from semore.collect.embedded.physics.dynamics import EgoState
from semore.datasets.rollouts.schema import Kind, SemanticClass

Floats = NDArray[np.float64]

TAGS: Final[dict[SemanticClass, int]] = {
    SemanticClass.SKY: 11, SemanticClass.ROAD: 1, SemanticClass.LANE_MARKING: 24, SemanticClass.SIDEWALK: 2,
    SemanticClass.TERRAIN: 10, SemanticClass.BUILDING: 3, SemanticClass.GUARD_RAIL: 28, SemanticClass.POLE: 6,
    SemanticClass.CAR: 14, SemanticClass.TRUCK: 15, SemanticClass.BICYCLE: 19, SemanticClass.RIDER: 13,
    SemanticClass.PEDESTRIAN: 12, SemanticClass.OTHER: 8,
}  # fmt: skip
"""Our pixel classes as carla.CityObjectLabel; our OTHER is a gantry's sign board."""

_LIT: Final = 0x1 | 0x2 | 0x4  # position lamps, low and high beams, of carla.VehicleLightState
LOW_BEAM: Final = 0x2
_AT_REST: Final = (0.0, 0.0, 0.0, False, False, False, 0)  # a control that asks for nothing


class Refused(Exception):
    """A request that cannot be met; the client gets its text as an error."""


@dataclass
class Actor:
    """Anything with an id. `offset` is its pose: relative to `parent` when it has one (id > 0), else in the world."""

    id: int
    description: list[Any]
    offset: wire.Transform
    parent: int = 0

    @cached_property
    def blueprint(self) -> str:
        return str(self.description[1])

    @cached_property
    def attributes(self) -> dict[str, str]:
        return {one[0]: one[2] for one in self.description[2]}


@dataclass
class Body(Actor):
    """A vehicle or a walker. Position of its foot and velocity in m and m/s, yaw (rad), spin (rad/s), acceleration
    (m/s²); `slot` numbers the bodies of the moment from 0."""

    kind: Kind = field(kw_only=True)
    slot: int = field(kw_only=True)
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    yaw: float = 0.0
    vx: float = 0.0
    vy: float = 0.0
    spin: float = 0.0
    ax: float = 0.0
    ay: float = 0.0
    down: bool = False
    lights: int = 0

    def __post_init__(self) -> None:
        self.paint = paint_of(self.blueprint, self.attributes)
        self.shape = build(self.kind)
        self.rise = self.kind.height / 2 if self.kind.semantic is SemanticClass.PEDESTRIAN else 0.0
        """How far its origin lies above its foot, m: a walker's is at half its height, as in CARLA."""
        self.object_id = (self.slot * 40505 + 20484) & 0xFFFF
        """What stands for it in instance pictures: as in Unreal not the actor's id. Never 0, and different for
        different slots. Equal to the slot modulo 4, so that whoever stands where the embedded world's first, second, …
        actor would gets the same skin."""
        self.pose(self.offset)

    @property
    def lit(self) -> bool:
        return bool(self.lights & _LIT)

    @property
    def braking(self) -> bool:
        return False

    def box(self) -> tuple[float, ...]:
        """Its row of contact.BODY_FIELDS."""
        half_length, half_width, mass, inertia = self.shape
        if self.down:  # lies along its heading
            half_length, half_width = self.kind.height / 2, self.kind.width / 2
        heading = math.cos(self.yaw), math.sin(self.yaw)
        return (self.x, self.y, half_length, half_width, *heading, self.vx, self.vy, self.spin, mass, inertia)

    def pose(self, transform: wire.Transform) -> None:
        """Stand at `transform`, as it comes from a client; the velocity stays."""
        self.x, self.y, self.z = transform[0], transform[1], transform[2] - self.rise
        self.yaw = math.radians(transform[4])


@dataclass
class Vehicle(Body):
    """`control` as procedures carry it: throttle, steer, brake, hand brake, reverse, manual gears, gear. `state` while
    it obeys it; `row` (17,) of semore.collect.embedded.physics.vehicles while it is on autopilot."""

    control: list[Any] = field(default_factory=lambda: list(_AT_REST))
    state: EgoState = EgoState(0.0, 0.0, 0.0)  # noqa: RUF009  (frozen)
    row: Floats | None = None
    frozen: bool = False
    physics: list[Any] | None = None
    told: bool = False
    """Whether `control` came since the last step."""

    def obey(self, control: list[Any]) -> None:
        """Take a client's control."""
        self.control, self.told = control, True

    def recall(self) -> None:
        """A step begins: whose control is not sticky forgets it when it was not told again."""
        if not self.told and self.attributes.get("sticky_control", "").lower() == "false":
            self.control = list(_AT_REST)
        self.told = False

    @property
    def braking(self) -> bool:
        return self.row is not None and bool(self.row[vehicles.BRAKE])


@dataclass
class Walker(Body):
    """`control`: direction [x, y, z], speed (m/s), jump; `row` (11,) of semore.collect.embedded.physics.walkers."""

    control: list[Any] = field(default_factory=lambda: [[0.0, 0.0, 0.0], 0.0, False])
    row: Floats = field(default_factory=lambda: np.zeros(walkers.WALKER_COLUMNS))


_Some = TypeVar("_Some", bound=Actor)


class Actors:
    """Every actor of an episode by id; ids never come again, slots of bodies do."""

    def __init__(self, town: Town, ids: Iterator[int] | None = None) -> None:
        self.town = town
        self.ids = ids or count(24)
        self._all: dict[int, Actor] = {}
        self.spectator = self._add(Actor(next(self.ids), [0, "spectator", []], (0.0, 0.0, 5.0, 0.0, 0.0, 0.0)))

    def __iter__(self) -> Iterator[Actor]:
        return iter(self._all.values())

    def every(self, kind: type[_Some]) -> list[_Some]:
        """All actors of a class, in the order of their ids."""
        return [actor for actor in self._all.values() if isinstance(actor, kind)]

    def find(self, number: int, kind: type[_Some]) -> _Some:
        """The actor with id `number`; Refused when there is none, or it is of another class."""
        actor = self._all.get(number)
        if not isinstance(actor, kind):
            raise Refused(f"unable to find actor {number}: no {kind.__name__.lower()} of that id in this episode")
        return actor

    def get(self, number: int) -> Actor | None:
        return self._all.get(number)

    def spawn(self, description: list[Any], transform: wire.Transform, parent: int = 0) -> Actor:
        """A new actor; Refused for an unknown blueprint, a missing parent, or somebody in the way."""
        if not known(description[1]):
            raise Refused(f"the loopback server has no blueprint {description[1]!r}; see its blueprint library")
        if parent:
            self.find(parent, Actor)
        kind = kind_of(description[1])
        if kind is None:
            return self._add(Actor(next(self.ids), description, transform, parent))
        slots = {body.slot for body in self.every(Body)}
        slot = next(number for number in count() if number not in slots)
        made = Walker if kind.semantic is SemanticClass.PEDESTRIAN else Vehicle
        body = made(0, description, transform, kind=kind, slot=slot)
        if self._blocked(body):
            raise Refused("Spawn failed because of collision at spawn position")
        body.id = next(self.ids)
        self.settle(body)
        return self._add(body)

    def destroy(self, number: int) -> None:
        """Remove an actor; what was attached to it stays where it is. Refused when there is none."""
        self.find(number, Actor)
        for child in self._all.values():
            if child.parent == number:
                child.offset, child.parent = self.transform(child), 0
        del self._all[number]

    def settle(self, body: Body) -> None:
        """Take over a body's pose and velocity, which something other than the passing of time has changed."""
        s, t = self.town.road.locate(body.x, body.y)
        if isinstance(body, Walker):
            row = body.row
            row[[walkers.S, walkers.T, walkers.X, walkers.Y]] = s, t, body.x, body.y
            row[[walkers.VX, walkers.VY]] = body.vx, body.vy
        elif isinstance(body, Vehicle):
            still = replace(body.state, x=body.x, y=body.y, yaw=body.yaw)
            body.state = still.after_hit(body.x, body.y, body.vx, body.vy, body.spin)
            if body.row is not None:
                body.row = self.lane_row(body)

    def lane_row(self, vehicle: Vehicle) -> Floats:
        """The physics row for a vehicle that goes on by itself from here, in the nearest lane of its way."""
        road = self.town.road
        s, t = road.locate(vehicle.x, vehicle.y)
        heading = road.pose(s, 0.0)[2]
        way = 1.0 if math.cos(vehicle.yaw - heading) > 0.0 else -1.0
        lanes = [float(lane) for lane, direction in road.driving_lanes if direction == way]
        row = vehicles.vehicle_row(vehicle.kind, s, t, way, min(lanes or [t], key=lambda lane: abs(lane - t)), 0.0)
        cos, sin = math.cos(heading), math.sin(heading)
        row[vehicles.SPEED] = way * (vehicle.vx * cos + vehicle.vy * sin)
        row[vehicles.DRIFT] = vehicle.vy * cos - vehicle.vx * sin
        row[vehicles.TURN] = math.remainder(vehicle.yaw - heading - (0.0 if way > 0.0 else math.pi), math.tau)
        if vehicle.row is not None:
            keep = [vehicles.DESIRED, vehicles.STUN, vehicles.SPIN, vehicles.DOWN]
            row[keep] = vehicle.row[keep]
        return row

    def place(self, actor: Actor) -> tuple[float, float, float, float]:
        """x, y, z (m) of an actor's origin and its yaw (rad) in the world."""
        if isinstance(actor, Body):
            return actor.x, actor.y, actor.z + actor.rise, actor.yaw
        x, y, z, _, yaw, _ = actor.offset
        parent = self._all.get(actor.parent)
        if parent is None:
            return x, y, z, math.radians(yaw)
        px, py, pz, turn = self.place(parent)
        cos, sin = math.cos(turn), math.sin(turn)
        return px + x * cos - y * sin, py + x * sin + y * cos, pz + z, turn + math.radians(yaw)

    def transform(self, actor: Actor) -> wire.Transform:
        """The pose of an actor in the world, as clients see it; whoever lies on the ground has a roll of 90°."""
        x, y, z, yaw = self.place(actor)
        pitch, roll = actor.offset[3], actor.offset[5]
        if isinstance(actor, Body):
            pitch, roll = 0.0, 90.0 if actor.down else 0.0
        return x, y, z, pitch, math.degrees(math.remainder(yaw, math.tau)), roll

    def _add(self, actor: _Some) -> _Some:
        self._all[actor.id] = actor
        return actor

    def _blocked(self, body: Body) -> bool:
        mine = np.array(body.box())
        for other in self.every(Body):
            near = abs(other.z - body.z) < max(other.kind.height, body.kind.height)
            if near and overlap(mine, np.array(other.box()), 0.0, 0.0, 0.0)[0] > 0.0:
                return True
        return False


def packed(actor: Actor, token: bytes = b"") -> list[Any]:
    """An actor as procedures carry it: id, parent, description, bounding box, semantic tags, stream token."""
    tags = bytes([TAGS[actor.kind.semantic]]) if isinstance(actor, Body) else b""
    return [actor.id, actor.parent, actor.description, bounding_box(actor), tags, token]


def bounding_box(actor: Actor) -> list[list[float]]:
    """Centre and half extents (m) in the actor's own axes, and a rotation of none; a point without a body."""
    if not isinstance(actor, Body):
        return [[0.0] * 3] * 3
    kind = actor.kind
    return [[0.0, 0.0, kind.height / 2 - actor.rise], [kind.length / 2, kind.width / 2, kind.height / 2], [0.0] * 3]
