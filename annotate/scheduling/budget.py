"""How much of a plan a pass does: all, a sample, a number of frames, or what a budget of minutes allows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.annotate.scheduling.plan import Plan
from semore.annotate.scheduling.priority import frame_order
from semore.annotate.settings import Budget
from semore.datasets.rollouts.store import Episode

SPENT_AT_ONCE: Final = 0.5
"""Fraction of the minutes left that a round plans for; after it the speed is measured anew."""


def rounds(
    budget: Budget,
    plan: Plan,
    episodes: Sequence[Episode],
    rows: Sequence[NDArray[np.int64]],
    first: int,
    speed: Callable[[], float],
) -> Iterator[Plan]:
    """The parts of the plan to do, one after another; `rows` are the frames that knowledge is wanted for.

    A budget of minutes is spent in rounds. The first has `first` frames; each later one is planned with the `speed()`
    (frames per second) seen so far. Whatever the speed, what is done is the beginning of one fixed order, so that the
    same number of frames repeats it.
    """
    if not budget.budget:
        count = budget.sample or budget.frames
        yield plan.within(frame_order(episodes, rows, count).by_path()) if count else plan
        return
    end = time.monotonic() + 60 * budget.budget
    left = frame_order(episodes, rows).of(plan)
    count = first
    while len(left) and count:
        yield plan.within(left[:count].by_path())
        left = left[count:]
        seconds = end - time.monotonic()
        affordable = int(seconds * speed())
        count = min(affordable, max(int(SPENT_AT_ONCE * affordable), first))
