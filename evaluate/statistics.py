"""Statistics of episodes: mean ± std as the field prints it, bootstrap intervals, paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import bootstrap

RESAMPLES: Final = 9_999


@dataclass(frozen=True)
class Estimate:
    """A mean with the standard deviation over episodes and its 95% bootstrap interval."""

    mean: float
    std: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Of a difference (design.md §7.4): ahead, behind or undecided, by which side of 0 the interval lies on."""
        return "ahead" if self.low > 0 else "behind" if self.high < 0 else "undecided"


def estimate(values: Sequence[float], seed: int = 0) -> Estimate:
    """Mean, population standard deviation, and percentile bootstrap interval of the mean over episodes."""
    array = np.asarray(values, np.float64)
    mean, std = float(array.mean()), float(array.std())
    if len(array) < 2 or std == 0.0:
        return Estimate(mean, std, mean, mean)
    result = bootstrap((array,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(seed))
    return Estimate(mean, std, float(result.confidence_interval.low), float(result.confidence_interval.high))


def paired_difference(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> Estimate:
    """Estimate of ours − theirs over the same seeds in the same order; `low` > 0 means ahead."""
    if len(ours) != len(theirs):
        raise ValueError(f"paired episodes must be equally many, got {len(ours)} and {len(theirs)}")
    return estimate(np.subtract(ours, theirs).tolist(), seed)
