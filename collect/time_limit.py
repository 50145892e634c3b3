"""Gymnasium's own limit, `gymnasium.make(…, max_episode_steps=…)`, as an ending of the environment itself."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from semore.collect.env import DrivingEnv


class EndAtLimit(
    gymnasium.Wrapper[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]],
    RecordConstructorArgs,
):
    """Tells a DrivingEnv of the limit in decisions that it was made with, if any.

    `gymnasium.make` keeps that argument for its TimeLimit wrapper, which cuts an episode from outside: the environment
    and whoever records it would not know that it has ended, nor why. Registered environments have this around it."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        gymnasium.Wrapper.__init__(self, env)
        RecordConstructorArgs.__init__(self)
        decisions = None if env.spec is None else env.spec.max_episode_steps
        if decisions is not None and isinstance(env.unwrapped, DrivingEnv):
            env.unwrapped.limit(decisions)
