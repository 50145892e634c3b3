"""The loopback server's world: map, clock, weather, settings and actors, and the tick that moves them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final

import numpy as np

from semore.collect.carla.loopback import wire
from semore.collect.carla.loopback.actors import TAGS, Actor, Actors, Body, Vehicle, Walker, packed
from semore.collect.carla.loopback.cameras import Cameras, field_of_view
from semore.collect.carla.loopback.faults import Fault
from semore.collect.carla.loopback.street import Hit, step
from semore.collect.embedded.maps.town import SPECS, Town, town
from semore.collect.embedded.render.sky import atmosphere
from semore.collect.scenarios import Weather
from semore.datasets.rollouts.schema import DT, SemanticClass

_ASYNCHRONOUS: Final = [False, False, [False], True, 0.01, 10, 0.0, True, 3000.0, 2000.0, True]
"""EpisodeSettings on the wire: synchronous, no rendering, fixed delta ([True, s] or [False]), substepping, …"""
_NOON: Final = [10.0, 0.0, 0.0, 10.0, 30.0, 60.0, 2.0, 0.75, 0.1, 0.0, 1.0, 0.03, 0.0331, 0.0]
_STATIC: Final = {
    SemanticClass.BUILDING: "static.building",
    SemanticClass.POLE: "static.pole",
    SemanticClass.GUARD_RAIL: "static.guardrail",
}


class Simulation:
    """One server's world. `send(stream, message)` gives a message to the stream's subscribers, `wanted(stream)` says
    whether there are any; `fault` makes pictures lie or fail."""

    def __init__(
        self, map_name: str, send: Callable[[int, bytes], None], wanted: Callable[[int], bool], fault: Fault
    ) -> None:
        self._send, self._wanted, self._fault = send, wanted, fault
        self._ids: Iterator[int] = count(24)
        self.frame, self.elapsed, self.episode, self.ticks = 1, 0.0, 0, 0
        self.load(map_name)

    def load(self, map_name: str, reset_settings: bool = True) -> None:
        """A new episode on a map of the embedded world: nobody there, noon."""
        self.actors = Actors(town(map_name), self._ids)
        self.episode += 1
        self.rng = np.random.default_rng(0)
        self.set_weather(list(_NOON))
        if reset_settings or self.episode == 1:
            self.settings: list[Any] = list(_ASYNCHRONOUS)
        self._due: dict[int, float] = {}

    @property
    def town(self) -> Town:
        return self.actors.town

    @property
    def synchronous(self) -> bool:
        return bool(self.settings[0])

    @property
    def delta(self) -> float:
        """Length of a tick, s: the fixed one, else 0.05."""
        fixed = self.settings[2]
        return float(fixed[1]) if fixed[0] and fixed[1] > 0.0 else DT

    def set_weather(self, parameters: list[float]) -> None:
        """Weather as procedures carry it; wind, azimuth, falloff, scattering and dust are kept but not drawn."""
        cloudiness, rain, deposits, _, _, altitude, fog, _, _, wetness = parameters[:10]
        self.weather, self._since = parameters, self.ticks
        self.air = atmosphere(Weather("", cloudiness, rain, deposits, fog, wetness, altitude))

    def tick(self) -> int:
        """Advance by `delta`; collisions, pictures and the snapshot go out in this order. The new frame's number."""
        self.frame += 1
        self.ticks += 1
        self.elapsed += self.delta
        self._tell_hits(step(self.actors, self.rng, self.delta))
        if not self.settings[1] and not self._fault.active("no-pictures"):
            self._tell_pictures()
        self.tell_world()
        return self.frame

    def tell_world(self) -> None:
        """Send the snapshot as it is."""
        if self._wanted(wire.WORLD_STREAM):
            records = [self._record(actor) for actor in self.actors]
            self._send(
                wire.WORLD_STREAM, wire.world(self.frame, self.elapsed, self.episode, self.delta, records)
            )  # fmt: skip

    def _tell_hits(self, hits: list[Hit]) -> None:
        if not hits:
            return
        for sensor in self.actors:
            if sensor.blueprint == "sensor.other.collision" and self._wanted(sensor.id):
                for hit in hits:
                    if hit.body.id == sensor.parent:
                        body = wire.collision(packed(hit.body), _counterpart(hit), hit.impulse)
                        self._send(sensor.id, self._message(sensor, body))

    def _tell_pictures(self) -> None:
        cameras = [
            actor
            for actor in self.actors
            if actor.blueprint.startswith("sensor.camera.") and self._wanted(actor.id) and self._is_due(actor)
        ]
        if not cameras:
            return
        seen = Cameras(self.actors, self.air, self.ticks - self._since)
        for camera in cameras:
            attributes = camera.attributes
            size = int(attributes["image_size_x"]), int(attributes["image_size_y"])
            body = wire.image(*size, field_of_view(attributes), seen.pixels(camera))
            self._send(camera.id, self._message(camera, body))

    def _is_due(self, camera: Actor) -> bool:
        """Whether `sensor_tick` has passed since its last picture."""
        period = float(camera.attributes["sensor_tick"])
        if self.elapsed < self._due.get(camera.id, -math.inf) - 1e-6:
            return False
        self._due[camera.id] = self.elapsed + period
        return True

    def _message(self, sensor: Actor, body: bytes) -> bytes:
        index = wire.SENSOR_INDEX[sensor.blueprint]
        frame = self.frame - self._fault.active("wrong-frame")
        return wire.message(index, frame, self.elapsed, self.actors.transform(sensor), body)

    def _record(self, actor: Actor) -> bytes:
        pose = self.actors.transform(actor)
        if not isinstance(actor, Body):
            return wire.record(actor.id, pose)
        state = b""
        if isinstance(actor, Vehicle):
            control = actor.control
            if actor.row is not None:
                control = [0.0, 0.0, float(actor.braking), False, False, False, 1]
            state = wire.vehicle_state(control, self.town.road.limit)
        elif isinstance(actor, Walker):
            state = wire.walker_state(actor.control)
        motion = (actor.vx, actor.vy, 0.0, 0.0, 0.0, math.degrees(actor.spin), actor.ax, actor.ay, 0.0)
        return wire.record(actor.id, pose, motion, state)


def _counterpart(hit: Hit) -> list[Any]:
    """The other actor of a collision; scenery is an actor of id 0 that is in no world, named by its tag."""
    if isinstance(hit.other, Body):
        return packed(hit.other)
    name = _STATIC.get(hit.other, "static.unknown")
    return [0, 0, [0, name, []], [[0.0] * 3] * 3, bytes([TAGS[hit.other]]), b""]


def maps() -> list[str]:
    """The maps there are, by their paths in CARLA."""
    return [f"/Game/Carla/Maps/{name}" for name in SPECS]
