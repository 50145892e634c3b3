"""The ego's collision sensor. Its events travel on a connection of their own and may arrive after their step."""

from __future__ import annotations

import math
import time
from queue import Empty, SimpleQueue
from typing import Any, Final

import carla
import numpy as np
from numpy.typing import NDArray

from semore.collect.carla.pictures import BOX, outside
from semore.collect.carla.session import Session
from semore.collect.simulator import Ego
from semore.datasets.rollouts.schema import DT, KIND_INDEX, KINDS

_SURE: Final = 0.1  # s to wait for the event of a hit that must have been
_MAYBE: Final = 0.02  # s for that of one that may have been
_NEAR: Final = 0.3  # m between the ego's side and somebody it may touch
_TYRES: Final = 12.0  # m/s² that engine, brakes and tyres can do; more is a hit
_EGO: Final = KINDS[KIND_INDEX["sedan"]]


class CollisionSensor:
    """The collision sensor on the actor `ego`; it listens from the moment it is made."""

    def __init__(self, session: Session, ego: carla.Actor) -> None:
        self._arrived: SimpleQueue[Any] = SimpleQueue()
        self._last: Ego | None = None
        self._hit = False
        sensor = session.spawn(session.blueprint("sensor.other.collision"), carla.Transform(), ego)
        sensor.listen(self._arrived.put)

    def take(self, frame: int, ego: Ego, actors: NDArray[np.float32]) -> list[Any]:
        """All events since the last call. When an event of `frame` is likely, it is waited for up to 0.1 s; one that
        arrives later counts in the next step, and none is lost. `actors` (A, 14) has the columns of ACTOR_FIELDS."""
        events: list[Any] = []
        deadline = time.monotonic() + self._patience(ego, actors)
        while True:
            missing = not events or events[-1].frame < frame
            left = deadline - time.monotonic()
            try:
                events.append(self._arrived.get(timeout=left) if missing and left > 0 else self._arrived.get_nowait())
            except Empty:
                self._last, self._hit = ego, bool(events)
                return events

    def _patience(self, ego: Ego, actors: NDArray[np.float32]) -> float:
        """Seconds to wait for an event of this step: a body that touched another seldom lets go at once."""
        last = self._last
        if last is None:
            return 0.0
        if self._hit or math.hypot(ego.vx - last.vx, ego.vy - last.vy) > _TYRES * DT:
            return _SURE
        near = outside(_outline(ego), actors[:, BOX].astype(np.float64)) < _NEAR
        return _MAYBE if near.any() else 0.0


def _outline(ego: Ego) -> NDArray[np.float64]:
    """(n, 2) places (m) all around the ego's box, about half a metre apart."""
    steps, ends = np.linspace(-1.0, 1.0, 10), np.ones(10)
    ahead = np.concatenate([steps, steps, ends, -ends]) * _EGO.length / 2
    right = np.concatenate([ends, -ends, steps, steps]) * _EGO.width / 2
    cos, sin = math.cos(ego.yaw), math.sin(ego.yaw)
    return np.stack([ego.x + ahead * cos - right * sin, ego.y + ahead * sin + right * cos], axis=-1)
