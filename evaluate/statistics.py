"""Statistics of episodes: mean ± std as the field prints it, IQM, bootstrap intervals, paired differences.

Over several training runs, values are (training seeds, test episodes), NaN where an episode's simulator failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES: Final = 9_999
TOGETHER: Final = 1_000
"""Resamples held in memory at once."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean (or what else is estimated) with the standard deviation over episodes and its 95% bootstrap interval."""

    mean: float
    std: float
    low: float
    high: float


class Statistic(Protocol):
    """A number for each row of values that may hold NaN."""

    def __call__(self, values: Values, axis: int) -> Values: ...


def mean(values: Values, axis: int) -> Values:
    """The mean of what is not NaN; NaN when that is nothing."""
    with np.errstate(invalid="ignore"):
        found: Values = np.nansum(values, axis) / (~np.isnan(values)).sum(axis)
    return found


def interquartile_mean(values: Values, axis: int) -> Values:
    """The mean of the middle half of what is not NaN: without the lowest and highest quarter (rounded down)."""
    from scipy.stats import trim_mean  # half a second, for commands that may be refused first

    found: Values = trim_mean(values, 0.25, axis=axis, nan_policy="omit")
    return found


def iqm(values: ArrayLike) -> float:
    """The interquartile mean of episodes, pooled when there are several runs."""
    return float(interquartile_mean(np.asarray(values, np.float64).ravel(), 0))


def estimate(values: Sequence[float], seed: int = 0) -> Estimate:
    """Mean, population standard deviation, and percentile bootstrap interval of the mean over episodes."""
    array = np.asarray(values, np.float64)
    middle, std = float(array.mean()), float(array.std())
    if len(array) < 2 or std == 0.0:
        return Estimate(middle, std, middle, middle)
    from scipy.stats import bootstrap

    result = bootstrap((array,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(seed))
    return Estimate(middle, std, float(result.confidence_interval.low), float(result.confidence_interval.high))


def paired_difference(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> Estimate:
    """Estimate of ours − theirs over the same seeds in the same order."""
    if len(ours) != len(theirs):
        raise ValueError(f"paired episodes must be equally many, got {len(ours)} and {len(theirs)}")
    return estimate(np.subtract(ours, theirs).tolist(), seed)


def across_runs(values: Values, statistic: Statistic = mean, seed: int = 0) -> Estimate:
    """Of (training seeds, test episodes): the statistic and the standard deviation of all of them pooled, and the
    interval of a bootstrap over training seeds, then episodes (design.md §7.4)."""
    generator = np.random.default_rng(seed)
    runs, episodes = values.shape
    drawn = []
    for first in range(0, RESAMPLES, TOGETHER):
        count = min(TOGETHER, RESAMPLES - first)
        of_runs = generator.integers(runs, size=(count, runs, 1))
        of_episodes = generator.integers(episodes, size=(count, 1, episodes))
        drawn.append(statistic(values[of_runs, of_episodes].reshape(count, -1), 1))
    return Estimate(float(statistic(values.ravel(), 0)), float(np.nanstd(values)), *_interval(np.concatenate(drawn)))


def std_of_runs(values: Values) -> float:
    """The population standard deviation of the training seeds' means."""
    return float(np.nanstd(mean(values, 1)))


def difference_across_runs(ours: Values, theirs: Values, seed: int = 0) -> Estimate:
    """Estimate of ours − theirs, (training seeds, test episodes) each, over the same test episodes: the draws of
    training seeds are each method's own, those of episodes are shared. Its `std` is that of the episodes' means.
    Test episodes that failed in any run are left out; ValueError when none is left."""
    return _crossed(*_pairs(ours, theirs), np.subtract, seed)


def probability_of_improvement(ours: ArrayLike, theirs: ArrayLike, seed: int = 0) -> Estimate:
    """How often ours is above theirs on the same test episode, a tie counting half: (test episodes) or (training
    seeds, test episodes) each, every run of ours against every run of theirs. Interval, `std` and failed episodes as
    for `difference_across_runs`; 0.5 is a draw."""

    return _crossed(*_pairs(ours, theirs), ahead, seed)


class Comparison(Protocol):
    """Of two rewards on the same test episode, element by element."""

    def __call__(self, ours: Values, theirs: Values, /) -> Values: ...


def ahead(ours: Values, theirs: Values, /) -> Values:
    """1 where ours is above theirs, 0 below, 0.5 for a tie."""
    return 0.5 + 0.5 * np.sign(ours - theirs)


def across_scenarios(
    pairs: Sequence[tuple[ArrayLike, ArrayLike]], compare: Comparison = np.subtract, seed: int = 0
) -> Estimate:
    """The mean over scenarios of how ours compares with theirs, (training seeds, test episodes) each. The bootstrap
    draws training seeds and episodes in each scenario by itself; `std` is that of the scenarios' means."""
    every = [compare(ours[:, None], theirs[None]) for ours, theirs in (_pairs(*pair) for pair in pairs)]
    means = np.array([compared.mean() for compared in every])
    return Estimate(float(means.mean()), float(means.std()), *_interval(np.mean(_draws(every, seed), 0)))


def _pairs(ours: ArrayLike, theirs: ArrayLike) -> tuple[Values, Values]:
    """(training seeds, test episodes) each, without the episodes that failed in any of the runs."""
    one, other = (np.atleast_2d(np.asarray(values, np.float64)) for values in (ours, theirs))
    if one.shape[1] != other.shape[1]:
        raise ValueError(f"paired episodes must be equally many, got {one.shape[1]} and {other.shape[1]}")
    whole = ~(np.isnan(one).any(0) | np.isnan(other).any(0))
    if not whole.any():
        raise ValueError("no test episode was driven in every run")
    return one[:, whole], other[:, whole]


def _crossed(ours: Values, theirs: Values, compare: Comparison, seed: int) -> Estimate:
    compared = compare(ours[:, None], theirs[None])
    (drawn,) = _draws([compared], seed)
    return Estimate(float(compared.mean()), float(compared.mean((0, 1)).std()), *_interval(drawn))


def _draws(every: Sequence[Values], seed: int) -> list[Values]:
    """Of every run of ours compared with every run of theirs on each episode, scenario by scenario: the means of
    resamples."""
    often = _often(tuple(compared.shape for compared in every), seed, RESAMPLES)
    return [
        np.einsum("bi,bj,be,ije->b", *drawn, compared, optimize=True)
        for drawn, compared in zip(often, every, strict=True)
    ]


@lru_cache(maxsize=8)
def _often(shapes: tuple[tuple[int, ...], ...], seed: int, resamples: int) -> list[list[Values]]:
    """A resample is told by how often it holds each run of either and each episode. They are kept: a page compares many
    pairs of the same shape, and drawing takes most of the time."""
    generator = np.random.default_rng(seed)
    return [[generator.multinomial(n, np.full(n, 1 / n), resamples) / n for n in shape] for shape in shapes]


def _interval(drawn: Values) -> tuple[float, float]:
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return float(low), float(high)
