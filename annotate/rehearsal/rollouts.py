"""Rollouts of random pictures for rehearsals and benchmarks: every frame is distinct."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from semore.datasets.rollouts.schema import ACTOR_FIELDS, EGO_FIELDS, FRAME_ARRAYS, STEP_ARRAYS
from semore.datasets.rollouts.store import Rollouts, row_digests


def random_rollouts(path: Path, episodes: int, frames: int, side: int = 32, seed: int = 0) -> Rollouts:
    """`episodes` episodes of `frames` distinct random pictures of side × side; those that exist are kept."""
    rollouts = Rollouts(path)
    rollouts.create()
    steps = frames - 1
    for number in range(episodes):
        name = f"rehearsal-{number:06d}"
        if name in rollouts.names():
            continue
        rng = np.random.default_rng((seed, number))
        shapes = {
            "rgb": (side, side, 3), "semantic": (side, side), "instance": (side, side),
            "actors": (1, len(ACTOR_FIELDS)), "ego": (len(EGO_FIELDS),), "action": (2,),
        }  # fmt: skip
        arrays = {
            key: np.zeros((frames if key in FRAME_ARRAYS else steps, *shapes.get(key, ())), dtype)
            for key, dtype in {**FRAME_ARRAYS, **STEP_ARRAYS}.items()
        }
        arrays["rgb"][:] = rng.integers(0, 256, arrays["rgb"].shape, np.uint8)
        arrays["action"][:] = rng.uniform(-1, 1, arrays["action"].shape)
        arrays["digest"] = row_digests(arrays["rgb"])
        arrays["state_digest"] = row_digests(*(arrays[key] for key in ("ego", "actors", "semantic", "instance")))
        arrays["truncated"][-1] = True
        rollouts.write(name, arrays, {"camera": side, "action_repeat": 1, "split": "train", "policy": "random"})
    return rollouts
