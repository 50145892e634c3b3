"""The process that imports `carla`: the client library ends the process it runs in when it meets bad data.

A request is (name, arguments). The answer is ("done", result), ("refused", text) for what the user can mend, or
("lost", text) when server or client failed. The process puts everything back and ends on "close", when its parent is
gone, and on SIGTERM; it leaves Ctrl-C to its parent."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.carla.classes import class_table
from semore.collect.carla.trace import Trace
from semore.collect.simulator import EpisodeLost
from semore.datasets.errors import SemoreError

if TYPE_CHECKING:
    from semore.collect.carla.world import CarlaWorld

FAREWELL: Final = 2.0
"""Seconds that one call may take while everything is put back."""


@dataclass(frozen=True)
class Address:
    """Where the server is, how many seconds it may take to answer, and which cameras are wanted."""

    host: str
    port: int
    timeout: float
    size: int
    cameras: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the pictures' buffer: camera, row, column, BGRA."""
        return len(self.cameras), self.size, self.size, 4


def live(address: Address, pipe: Connection, buffer: Any, trace: Trace) -> None:
    """The life of the client's process. `buffer` is shared memory for the pictures, of `address.shape` bytes. The first
    answer is the class table, before any request."""
    for parents in (signal.SIGINT, signal.SIGUSR1):  # SLURM warns every process of a job, to have the trainer save
        signal.signal(parents, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    world: CarlaWorld | None = None
    try:
        kind, made = _attempt(partial(_connect, address, buffer, trace))
        world, table = made if kind == "done" else (None, made)
        pipe.send((kind, table))
        while world is not None:
            request, arguments = pipe.recv()
            if request == "close":
                break
            pipe.send(_attempt(partial(getattr(world, request), *arguments)))
    except (EOFError, OSError, SystemExit):
        pass  # the parent is gone, or wants us to be
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if world is not None:
            with suppress(RuntimeError, SemoreError):  # the server is gone too: there is nothing to put back
                world.close(FAREWELL)
        os._exit(0)  # the library's threads do not survive an orderly end


def _connect(address: Address, buffer: Any, trace: Trace) -> tuple[CarlaWorld, NDArray[np.uint8]]:
    import carla

    from semore.collect.carla.world import CarlaWorld

    pictures = np.ndarray(address.shape, np.uint8, buffer)
    table = class_table({name: int(label) for name, label in carla.CityObjectLabel.names.items()})
    return CarlaWorld(address.host, address.port, address.timeout, address.cameras, pictures, trace.write), table


def _attempt(call: Callable[[], Any]) -> tuple[str, Any]:
    """What `call` gives, or what it failed with, ready to be sent."""
    try:
        return "done", call()
    except EpisodeLost as error:
        return "lost", str(error)
    except SemoreError as error:
        return "refused", str(error)
    except RuntimeError as error:  # all that the client library ever raises
        return "lost", f"the CARLA client says: {error}"
    except Exception:
        return "lost", f"the CARLA client's process failed:\n{traceback.format_exc()}"


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit
