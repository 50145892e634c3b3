"""Whether a frame's recorded state is there at all: rules over state that is not would make an empty scene of it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.annotate.interfaces import FrameBatch
from semore.annotate.oracle.rules import pixels
from semore.datasets.rollouts.schema import ACTOR_COLUMN, EGO_COLUMN

MOTION: Final = [EGO_COLUMN[name] for name in ("x", "y", "yaw", "vx", "vy")]
"""What every rule starts from."""


class StateMissing(ValueError):
    """A privileged producer was asked about a frame without the state that it answers from."""


def missing_state(batch: FrameBatch) -> list[str]:
    """What each frame lacks of the state that privileged producers answer from, "" where all of it is there.

    A row of zeros stands for no ego: even at the origin it has a lane's direction or, off the road, none that is a
    number. No actor at all is an empty world, unless the instance picture shows one.
    """
    if batch.ego.ndim < 2 or not batch.ego.shape[1]:
        return ["no state was recorded, or read"] * len(batch)
    numbers: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(batch.ego[:, MOTION]), axis=1)
    blank: NDArray[np.bool_] = ~np.logical_or.reduce(batch.ego != 0, axis=1)
    return [
        "the ego's state is all zeros" if zeros else
        "the ego's pose or speed is not a number" if not number else
        "the instance picture shows actors whose state is missing" if stranger else ""
        for zeros, number, stranger in zip(blank.tolist(), numbers.tolist(), _strangers(batch).tolist(), strict=True)
    ]  # fmt: skip


def _strangers(batch: FrameBatch) -> NDArray[np.bool_]:
    """(B,) bool: an actor's id is not a number, or the instance picture shows an id that no actor has."""
    ids = batch.actors[:, :, ACTOR_COLUMN["id"]]
    known = np.nan_to_num(ids).astype(np.int64)
    shown = np.count_nonzero(batch.instance, axis=(1, 2))
    explained = pixels(batch.instance, known).sum(1) if known.shape[1] else np.zeros_like(shown)
    strangers: NDArray[np.bool_] = ~np.logical_and.reduce(np.isfinite(ids), axis=1) | (shown > explained)
    return strangers


def without_state(missing: str, role: str, others: str) -> str:
    """The reason of a privileged producer's failed answer."""
    return f"the privileged {role} answers from the simulator's state, and {missing}; choose {role} {others} instead"
