"""The driving reward (method.md §2.4): the environment and the frame pool both call this one function."""

from __future__ import annotations

from typing import Final, TypeVar

import numpy as np

Number = TypeVar("Number", float, np.ndarray)

IMPULSE_WEIGHT: Final[dict[str, float]] = {"published": 0.001, "safety": 0.01}
"""`safety` weighs impulses ten times: under `published` hitting a walker costs less than braking for them."""


def driving_reward(progress: Number, impulse: Number, steer: Number, brake: Number, kind: str = "published") -> Number:
    """r = v_s·dt − w·I − 0.1·brake − 0.1·|steer| for one simulator step, scalars or (T,) arrays.

    progress is v_s·dt in metres, impulse in N·s, steer in [−1, 1], brake in [0, 1]; w by IMPULSE_WEIGHT[kind].
    """
    return progress - IMPULSE_WEIGHT[kind] * impulse - 0.1 * brake - 0.1 * abs(steer)
