"""The remote procedures that a client can call on the loopback server, by name."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, Final

from semore.collect.carla.loopback import wire
from semore.collect.carla.loopback.actors import Actor, Body, Refused, Vehicle, Walker, bounding_box, packed
from semore.collect.carla.loopback.blueprints import library
from semore.collect.carla.loopback.cameras import unusable
from semore.collect.carla.loopback.physics import default_physics
from semore.collect.carla.loopback.rays import Point, beyond, meets
from semore.collect.carla.loopback.simulation import Simulation, maps
from semore.collect.carla.loopback.traffic import Traffic
from semore.collect.embedded.maps.opendrive import opendrive
from semore.collect.embedded.maps.road import travel
from semore.collect.embedded.maps.town import SPECS
from semore.collect.embedded.render.raycast import RENDERER_VERSION

_SPAWN_EVERY: Final = 25.0  # m between the spawn points of a lane
_SPAWN_RISE: Final = 0.3  # m
_IGNORED: Final = (
    "set_actor_collisions", "set_actor_enable_gravity", "set_actor_dead", "set_wheel_steer_direction",
    "enable_environment_objects", "update_lights_state", "update_day_night_cycle", "draw_debug_shape",
    "reset_all_traffic_lights", "freeze_all_traffic_lights", "show_vehicle_debug_telemetry", "destroy_traffic_manager",
    "load_map_layer", "unload_map_layer", "set_annotations_traverse_translucency",
)  # fmt: skip
_EMPTY: Final = (
    "get_required_files", "get_environment_objects", "get_all_level_BBs", "get_light_boxes", "query_lights_state",
    "get_group_traffic_lights", "get_names_of_all_objects",
)  # fmt: skip
COMMANDS: Final = {
    0: "SpawnActor", 1: "DestroyActor", 2: "ApplyVehicleControl", 3: "ApplyVehicleAckermannControl",
    4: "ApplyWalkerControl", 5: "ApplyVehiclePhysicsControl", 6: "ApplyTransform", 7: "ApplyWalkerState",
    8: "ApplyTargetVelocity", 9: "ApplyTargetAngularVelocity", 10: "ApplyImpulse", 11: "ApplyForce",
    12: "ApplyAngularImpulse", 13: "ApplyTorque", 14: "SetSimulatePhysics", 15: "SetEnableGravity", 16: "SetAutopilot",
    17: "ShowDebugTelemetry", 18: "SetVehicleLightState",
}  # fmt: skip
"""What a batch's command numbers mean."""


