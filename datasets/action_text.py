"""An action as the words that a judge is asked about (method.md §6.1)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from semore.datasets.actions import finite

STEERING: Final = ("steer left", "straight", "steer right")
PEDALS: Final = ("brake", "keep speed", "throttle")


def action_codes(actions: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) indices into STEERING and PEDALS of actions (N, 2) in [−1, 1].

    a0 > 0.3 right, < −0.3 left, else straight; a1 > 0.5 throttle, 0 ≤ a1 ≤ 0.5 keep speed, a1 < 0 brake. The public
    code leaves a1 = 0 and a1 = 0.5 undefined; here both are "keep speed": neither presses a pedal hard. SemoreError for
    what is no action: there are no words for it.
    """
    actions = finite(actions, (len(actions), 2))
    steer, pedal = actions[:, 0], actions[:, 1]
    steering = 1 + (steer > 0.3).astype(np.int64) - (steer < -0.3)
    pedals = (pedal >= 0).astype(np.int64) + (pedal > 0.5)
    return steering, pedals


def action_words(actions: NDArray[Any]) -> list[str]:
    """N phrases such as "steer right, keep speed" for actions (N, 2); they are part of a verdict's key."""
    steering, pedals = action_codes(actions)
    names = [[f"{steer}, {pedal}" for pedal in PEDALS] for steer in STEERING]
    return [names[steer][pedal] for steer, pedal in zip(steering.tolist(), pedals.tolist(), strict=True)]


def parse_words(words: str) -> tuple[int, int]:
    """Indices into STEERING and PEDALS of an action in words; ValueError when it is none."""
    steer, _, pedal = words.partition(", ")
    return STEERING.index(steer), PEDALS.index(pedal)
