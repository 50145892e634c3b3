"""A Simulator over a CARLA server that may fail: it finds or starts one, and restarts it after a failure."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from semore.collect.carla.blackbox import write_black_box
from semore.collect.carla.ping import Identity
from semore.collect.carla.ports import Lease, lease
from semore.collect.carla.server import Server
from semore.collect.carla.settings import CarlaSettings
from semore.collect.scenarios import Scenario, Weather
from semore.collect.simulator import Control, EpisodeLost, Images, Simulator, Snapshot
from semore.datasets.errors import SemoreError

MEASURE_EVERY: Final = 100
"""Steps between looks at the server's memory."""
PATIENCE: Final = 30.0
"""Seconds to wait for a server another process is just giving back."""
GIB: Final = 2**30

T = TypeVar("T")
Timings = dict[str, float]


class Client(Simulator, Protocol):
    """A Simulator on one server: collect.carla.client.CarlaSimulator. It raises EpisodeLost when server or connection
    die, hang or lie, and is of no use afterwards."""

    def timings(self) -> Timings:
        """Sums since it was made: `steps`, and the seconds spent on `tick` (the server), `camera` (waiting for
        pictures) and `own` (our overhead)."""

    def trace(self) -> list[str]:
        """The last calls and ticks, oldest first; also after its end."""


Connect = Callable[[CarlaSettings, int, Server], Client]


def connect(settings: CarlaSettings, size: int, server: Server) -> Client:
    """The true CARLA client on that server."""
    from semore.collect.carla.client import CarlaSimulator

    return CarlaSimulator(settings.host, server.port, size, settings.timeout, lives=lambda: server.exit_code is None)


class SupervisedCarla:
    """CARLA with a square camera of `size` pixels. Implements collect.simulator.Simulator.

    Making one touches nothing; the first `reset` (or question for a version) takes a server nobody else drives on and
    starts it when `settings.command` says how and none answers. After a failure a black box is written and EpisodeLost
    raised; `reset` then brings everything back, SemoreError when that can't be done.
    """

    name: Final = "carla"

    def __init__(self, settings: CarlaSettings, size: int, connect: Connect = connect) -> None:
        settings.validate()
        self._settings, self._size, self._connect = settings, size, connect
        self._lease: Lease | None = None
        self._server: Server | None = None
        self._client: Client | None = None
        self._identity: Identity | None = None
        self._timings: Timings = {}
        self._episode: dict[str, Any] = {}
        self._steps = 0

    @property
    def version(self) -> str:
        """CARLA's version, as the server says."""
        return self._who().version

    @property
    def renderer_version(self) -> str:
        """`unreal` for Unreal's pictures, else what a loopback server calls its own."""
        return self._who().renderer

    def timings(self) -> Timings:
        """See Client.timings, over all clients there have been."""
        return _sum(self._timings, self._client.timings()) if self._client else dict(self._timings)

    def reset(self, scenario: Scenario, weather: Weather, seed: int) -> Snapshot:
        self._episode = {"scenario": scenario.name, "weather": weather.name, "seed": seed}
        self._steps = 0
        client = self._ready()
        return self._drawn_watched(self._watched(lambda: client.reset(scenario, weather, seed)))

    def step(self, control: Control) -> Snapshot:
        client = self._client
        if client is None:
            raise EpisodeLost("the episode was lost; reset before the next step")
        self._steps += 1
        if self._steps % MEASURE_EVERY == 0 and self._server is not None:
            self._server.measure()
        return self._drawn_watched(self._watched(lambda: client.step(control)))

    def close(self) -> None:
        self._disconnect()
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._lease is not None:
            self._lease.close()
            self._lease = None

    def _who(self) -> Identity:
        if self._identity is None:
            self._identity = self._running().ready()
        return self._identity

    def _running(self) -> Server:
        """The server this simulator has a right to."""
        if self._server is None:
            self._lease = lease(self._settings, PATIENCE)
            self._server = Server(self._settings, self._lease)
        return self._server

    def _ready(self) -> Client:
        """A client on a server in good health."""
        server = self._running()
        limit = self._settings.memory
        if 0 < limit * GIB < server.measure():
            box = self._record(server, {"why": f"memory above {limit:g} GiB; no episode was lost"})
            print(f"carla: server {server.port} is above {limit:g} GiB, starting it anew; black box: {box}",
                  file=sys.stderr, flush=True)  # fmt: skip
            self._disconnect()
            server.stop()
        if self._client is None:
            self._identity = server.ready()
            try:
                self._client = self._connect(self._settings, self._size, server)
            except SemoreError as error:  # it answered a moment ago
                raise self._failed(EpisodeLost(str(error))) from error
        return self._client

    def _watched(self, act: Callable[[], T]) -> T:
        """`act`; when it loses the episode, a black box is written and the client given up."""
        try:
            return act()
        except EpisodeLost as error:
            raise self._failed(error) from error

    def _drawn_watched(self, snapshot: Snapshot) -> Snapshot:
        def draw() -> Images:
            return self._watched(snapshot.draw)

        return replace(snapshot, draw=draw)

    def _failed(self, error: EpisodeLost) -> EpisodeLost:
        server = self._server
        if server is None:  # closed meanwhile: a snapshot of then is drawn too late
            return error
        server.measure()
        server.settle()
        box = self._record(server, {"why": str(error)})
        self._disconnect()
        server.stop()  # if it is ours; what has failed once is not trusted with another episode
        return EpisodeLost(f"{error}; black box: {box}")

    def _record(self, server: Server, about: dict[str, Any]) -> Path:
        who = {**about, **self._episode, "step": self._steps, "timings": self.timings()}
        return write_black_box(Path(self._settings.logs), server, who, self._client.trace() if self._client else [])

    def _disconnect(self) -> None:
        if self._client is not None:
            self._timings = self.timings()
            self._client.close()
            self._client = None


def _sum(one: Timings, other: Timings) -> Timings:
    return {key: one.get(key, 0.0) + other.get(key, 0.0) for key in {**one, **other}}
