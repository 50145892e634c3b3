"""The loopback server's traffic manager: vehicles on autopilot follow the embedded world's rules.

It answers on whatever port a client asks for, and drives at the speeds that the client sets.

CARLA's own traffic manager runs inside the client. A client that is told "one is running already, over there" sends its
orders there instead; here "there" is this server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from semore.collect.carla.loopback.actors import Vehicle
from semore.collect.carla.loopback.simulation import Simulation
from semore.collect.embedded.physics import vehicles

IGNORED: Final = (
    "health_check_remote_TM", "shut_down", "set_synchronous_mode", "set_synchronous_mode_timeout_in_milisecond",
    "update_vehicle_lights", "set_collision_detection", "set_force_lane_change", "set_auto_lane_change",
    "set_distance_to_leading_vehicle", "set_global_distance_to_leading_vehicle", "set_percentage_ignore_walkers",
    "set_percentage_ignore_vehicles", "set_percentage_running_light", "set_percentage_running_sign",
    "keep_slow_lane_rule_percentage", "random_left_lanechange_percentage", "random_right_lanechange_percentage",
    "set_hybrid_physics_mode", "set_hybrid_physics_radius", "set_osm_mode", "set_lane_offset", "set_global_lane_offset",
    "set_respawn_dormant_vehicles", "set_boundaries_respawn_dormant_vehicles", "set_max_boundaries",
    "set_path", "remove_custom_path", "update_custom_path", "set_imported_route", "remove_imported_route",
    "update_imported_route",
)  # fmt: skip
"""Orders that are accepted and change nothing: this traffic keeps 2 m and 1.2 s, changes lanes, and has no lights or
signs to obey."""


class Traffic:
    """The orders of all clients; vehicles are named by their packed actors."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._percent: dict[int, float] = {}
        self._speed: dict[int, float] = {}
        self._global = 0.0
        self.orders: dict[str, Callable[..., Any]] = dict.fromkeys(IGNORED, lambda *_: None) | {
            "register_vehicle": lambda actors: self._register(actors, True),
            "unregister_vehicle": lambda actors: self._register(actors, False),
            "set_percentage_speed_difference": lambda actor, percent: self._set(self._percent, actor, percent),
            "set_desired_speed": lambda actor, speed: self._set(self._speed, actor, speed / 3.6),
            "set_global_percentage_speed_difference": self._set_global,
            "set_random_device_seed": self._seed,
            "synchronous_tick": lambda: True,
        }

    def autopilot(self, number: int, on: bool) -> None:
        """Have the world drive vehicle `number`, or give it back to its control. Refused when there is none."""
        vehicle = self._simulation.actors.find(number, Vehicle)
        if on and vehicle.row is None:
            vehicle.row = self._simulation.actors.lane_row(vehicle)
            self._urge(vehicle)
        elif not on and vehicle.row is not None:
            vehicle.row = None
            self._simulation.actors.settle(vehicle)

    def forget(self) -> None:
        """A new episode: nobody has orders."""
        self._percent.clear()
        self._speed.clear()
        self._global = 0.0

    def _register(self, actors: list[Any], on: bool) -> None:
        for actor in actors:
            self.autopilot(actor[0], on)

    def _set(self, book: dict[int, float], actor: list[Any], value: float) -> None:
        vehicle = self._simulation.actors.find(actor[0], Vehicle)
        book[vehicle.id] = value
        self._urge(vehicle)

    def _set_global(self, percent: float) -> None:
        self._global = percent
        for vehicle in self._simulation.actors.every(Vehicle):
            self._urge(vehicle)

    def _urge(self, vehicle: Vehicle) -> None:
        """Tell a vehicle on autopilot how fast to go; at least 1 m/h, since its driver's rule divides by it."""
        if vehicle.row is not None:
            limit = self._simulation.town.road.limit / 3.6
            wanted = limit * (1.0 - self._percent.get(vehicle.id, self._global) / 100.0)
            vehicle.row[vehicles.DESIRED] = max(3e-4, self._speed.get(vehicle.id, wanted))

    def _seed(self, seed: int) -> None:
        self._simulation.rng = np.random.default_rng(seed)