class Procedures:
    """Everything that can be called; `tick` advances the world, `port` is where it all arrives, `expect` is told of
    each stream that a client is about to read."""

    def __init__(
        self, simulation: Simulation, host: str, port: int, tick: Callable[[], int], expect: Callable[[int], None]
    ) -> None:
        self._simulation, self._port, self._tick, self._expect = simulation, port, tick, expect
        self._traffic = Traffic(simulation)
        self._unknown: set[str] = set()
        self._void: dict[str, Callable[..., None]] = dict.fromkeys(_IGNORED, lambda *_: None) | {
            "set_weather_parameters": simulation.set_weather,
            "load_new_episode": self._load,
            "set_actor_transform": self._set_transform,
            "set_actor_location": self._set_location,
            "set_actor_target_velocity": self._set_velocity,
            "set_actor_target_angular_velocity": self._set_spin,
            "set_actor_simulate_physics": self._set_physics,
            "set_actor_autopilot": self._traffic.autopilot,
            "apply_control_to_vehicle": self._control_vehicle,
            "apply_control_to_walker": self._control_walker,
            "apply_physics_control": self._apply_physics,
            "set_vehicle_light_state": self._set_lights,
        }
        self._values: dict[str, Callable[..., Any]] = dict.fromkeys(_EMPTY, lambda *_: []) | {
            "version": lambda: wire.VERSION,
            "semore_renderer": lambda: RENDERER_VERSION,
            "get_episode_info": lambda: [simulation.episode, [self._token(wire.WORLD_STREAM)]],
            "get_sensor_token": self._announced,
            "get_episode_settings": lambda: simulation.settings,
            "set_episode_settings": self._set_settings,
            "get_map_info": self._map_info,
            "get_map_data": lambda: opendrive(SPECS[simulation.town.name], simulation.town.name),
            "get_available_maps": maps,
            "get_actor_definitions": library,
            "get_weather_parameters": lambda: simulation.weather,
            "get_spectator": lambda: packed(simulation.actors.spectator),
            "get_actors_by_id": self._get_actors,
            "get_actor_bounding_box": lambda number: bounding_box(simulation.actors.find(number, Actor)),
            "project_point": self._project,
            "cast_ray": lambda start, end: meets(simulation.actors, start, end),
            "get_physics_control": self._get_physics,
            "get_vehicle_light_state": lambda number: [simulation.actors.find(number, Vehicle).lights],
            "get_vehicle_light_states": self._get_lights,
            "spawn_actor": lambda description, transform, *_: self._packed(self._spawn(description, transform)),
            "spawn_actor_with_parent": lambda what, where, parent, *_: self._packed(self._spawn(what, where, parent)),
            "destroy_actor": self._destroy,
            "tick_cue": tick,
            "is_traffic_manager_running": lambda *_: True,
            "get_traffic_manager_running": lambda *_: [host, port],
            "add_traffic_manager_running": lambda *_: True,
        }
        self._commands: dict[str, Callable[..., Any]] = {
            "DestroyActor": self._destroy,
            "ApplyVehicleControl": self._control_vehicle,
            "ApplyWalkerControl": self._control_walker,
            "ApplyVehiclePhysicsControl": self._apply_physics,
            "ApplyTransform": self._set_transform,
            "ApplyTargetVelocity": self._set_velocity,
            "ApplyTargetAngularVelocity": self._set_spin,
            "SetSimulatePhysics": self._set_physics,
            "SetEnableGravity": lambda *_: None,
            "SetAutopilot": self._traffic.autopilot,
            "SetVehicleLightState": self._set_lights,
        }

    def call(self, name: str, arguments: list[Any]) -> Any:
        """The reply to a call, as it goes on the wire. Orders to a traffic manager are bare, all others come with a
        first argument that says whether the client waits for the answer."""
        try:
            if name in self._traffic.orders:
                return self._traffic.orders[name](*arguments)
            if name == "apply_batch":
                return self._batch(*arguments[1:])
            if name in self._values:
                return wire.success(self._values[name](*arguments[1:]))
            if name in self._void:
                self._void[name](*arguments[1:])
                return wire.VOID
        except Refused as reason:
            return wire.failure(str(reason))
        except (TypeError, ValueError, LookupError) as error:  # a client's nonsense must not end the server
            print(f"loopback: {name}{arguments!r:.300}: {error!r}", file=sys.stderr, flush=True)
            return wire.failure(f"{name}: the arguments cannot be understood ({error!r})")
        if name not in self._unknown:
            self._unknown.add(name)
            print(f"loopback: a client called {name!r}, which this server does not know", file=sys.stderr, flush=True)
        return wire.failure(f"the loopback server does not know the procedure {name!r}; see docs/loopback.md")

    # --- the world

    def _token(self, stream: int) -> bytes:
        return wire.token(stream, self._port + 1)

    def _announced(self, stream: int) -> list[Any]:
        self._expect(stream)
        return [self._token(stream)]

    def _set_settings(self, settings: list[Any]) -> int:
        self._simulation.settings = settings
        return self._simulation.frame

    def _map_info(self) -> list[Any]:
        town = self._simulation.town
        points = []
        for lane in town.road.lanes:
            if lane.type == "driving":
                for number in range(1, int(town.road.length / _SPAWN_EVERY)):
                    x, y, heading = town.road.pose(number * _SPAWN_EVERY, town.road.lane_centre(lane.id))
                    yaw = math.remainder(math.degrees(heading) + (0.0 if travel(lane.id) > 0 else 180.0), 360.0)
                    points.append(wire.pack_transform((x, y, _SPAWN_RISE, 0.0, yaw, 0.0)))
        return [f"Carla/Maps/{town.name}", points]

    def _load(self, name: str, reset_settings: bool = True, *_: Any) -> None:
        chosen = name.rpartition("/")[2] or self._simulation.town.name  # a client reloads the map by no name
        if chosen not in SPECS:
            raise Refused(f"map {name!r} not found; the loopback server has {', '.join(SPECS)}")
        self._simulation.load(chosen, reset_settings)
        self._traffic.forget()
        self._simulation.frame += 1
        self._simulation.tell_world()  # the client waits for a snapshot of the new episode

    def _project(self, start: Point, direction: Point, distance: float) -> list[Any]:
        """Whether there is anything within `distance` m of `start`, and the nearest LabelledPoint."""
        found = meets(self._simulation.actors, start, beyond(start, direction, distance))
        return [bool(found), found[0] if found else [[0.0] * 3, 0]]

    def _get_actors(self, numbers: list[int]) -> list[Any]:
        found = (self._simulation.actors.get(number) for number in numbers)
        return [self._packed(actor) for actor in found if actor is not None]

    # --- actors

    def _packed(self, actor: Actor) -> list[Any]:
        return packed(actor, self._token(actor.id) if actor.blueprint.startswith("sensor.") else b"")

    def _spawn(self, description: list[Any], transform: list[Any], parent: int = 0) -> Actor:
        attributes = {one[0]: one[2] for one in description[2]}
        if description[1].startswith("sensor.camera.") and (reason := unusable(attributes)):
            raise Refused(reason)
        return self._simulation.actors.spawn(description, _flat(transform), parent)

    def _destroy(self, number: int) -> bool:
        self._simulation.actors.destroy(number)
        return True

    def _set_transform(self, number: int, transform: list[Any]) -> None:
        actor = self._simulation.actors.find(number, Actor)
        if isinstance(actor, Body):
            actor.pose(_flat(transform))
            self._simulation.actors.settle(actor)
        else:
            actor.offset = _flat(transform)

    def _set_location(self, number: int, location: list[float]) -> None:
        actor = self._simulation.actors.find(number, Actor)
        rotation = self._simulation.actors.transform(actor)[3:] if isinstance(actor, Body) else actor.offset[3:]
        self._set_transform(number, [location, rotation])

    def _set_velocity(self, number: int, velocity: list[float]) -> None:
        body = self._simulation.actors.find(number, Body)
        body.vx, body.vy = velocity[:2]
        self._simulation.actors.settle(body)

    def _set_spin(self, number: int, velocity: list[float]) -> None:
        body = self._simulation.actors.find(number, Body)
        body.spin = math.radians(velocity[2])
        self._simulation.actors.settle(body)

    def _set_physics(self, number: int, on: bool) -> None:
        body = self._simulation.actors.find(number, Body)
        if isinstance(body, Vehicle):
            body.frozen = not on

    def _control_vehicle(self, number: int, control: list[Any]) -> None:
        self._simulation.actors.find(number, Vehicle).obey(control)

    def _control_walker(self, number: int, control: list[Any]) -> None:
        self._simulation.actors.find(number, Walker).control = control

    def _get_physics(self, number: int) -> list[Any]:
        vehicle = self._simulation.actors.find(number, Vehicle)
        return vehicle.physics or default_physics(vehicle.kind)

    def _apply_physics(self, number: int, physics: list[Any]) -> None:
        self._simulation.actors.find(number, Vehicle).physics = physics

    def _get_lights(self) -> list[Any]:
        return [[vehicle.id, vehicle.lights] for vehicle in self._simulation.actors.every(Vehicle)]

    def _set_lights(self, number: int, state: Any) -> None:
        self._simulation.actors.find(number, Vehicle).lights = state[0] if isinstance(state, list) else state

    # --- many orders in one call

    def _batch(self, commands: list[Any], then_tick: bool) -> list[Any]:
        """Carry out `commands`, each in the form [[number, fields]]; a result or the reason of its failure for each."""
        answers = [self._command(*command[0]) for command in commands]
        if then_tick:
            self._tick()
        return answers

    def _command(self, number: int, fields: list[Any]) -> list[Any]:
        name = COMMANDS.get(number, f"number {number}")
        try:
            if name == "SpawnActor":
                description, transform, parent, _, _, after = fields
                actor = self._spawn(description, transform, parent[1] if parent[0] else 0).id
                for command in after:  # their actor is the one just spawned
                    follow, (_, *rest) = command[0]
                    self._command(follow, [actor, *rest])
                return wire.success(actor)
            if name not in self._commands:
                raise Refused(f"the loopback server does not know the command {name}; see docs/loopback.md")
            self._commands[name](*fields)
            return wire.success(fields[0])
        except Refused as reason:
            return wire.failure(str(reason))


def _flat(transform: list[Any]) -> wire.Transform:
    (x, y, z), (pitch, yaw, roll) = transform
    return x, y, z, pitch, yaw, roll
