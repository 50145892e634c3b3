"""The nearest key object in view: how far away it is and on which side, from the simulator's state."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semore.annotate.interfaces import FrameBatch
from semore.annotate.oracle.rules import look
from semore.collect.policies import Info
from semore.datasets.rollouts.schema import ACTOR_COLUMN, EGO_COLUMN

REACH: Final = 40.0
"""Metres from the ego within which an object counts: what is farther away is a pixel or two."""


class Nearest(NamedTuple):
    """Of B frames: whether a key object (annotate.oracle.rules: worth naming, and with pixels in the picture) is within
    REACH (B,) bool; the distance (B,) of the nearest one from the ego's centre, and how far to the right of the ego's
    heading its centre is (B,), both float64 metres, NaN where there is none."""

    there: NDArray[np.bool_]
    distance: NDArray[np.float64]
    right: NDArray[np.float64]


def nearest(batch: FrameBatch) -> Nearest:
    """The nearest key object of each frame; `batch` holds the privileged arrays."""
    if not batch.actors.shape[1]:
        nobody = np.full(len(batch), np.nan)
        return Nearest(np.zeros(len(batch), np.bool_), nobody, nobody)
    scene = look(batch)
    distance = np.where((scene.code >= 0) & (scene.distance <= REACH), scene.distance, np.inf).astype(np.float64)
    rows, place = np.arange(len(batch)), distance.argmin(1)
    there = np.isfinite(distance[rows, place])
    x, y = (
        batch.actors[rows, place, ACTOR_COLUMN[name]].astype(np.float64) - batch.ego[:, EGO_COLUMN[name]]
        for name in ("x", "y")
    )
    yaw = batch.ego[:, EGO_COLUMN["yaw"]].astype(np.float64)  # clockwise from above, y to the right
    right = y * np.cos(yaw) - x * np.sin(yaw)
    return Nearest(there, np.where(there, distance[rows, place], np.nan), np.where(there, right, np.nan))


def nearest_now(info: Info) -> Nearest:
    """The same of the one frame that a DrivingEnv's info is about."""
    unread = np.zeros((1, 0), np.uint8)
    return nearest(FrameBatch(unread, unread, unread, *(info[name][None] for name in _PRIVILEGED)))


_PRIVILEGED: Final = ("semantic", "instance", "actors", "ego")
