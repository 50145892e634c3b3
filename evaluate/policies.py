"""The policies of an evaluation: the trained one, its baselines, and blind variants of it (design.md §7.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.policies import Action, Info, Policy, load_policy, make_policy
from semore.datasets.resize import GREY
from semore.train.run_io import untrained_policy


class Grey:
    """A policy that is shown a grey picture instead of the camera's."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def start(self, seeds: Sequence[int]) -> None:
        self._policy.start(seeds)

    def act(self, slots: Sequence[int], observations: NDArray[np.uint8], infos: Sequence[Info]) -> Action:
        return self._policy.act(slots, np.full_like(observations, GREY), infos)


class Frozen:
    """A policy that sees the episode's first observation all the time."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._first: dict[int, NDArray[np.uint8]] = {}

    def start(self, seeds: Sequence[int]) -> None:
        self._first = {}
        self._policy.start(seeds)

    def act(self, slots: Sequence[int], observations: NDArray[np.uint8], infos: Sequence[Info]) -> Action:
        for slot, observation in zip(slots, observations, strict=True):
            self._first.setdefault(slot, observation.copy())
        return self._policy.act(slots, np.stack([self._first[slot] for slot in slots]), infos)


POLICIES: Final[dict[str, Callable[[Path], Policy]]] = {
    "trained": load_policy,
    "random": lambda _: make_policy("random"),
    "full_throttle": lambda _: make_policy("full_throttle"),
    "driver": lambda _: make_policy("driver"),
    "blind_driver": lambda _: make_policy("blind_driver"),
    "fast_driver": lambda _: make_policy("fast_driver"),
    "fast_blind_driver": lambda _: make_policy("fast_blind_driver"),
    "fast_short_sighted_driver": lambda _: make_policy("fast_short_sighted_driver"),
    "untrained": untrained_policy,
    "trained_grey": lambda run: Grey(load_policy(run)),
    "trained_frozen": lambda run: Frozen(load_policy(run)),
}
"""Every row of evaluation.csv by name; each is built from the run's folder."""
EYELESS: Final = ("untrained", "trained_grey", "trained_frozen")
"""A run's own network without its training, or without its eyes."""
STANDARD: Final = ("random", "full_throttle", "driver", "blind_driver", "fast_driver", "fast_blind_driver")
"""Those that are the same whatever the run, and are driven unless other rows are asked for."""
ON_REQUEST: Final = ("fast_short_sighted_driver",)
"""The same, driven only where they are asked for by name."""
UNTAUGHT: Final = (*STANDARD, *ON_REQUEST)
"""Those that are the same whatever the run."""
