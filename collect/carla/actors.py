"""The actors of an episode on the CARLA server: spawned from an InitialState, ordered about, and read back."""

from __future__ import annotations

import math
from typing import Any, Final

import carla
import numpy as np
from numpy.typing import NDArray

from semore.collect.carla.pedestrians import Axis, Order, PedestrianRules, Walking
from semore.collect.carla.session import Session
from semore.collect.scenarios import Scenario
from semore.collect.spawns import EgoPlace, InitialState, VehiclePlace, WalkerPlace
from semore.datasets.rollouts.schema import ACTOR_COLUMN, ACTOR_FIELDS, KIND_INDEX, KINDS

FALL: Final = 4.0
"""Velocity in m/s that a hit must give a walker to knock it over; Unreal reports no fall."""

_LIFT: Final = 0.1  # m above the road that vehicles spawn (method.md §2.2)
_WALKER_LIFT: Final = 1.0  # m; a walker's origin is the middle of its body
_LEADING: Final = 2.0  # m, the traffic manager's distance to the leader (method.md §2.1)
_LYING: Final = 45.0  # degrees of pitch or roll from which somebody lies
_PEDESTRIAN: Final = KIND_INDEX["pedestrian"]
_X, _Y, _Z, _YAW, _VX, _VY, _DOWN, _BRAKE = (
    ACTOR_COLUMN[name] for name in ("x", "y", "z", "yaw", "vx", "vy", "down", "brake")
)


