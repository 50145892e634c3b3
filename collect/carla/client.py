"""The CARLA client as a Simulator: a proxy whose client lives in a child process (client_process.py)."""

from __future__ import annotations

import atexit
import math
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from multiprocessing import get_context
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.carla import fitness
from semore.collect.carla.client_process import FAREWELL, Address, live
from semore.collect.carla.messages import CAMERAS, StepMessage
from semore.collect.carla.pictures import decode
from semore.collect.carla.ping import identity
from semore.collect.carla.settings import CARLA_VERSION, check_client
from semore.collect.carla.trace import Trace
from semore.collect.scenarios import Scenario, Weather
from semore.collect.simulator import Control, EpisodeLost, Snapshot
from semore.datasets.errors import SemoreError

_RESET_PATIENCE: Final = 6.0  # times the server's time-out that a reset, with the loading of a map, may take
_STEP_PATIENCE: Final = 2.5  # the same of a step: a tick and the cameras
_CONNECT_PATIENCE: Final = 4.0
_LOOK: Final = 0.5  # s between looks at whether the server's process still lives
_START: Final = 60.0  # s on top of that for a process to begin on a busy machine


class CarlaSimulator:
    """The CARLA server at host:port, seen by a square camera of `size` pixels. Implements collect.simulator.Simulator.

    The server is contacted at the first reset. It must answer every call within `timeout` s, else the episode is lost;
    the next reset then begins with a new client. Where somebody can tell whether the server's process `lives`, nothing
    is waited for once it does not: the client library alone would not notice. `cameras` leaves some of messages.CAMERAS
    out, for measurements: such a simulator's pictures cannot be drawn."""

    name: Final = "carla"
    version: Final = CARLA_VERSION

    def __init__(
        self, host: str, port: int, size: int, timeout: float = 20.0, cameras: tuple[str, ...] = CAMERAS,
        lives: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        if size < 8:
            raise SemoreError(f"camera size {size} is too small; use at least 8 pixels")
        self._address = Address(host, port, timeout, size, cameras)
        self._lives = lives
        self._child: _Child | None = None
        self._map = ""
        self._trace: list[str] = []
        self._spent = {"steps": 0.0, "tick": 0.0, "camera": 0.0, "own": 0.0}

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras it sees with, of messages.CAMERAS."""
        return self._address.cameras

    @cached_property
    def renderer_version(self) -> str:
        """Whose pictures these are: `unreal`, or the embedded renderer's version behind a loopback server."""
        address = self._address
        found = identity(address.host, address.port, address.timeout)
        if found is None:
            raise SemoreError(
                f"no CARLA server answers at {address.host}:{address.port}; start one, or see docs/carla.md"
            )
        verdict = fitness.server(found, address.host)
        if not verdict.fit:
            raise SemoreError(f"CARLA server at {address.host}:{address.port}: {verdict.remark}")
        return found.renderer

    def reset(self, scenario: Scenario, weather: Weather, seed: int) -> Snapshot:
        """Start an episode: actors placed, no warm-up steps taken.

        SemoreError for a server of another version, an unknown map, road or lane, no room; EpisodeLost when server or
        client fail."""
        if self._map != scenario.map:
            self.close()  # the client library's traffic manager does not survive a change of maps
        if self._child is None:
            self._child = _Child(self._address, self._lives)
        self._map = scenario.map
        return self._snapshot(self._ask(self._child, "reset", (scenario, weather, seed), _RESET_PATIENCE))

    def step(self, control: Control) -> Snapshot:
        """Advance 0.05 s; out-of-range controls are clipped. SemoreError before the first reset; EpisodeLost when
        server or client fail."""
        if self._child is None:
            raise SemoreError("the simulator has no episode; call reset first")
        began = time.perf_counter()
        message = self._ask(self._child, "step", (control,), _STEP_PATIENCE)
        snapshot = self._snapshot(message)
        spent = time.perf_counter() - began
        for key, seconds in (("steps", 1.0), *message.cost._asdict().items(), ("own", spent - sum(message.cost))):
            self._spent[key] += seconds
        return snapshot

    def close(self) -> None:
        """Destroy this client's actors and restore the server's settings; harmless twice."""
        if self._child is not None:
            self._end()

    def timings(self) -> dict[str, float]:
        """Sums over all steps so far: their number as `steps`, and the seconds spent waiting for the server's `tick`,
        for the `camera`s after it, and all else (`own`)."""
        return dict(self._spent)

    def trace(self) -> list[str]:
        """The client's last calls and ticks, oldest first; also of one that has died."""
        return self._trace if self._child is None else self._child.trace.read()

    def _ask(self, child: _Child, request: str, arguments: tuple[Any, ...], patience: float) -> StepMessage:
        try:
            message: StepMessage = child.ask(request, arguments, patience * self._address.timeout)
        except (EpisodeLost, KeyboardInterrupt):  # after Ctrl-C an answer would come that nobody asked for
            self._end()
            raise
        return message

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()
            self._trace = child.trace.read()

    def _snapshot(self, message: StepMessage) -> Snapshot:
        assert self._child is not None
        raw = self._child.pictures.copy()
        draw = partial(
            decode, raw, self._address.cameras, self._child.classes, message.eye, message.actors.copy(), message.ego
        )
        return Snapshot(
            message.tick, message.ego, message.lane, message.road_ends, message.collisions, message.actors, draw
        )


class _Child:
    """A client's process, connected; only the simulator above holds one."""

    def __init__(self, address: Address, lives: Callable[[], bool]) -> None:
        check_client()
        self._lives = lives
        context = get_context("spawn")
        buffer: Any = context.RawArray("B", max(1, math.prod(address.shape)))
        self.pictures = np.ndarray(address.shape, np.uint8, buffer)
        self.trace = Trace(context)
        self._pipe, theirs = context.Pipe()
        # A daemon, and ended at exit, so that an interpreter that ends without close() does not wait for it for long.
        self._process = context.Process(target=live, args=(address, theirs, buffer, self.trace), daemon=True)
        self._process.start()
        atexit.register(self.end)
        theirs.close()  # so that the child's death is the end of the file here
        self._where = f"{address.host}:{address.port}"
        try:
            self.classes: NDArray[np.uint8] = self._answer(_START + _CONNECT_PATIENCE * address.timeout)
        except SemoreError:
            self.end()
            raise

    def ask(self, request: str, arguments: tuple[Any, ...], seconds: float) -> Any:
        """The child's answer; EpisodeLost when it has none within `seconds`, dies or failed itself, or the server is
        gone, SemoreError when the request was no good."""
        try:
            self._pipe.send((request, arguments))
        except OSError:
            raise self._death() from None
        return self._answer(seconds)

    def end(self) -> None:
        """Have it put everything back and go; in 2 or 3 s it is killed."""
        atexit.unregister(self.end)
        with suppress(OSError):  # it is dead already
            self._pipe.send(("close", ()))
        self._process.join(FAREWELL + 0.5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()

    def _answer(self, seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        try:
            while not self._pipe.poll(_LOOK):
                if not self._lives():
                    raise EpisodeLost(f"{self._where}: the CARLA server's process has ended")
                if time.monotonic() > deadline:
                    raise EpisodeLost(f"the CARLA client of {self._where} has been silent for {seconds:.0f} s")
            kind, result = self._pipe.recv()
        except (EOFError, ConnectionError):
            raise self._death() from None
        if kind == "done":
            return result
        raise (EpisodeLost if kind == "lost" else SemoreError)(f"{self._where}: {result}")

    def _death(self) -> EpisodeLost:
        self._process.join(1.0)
        return EpisodeLost(
            f"the CARLA client's process of {self._where} died (exit code {self._process.exitcode}); the client "
            "library ends its process on data it cannot read"
        )
