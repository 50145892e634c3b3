"""Moments of a made-up drive, for tests of what is drawn from them."""

from __future__ import annotations

import numpy as np

from semore.evaluate.film.moments import Moment


def moment(place: int, crash: float = 0.0, student: bool = True, ending: str = "") -> Moment:
    """Grey, with a key object in the middle, the reward grown by 1 since the moment before."""
    known = np.zeros((128, 128), np.bool_)
    known[32:96, 32:96] = True
    totals = {"reward": float(place), "crash_intensity": crash, "steps": 2 * place, "ending": ending}
    totals["distance"] = float(place)
    return Moment(
        np.full((128, 128, 3), 90, np.uint8), np.full((64, 64, 3), 70, np.uint8), np.full((64, 64), 0.2, np.float32),
        known, np.ones((8, 8), np.float32) if student else None,
        ("pedestrian crossing the road",), 8.0, np.array([0.2, -0.4], np.float32), totals,
    )  # fmt: skip