class EpisodeActors:
    """The vehicles and walkers of an episode, at rest until `set_off`, and the ego.

    The rows of `table` are vehicles, then walkers; their ids count from 1. z counts from the road's surface where the
    ego starts, since maps have hills."""

    def __init__(
        self, session: Session, scenario: Scenario, start: InitialState, low_beams: bool, rng: np.random.Generator
    ) -> None:
        lanes, place = session.lanes, start.ego
        self._session, self._start = session, start
        self.ground = lanes.waypoint(place.road, place.lane, place.s).transform.location.z
        self.ego = self._spawn_ego(place, low_beams)
        count = len(start.vehicles)
        self._vehicles = [
            self._spawn_vehicle(vehicle, paint) for vehicle, paint in zip(start.vehicles, start.paints, strict=False)
        ]
        axes = [Axis(*lanes.across(walker.road, walker.s)) for walker in start.walkers]
        self._walkers = [
            self._spawn_walker(walker, paint, axis)
            for walker, paint, axis in zip(start.walkers, start.paints[count:], axes, strict=True)
        ]
        self._crossing = PedestrianRules(axes, scenario.walker_band, start.walk_left, start.walk_right, rng)
        self._told: list[Order | None] = [None] * len(self._walkers)
        self._everybody = [*self._vehicles, *self._walkers]
        self._number = {actor.id: row + 1 for row, actor in enumerate(self._everybody)}
        boxes = [actor.bounding_box for actor in self._everybody]
        self._feet = [box.extent.z - box.location.z for box in boxes]  # m below the actor's origin
        kinds = [vehicle.kind for vehicle in start.vehicles] + [_PEDESTRIAN] * len(self._walkers)
        lights = [float(vehicle.lights) for vehicle in start.vehicles] + [0.0] * len(self._walkers)
        rows = [
            (row + 1, kind, 0, 0, 0, 0, 0, 0, 2 * box.extent.x, 2 * box.extent.y, 2 * box.extent.z, lit, 0, 0)
            for row, (kind, lit, box) in enumerate(zip(kinds, lights, boxes, strict=True))
        ]
        self._table = np.array(rows, np.float32).reshape(-1, len(ACTOR_FIELDS))

    def set_off(self, traffic: Any) -> None:
        """Hand the vehicles over to the traffic manager (method.md §2.2)."""
        for vehicle, place in zip(self._vehicles, self._start.vehicles, strict=True):
            vehicle.set_autopilot(True, traffic.get_port())
            traffic.auto_lane_change(vehicle, True)
            traffic.distance_to_leading_vehicle(vehicle, _LEADING)
            traffic.ignore_lights_percentage(vehicle, 100.0)
            traffic.ignore_signs_percentage(vehicle, 100.0)
            traffic.vehicle_percentage_speed_difference(vehicle, place.percent)

    def walk(self, tick: int) -> None:
        """Send the walkers' new orders, from where the last `look` saw them; an order holds until the next one."""
        if not self._walkers:
            return
        rows = self._table[len(self._vehicles) :]
        seen = [Walking(*row) for row in rows[:, [_X, _Y, _VX, _VY]].tolist()]
        for number, order in enumerate(self._crossing.orders(tick, seen)):
            if order is not None and order != self._told[number] and rows[number, _DOWN] == 0.0:
                way = carla.Vector3D(math.cos(order.yaw), math.sin(order.yaw), 0.0)
                self._walkers[number].apply_control(carla.WalkerControl(way, order.speed))
                self._told[number] = order

    def look(self, snapshot: carla.WorldSnapshot) -> None:
        """Note where all actors are. One that has vanished from the server stays where it was last seen."""
        table = self._table
        for row, actor in enumerate(self._everybody):
            seen = snapshot.find(actor.id)
            if seen is None:
                table[row, [_VX, _VY]] = 0.0
                continue
            pose, velocity = seen.get_transform(), seen.get_velocity()
            place, turn = pose.location, pose.rotation
            table[row, _X], table[row, _Y] = place.x, place.y
            table[row, _Z] = place.z - self._feet[row] - self.ground
            table[row, _YAW] = math.radians(turn.yaw)
            table[row, _VX], table[row, _VY] = velocity.x, velocity.y
            if _tilt(turn) > _LYING:
                table[row, _DOWN] = 1.0
            if row < len(self._vehicles):
                table[row, _BRAKE] = float(actor.get_control().brake > 0.0)

    def struck(self, actor: int, impulse: float) -> tuple[int, str]:
        """Our number and the name of the server's `actor` that the ego hit with `impulse` N·s; (0, "") for scenery."""
        number = self._number.get(actor, 0)
        if number == 0:
            return 0, ""
        kind = KINDS[int(self._table[number - 1, ACTOR_COLUMN["kind"]])]
        if kind.name == "pedestrian" and impulse > FALL * kind.mass:
            self._table[number - 1, _DOWN] = 1.0
        return number, kind.name

    def table(self) -> NDArray[np.float32]:
        """The actors as the last `look` saw them: a fresh (A, 14) float32, datasets.rollouts.schema.ACTOR_FIELDS."""
        return self._table.copy()

    def _spawn_ego(self, place: EgoPlace, low_beams: bool) -> Any:
        x, y, yaw = self._session.lanes.where(place.road, place.lane, place.s, place.offset)
        blueprint = self._session.blueprint(KINDS[KIND_INDEX["sedan"]].blueprint)
        ego = self._session.spawn(blueprint, _transform(x, y, self.ground + _LIFT, yaw + place.turn))
        physics = ego.get_physics_control()
        physics.gear_switch_time = 0.01
        physics.damping_rate_zero_throttle_clutch_engaged = physics.damping_rate_zero_throttle_clutch_disengaged
        ego.apply_physics_control(physics)
        ego.apply_control(carla.VehicleControl(brake=1.0, manual_gear_shift=True, gear=1))
        if low_beams:
            ego.set_light_state(carla.VehicleLightState(carla.VehicleLightState.LowBeam))
        return ego

    def _spawn_vehicle(self, place: VehiclePlace, paint: int) -> Any:
        blueprint = self._session.blueprint(KINDS[place.kind].blueprint)
        if blueprint.has_attribute("color"):
            colours = blueprint.get_attribute("color").recommended_values
            blueprint.set_attribute("color", colours[paint % len(colours)])
        vehicle = self._session.spawn(blueprint, self._above(place, _LIFT))
        if place.lights:
            vehicle.set_light_state(carla.VehicleLightState(carla.VehicleLightState.All))
        return vehicle

    def _spawn_walker(self, place: WalkerPlace, paint: int, axis: Axis) -> Any:
        """Somebody who faces the road."""
        choice = self._session.blueprints(KINDS[_PEDESTRIAN].blueprint)
        blueprint = choice[paint % len(choice)]
        blueprint.set_attribute("is_invincible", "false")
        yaw = axis.yaw + (math.pi if place.lane < 0 else 0.0)
        return self._session.spawn(blueprint, self._above(place, _WALKER_LIFT, yaw))

    def _above(self, place: VehiclePlace | WalkerPlace, lift: float, yaw: float | None = None) -> carla.Transform:
        """`lift` m above the middle of the lane there, heading along it unless told otherwise."""
        middle = self._session.lanes.waypoint(place.road, place.lane, place.s).transform
        at = middle.location
        return _transform(at.x, at.y, at.z + lift, math.radians(middle.rotation.yaw) if yaw is None else yaw)


def _transform(x: float, y: float, z: float, yaw: float) -> carla.Transform:
    return carla.Transform(carla.Location(x, y, z), carla.Rotation(yaw=math.degrees(yaw)))


def _tilt(turn: carla.Rotation) -> float:
    """Degrees off upright."""
    return max(abs(math.remainder(turn.roll, 360.0)), abs(math.remainder(turn.pitch, 360.0)))
