"""Which transitions the selective replay buffer admits: its configuration, its decay δ, the rule (method.md §6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.records import INVALID

LEAST = 0.01
"""Of draw_weights: a batch must come together even when all the buffer was judged unreasonable at δ = 1."""
ADMISSIONS = ("recommended", "literal", "weights", "off")


@dataclass(frozen=True)
class ReplaySettings:
    """The filter and the pool."""

    admission: str = "recommended"
    """recommended (strict early, lax late), literal (the public code's intended rule), weights (everything is admitted,
    and what was judged unreasonable is drawn more rarely: 1 − δ times as often), or off."""
    filter_steps: int = 10_000
    """T_f: decisions until δ has fallen to 0.5 and everything is admitted; with weights, half the decisions until
    everything is drawn alike."""
    random_steps: int = 1_000
    """First decisions of random behaviours, always admitted (the method's initial random steps)."""
    pool_frames: int = 40_000
    """Frames the pool can hold; the oldest episodes go first."""


def decay(step: NDArray[Any], filter_steps: int) -> NDArray[np.float64]:
    """δ_t = max(0, 1 − d·t) with d = 0.5/T_f after t = `step` offered decisions."""
    return np.maximum(0.0, 1.0 - 0.5 / max(filter_steps, 1) * step)


def admitted(
    verdict: NDArray[np.uint8],
    terminal: NDArray[np.bool_],
    initial: NDArray[np.bool_],
    delta: NDArray[np.float64],
    draw: NDArray[np.float64],
    rule: str,
) -> NDArray[np.bool_]:
    """Which of T transitions enter the buffer (method.md §6.2, §6.4); all arguments (T,), draw uniform in [0, 1).

    recommended: while δ > 0.5, with probability δ a verdict of 1 is required. literal: while δ > 0.5, verdict 1 and
    draw < δ. After that, and always for initial, terminal and unjudged transitions: admitted.
    """
    if rule in ("off", "weights"):
        return np.ones(len(verdict), np.bool_)
    if rule == "recommended":
        passes: NDArray[np.bool_] = (verdict == 1) | (draw >= delta)
    elif rule == "literal":
        passes = (verdict == 1) & (draw < delta)
    else:
        raise SemoreError(f"unknown admission {rule!r}; choose one of {', '.join(ADMISSIONS)}")
    exempt: NDArray[np.bool_] = initial | terminal | (verdict == INVALID) | (delta <= 0.5)
    return passes | exempt


def draw_weights(
    verdict: NDArray[np.uint8], terminal: NDArray[np.bool_], initial: NDArray[np.bool_], delta: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How often each of T transitions is drawn beside the others (rule weights): 1 − δ where its verdict is 0 (at least
    LEAST), else 1.

    Bad actions stay in the buffer, since Q must know what they are worth; initial and terminal ones keep their weight.
    """
    kept = (verdict == 1) | (verdict == INVALID) | initial | terminal
    weights: NDArray[np.float64] = np.where(kept, 1.0, np.maximum(1.0 - delta, LEAST))
    return weights
