"""Statistics of episodes: mean ± std as the field prints it, bootstrap intervals, paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
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


def across_runs(values: NDArray[np.float64], seed: int = 0) -> Estimate:
    """Of rewards (training seeds, test episodes): mean, standard deviation over all of them, and the interval of a
    bootstrap over training seeds, then episodes (design.md §7.4)."""
    generator = np.random.default_rng(seed)
    means = [_redrawn(values, generator, _chosen(values.shape[1], generator)) for _ in range(RESAMPLES)]
    return Estimate(float(values.mean()), float(values.std()), *_interval(means))


def difference_across_runs(ours: NDArray[np.float64], theirs: NDArray[np.float64], seed: int = 0) -> Estimate:
    """Estimate of ours − theirs, (training seeds, test episodes) each, over the same test episodes: the draws of
    training seeds are each method's own, those of episodes are shared. Its `std` is that of the episodes' means."""
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(f"paired episodes must be equally many, got {ours.shape[1]} and {theirs.shape[1]}")
    generator = np.random.default_rng(seed)
    means = []
    for _ in range(RESAMPLES):
        episodes = _chosen(ours.shape[1], generator)
        means.append(_redrawn(ours, generator, episodes) - _redrawn(theirs, generator, episodes))
    difference = ours.mean(0) - theirs.mean(0)
    return Estimate(float(difference.mean()), float(difference.std()), *_interval(means))


def _chosen(count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    return generator.integers(count, size=count)


def _redrawn(values: NDArray[np.float64], generator: np.random.Generator, episodes: NDArray[np.int64]) -> float:
    return float(values[_chosen(len(values), generator)][:, episodes].mean())


def _interval(means: Sequence[float]) -> tuple[float, float]:
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
