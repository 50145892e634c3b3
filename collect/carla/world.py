"""The CARLA calls behind `reset` and `step`, made inside the client's process."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import carla
import numpy as np
from numpy.typing import NDArray

from semore.collect.carla.actors import EpisodeActors
from semore.collect.carla.cameras import Camera
from semore.collect.carla.collision_sensor import CollisionSensor
from semore.collect.carla.messages import Cost, StepMessage
from semore.collect.carla.session import Session
from semore.collect.scenarios import Scenario, Weather
from semore.collect.simulator import Collision, Control, Ego, EpisodeLost
from semore.collect.spawns import draw_initial_state, episode_generator
from semore.datasets.errors import SemoreError

_NOUNS: Final = {"guardrail": "guard rail", "poles": "pole", "buildings": "building"}
_FIRST_WAIT: Final = 0.1  # s for a new camera's picture; a camera still being set up sends none
_LONGER: Final = 1.5  # times that is the next wait


class CarlaWorld:
    """Drives one episode after another on the server at host:port.

    `pictures` (C, size, size, 4) uint8 takes the newest BGRA buffers of the `cameras`, which are names of
    messages.CAMERAS. `say` is called with every call to the server. Errors are those of Session, and EpisodeLost for a
    frame that is not the one asked for."""

    def __init__(
        self, host: str, port: int, timeout: float, cameras: tuple[str, ...], pictures: NDArray[np.uint8],
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._timeout, self._names, self._pictures, self._say = timeout, cameras, pictures, say
        self._session = Session(host, port, timeout, say)
        self._traffic: Any = None
        self._episode: _Episode | None = None

    def reset(self, scenario: Scenario, weather: Weather, seed: int) -> StepMessage:
        """Start an episode: everybody placed and at rest. SemoreError when the map lacks a place or room for it.

        The server stays in synchronous mode meanwhile (the public code lets it run): nobody moves before the start."""
        session = self._session
        self._episode = None
        session.clear()
        session.open(scenario.map)
        rng = episode_generator(scenario, seed)
        start = draw_initial_state(scenario, session.lanes.where, rng)
        actors = EpisodeActors(session, scenario, start, weather.headlights, rng)
        collision_sensor = CollisionSensor(session, actors.ego)
        size = self._pictures.shape[1]
        cameras = [Camera(name, size, session, actors.ego) for name in self._names]
        episode = _Episode(session, actors, collision_sensor, cameras, self._pictures, self._timeout)
        episode.wait_for_first_pictures()
        session.set_weather(weather)
        message = episode.advance()
        actors.set_off(self._traffic_manager(seed))
        self._episode = episode
        return replace(message, collisions=())

    def step(self, control: Control) -> StepMessage:
        """Advance 0.05 s; out-of-range controls are clipped. SemoreError before the first reset."""
        if self._episode is None:
            raise SemoreError("the simulator has no episode; call reset first")
        return self._episode.step(control)

    def close(self, seconds: float) -> None:
        """See Session.close."""
        self._session.close(seconds)

    def _traffic_manager(self, seed: int) -> Any:
        """This process's traffic manager, seeded; one is enough for all episodes."""
        if self._traffic is None:
            port = _free_port()
            self._say(f"traffic manager on port {port}")
            self._traffic = self._session.client.get_trafficmanager(port)
            self._traffic.set_synchronous_mode(True)
        self._traffic.set_random_device_seed(seed)
        return self._traffic


class _Episode:
    """One running episode with its actors, its collision sensor and its cameras."""

    def __init__(
        self, session: Session, actors: EpisodeActors, collision_sensor: CollisionSensor, cameras: list[Camera],
        pictures: NDArray[np.uint8], timeout: float,
    ) -> None:  # fmt: skip
        self._session, self._actors, self._collision_sensor, self._timeout = session, actors, collision_sensor, timeout
        self._cameras = list(zip(cameras, pictures, strict=True))
        self._tick, self._control = 0, Control()

    def wait_for_first_pictures(self) -> None:
        """Tick the world at rest until every camera answers: the server sets up a new one's stream as it likes."""
        late = list(self._cameras)
        deadline, wait = time.monotonic() + self._timeout, _FIRST_WAIT
        while late:
            frame = self._session.tick().frame
            try:
                while late:
                    late[0][0].take(frame, wait, late[0][1])
                    del late[0]
            except EpisodeLost:
                if time.monotonic() > deadline:
                    raise
                wait *= _LONGER

    def step(self, control: Control) -> StepMessage:
        self._control = asked = control.clipped()
        self._actors.ego.apply_control(carla.VehicleControl(asked.throttle, asked.steer, asked.brake))
        self._actors.walk(self._tick)
        self._tick += 1
        return self.advance()

    def advance(self) -> StepMessage:
        """Tick, and wait for everything that belongs to the tick."""
        actors, clock = self._actors, time.perf_counter
        began = clock()
        snapshot = self._session.tick()
        ticked = clock()
        eye = np.eye(4)
        for camera, picture in self._cameras:
            image = camera.take(snapshot.frame, self._timeout, picture)
        seen = clock()
        if self._cameras:
            eye = np.array(image.transform.get_matrix())
        actors.look(snapshot)
        ego = self._ego(snapshot)
        waiting = clock()
        events = self._collision_sensor.take(snapshot.frame, ego, actors.table())
        cost = Cost(ticked - began, seen - ticked + clock() - waiting)
        hits = tuple(self._collision(event) for event in events)
        lane, ends = self._session.lanes.under(carla.Location(ego.x, ego.y, ego.z + actors.ground), ego.yaw)
        return StepMessage(self._tick, ego, lane, ends, hits, actors.table(), eye, cost)

    def _ego(self, snapshot: carla.WorldSnapshot) -> Ego:
        actors = self._actors
        found = snapshot.find(actors.ego.id)
        if found is None:
            raise EpisodeLost(f"the ego is not in the server's frame {snapshot.frame}; did another client remove it?")
        pose, velocity = found.get_transform(), found.get_velocity()
        place = pose.location
        return Ego(
            place.x, place.y, place.z - actors.ground, math.radians(pose.rotation.yaw),
            velocity.x, velocity.y, velocity.z, self._control,
        )  # fmt: skip

    def _collision(self, event: Any) -> Collision:
        push, other = event.normal_impulse, event.other_actor
        impulse = math.sqrt(push.x**2 + push.y**2 + push.z**2)
        number, name = self._actors.struck(other.id, impulse)
        scenery = other.type_id.rsplit(".", 1)[-1] or "scenery"
        return Collision(impulse, number, name or _NOUNS.get(scenery, scenery))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
