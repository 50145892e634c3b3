"""A session on a server in synchronous mode: map, weather and actors, and everything put back at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import carla

from semore.collect.carla import fitness
from semore.collect.carla.lanes import Lanes
from semore.collect.scenarios import Weather
from semore.collect.simulator import EpisodeLost
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import DT

ROLE: Final = "semore"
"""`role_name` of every actor spawned here: what a client that was killed has left behind is known by it."""

_MAP_PATIENCE: Final = 3.0  # times the usual time-out that loading a map may take
_SETTLE: Final = 2.0  # s for a change of settings to show in a frame
_LIFTS: Final = (0.0, 0.3, 0.6, 1.0)  # m above its place where an actor is tried
_HIDDEN: Final = ("Dynamic", "Poles", "Vegetation")  # kinds of the map's own objects (method.md §2.1)


class Session:
    """The server at host:port. `say` is told of every call before it is made.

    A server found in synchronous mode was left so by a client that died: it is left free-running. SemoreError when
    client and server do not go together; whatever the client library complains of is a RuntimeError."""

    def __init__(self, host: str, port: int, timeout: float, say: Callable[[str], None]) -> None:
        self._say, self._timeout = say, timeout
        say(f"connect {host}:{port}")
        self.client = carla.Client(host, port)
        self.client.set_timeout(timeout)
        ours, theirs = self.client.get_client_version(), self.client.get_server_version()
        verdict = fitness.versions(ours, theirs)
        if not verdict.fit:
            raise SemoreError(verdict.remark)
        say("get_world")
        self.world = self.client.get_world()
        self._found = self.world.get_settings()
        if self._found.synchronous_mode:
            self._found.synchronous_mode, self._found.fixed_delta_seconds = False, None
            self._apply(self._found, _SETTLE)
        self.world.wait_for_tick(timeout)
        self._sky = self.world.get_weather()
        self._actors: list[Any] = [a for a in self.world.get_actors() if a.attributes.get("role_name") == ROLE]
        self._hidden: set[int] = set()
        self._open = ""
        try:
            self._synchronise()
            self.clear()
        except RuntimeError:
            self.close(min(timeout, _SETTLE))
            raise

    def open(self, name: str) -> None:
        """Have the server show the map called `name`; SemoreError when it has none.

        Nobody may be on the old one, and no traffic manager be in use: it hangs the client library."""
        if self._open != name:
            if _short(self.world.get_map().name) != name:
                self._load(name)
            self._get_to_know()
            self._open = name

    def blueprint(self, name: str) -> Any:
        """The blueprint called `name`; SemoreError when the server has none."""
        try:
            return self._library.find(name)
        except IndexError:
            raise SemoreError(f"the CARLA server has no {name}; is it a full CARLA 0.9.16?") from None

    def blueprints(self, pattern: str) -> list[Any]:
        """All whose name fits, by name; SemoreError when none does."""
        found = sorted(self._library.filter(pattern), key=lambda one: one.id)
        if not found:
            raise SemoreError(f"the CARLA server has no {pattern}; is it a full CARLA 0.9.16?")
        return found

    def tick(self) -> carla.WorldSnapshot:
        """Advance 0.05 s; the world of exactly that frame. EpisodeLost when the server shows another."""
        frame = self.world.tick(self._timeout)
        snapshot = self.world.get_snapshot()
        self._say(f"tick {frame}")
        if snapshot.frame != frame:
            raise EpisodeLost(f"the server ticked to frame {frame} but shows frame {snapshot.frame}")
        return snapshot

    def spawn(self, blueprint: carla.ActorBlueprint, place: carla.Transform, parent: carla.Actor | None = None) -> Any:
        """A new actor, a little higher when something is in the way; SemoreError when something still is."""
        if blueprint.has_attribute("role_name"):
            blueprint.set_attribute("role_name", ROLE)
        self._say(f"spawn {blueprint.id}")
        for lift in _LIFTS:
            at = carla.Location(place.location.x, place.location.y, place.location.z + lift)
            try:
                actor = self.world.spawn_actor(blueprint, carla.Transform(at, place.rotation), attach_to=parent)
            except RuntimeError as error:
                if "collision" not in str(error):
                    raise
            else:
                self._actors.append(actor)
                return actor
        raise SemoreError(
            f"something on map {self._open} stands where a {blueprint.id} should start, at x {place.location.x:.1f} "
            f"y {place.location.y:.1f}; move the scenario's s range, or clear the map of other clients' actors"
        )

    def clear(self) -> None:
        """Destroy everything spawned here; the server has forgotten it when this returns."""
        if not self._actors:
            return
        self._say(f"destroy {len(self._actors)} actors")
        for actor in self._actors:
            if isinstance(actor, carla.Sensor) and actor.is_listening():
                actor.stop()
        self.client.apply_batch_sync([carla.command.DestroyActor(actor) for actor in reversed(self._actors)], False)
        self._actors.clear()
        self.tick()

    def set_weather(self, weather: Weather) -> None:
        """Wind 0, fog from 0 m on, sun in the north (method.md §2.2)."""
        self._say(f"set_weather {weather.name}")
        self.world.set_weather(
            carla.WeatherParameters(
                cloudiness=weather.cloudiness,
                precipitation=weather.precipitation,
                precipitation_deposits=weather.deposits,
                wind_intensity=0.0,
                sun_azimuth_angle=0.0,
                sun_altitude_angle=weather.sun_altitude,
                fog_density=weather.fog_density,
                fog_distance=0.0,
                wetness=weather.wetness,
            )
        )

    def close(self, seconds: float) -> None:
        """Destroy what is ours and put settings, weather and the map's objects back. No call may take longer than
        `seconds`; RuntimeError as soon as one does."""
        self.client.set_timeout(seconds)
        self._timeout = seconds
        self.clear()
        self._say("restore settings")
        if self._hidden:
            self.world.enable_environment_objects(self._hidden, True)
        self.world.set_weather(self._sky)
        self._apply(self._found, min(seconds, _SETTLE))

    def _synchronise(self) -> None:
        settings = self.world.get_settings()
        settings.synchronous_mode, settings.fixed_delta_seconds, settings.no_rendering_mode = True, DT, False
        self._apply(settings, self._timeout)

    def _apply(self, settings: carla.WorldSettings, seconds: float) -> None:
        self._say(f"apply_settings synchronous={settings.synchronous_mode}")
        self.world.apply_settings(settings, seconds)

    def _load(self, name: str) -> None:
        known = sorted(_short(path) for path in self.client.get_available_maps())
        if name not in known:
            raise SemoreError(f"the CARLA server has no map {name}; it has {', '.join(known)}")
        self._say(f"load_world {name}")
        self.client.set_timeout(_MAP_PATIENCE * self._timeout)
        self.world = self.client.load_world(name)
        self.client.set_timeout(self._timeout)
        self._hidden.clear()
        self.world.wait_for_tick(self._timeout)  # else a server that stops ticking may stop before we listen
        self._synchronise()

    def _get_to_know(self) -> None:
        """The open map's lanes and blueprints; and hide what the method hides."""
        self.lanes = Lanes(self.world.get_map())
        self._library = self.world.get_blueprint_library()
        for label in _HIDDEN:
            kind = carla.CityObjectLabel.names[label]
            self._hidden |= {found.id for found in self.world.get_environment_objects(kind)}
        if self._hidden:
            self.world.enable_environment_objects(self._hidden, False)


def _short(path: str) -> str:
    """Town01 of /Game/Carla/Maps/Town01."""
    return path.rsplit("/", 1)[-1]
