"""What is measured of a side, and of two sides on the same test episodes: every table's and report's numbers.

A side is a policy, or a method's training runs; its episodes are rows of a frame such as `frame` makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Final, Generic, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from semore.evaluate.claims import Trained, in_words, lacking, verdict
from semore.evaluate.episodes import FAILED, Row
from semore.evaluate.statistics import (
    Estimate,
    Values,
    across_runs,
    difference_across_runs,
    estimate,
    interquartile_mean,
    iqm,
    mean,
    paired_difference,
    probability_of_improvement,
    std_of_runs,
)

EACH_EPISODE: Final = ("reward", "distance", "crash_intensity")
"""Metrics whose mean is over episodes; that of the others is over the simulator steps of all episodes (method.md
§2.6)."""


def frame(rows: Iterable[Row], run: int = 0, train_seed: int = 0) -> pd.DataFrame:
    """Rows of an evaluation.csv as a frame with Row's columns, of one of several runs."""
    names = [field.name for field in fields(Row)]
    return pd.DataFrame(map(vars, rows), columns=names).assign(run=run, train_seed=train_seed)


class Pooled(NamedTuple):
    """Mean and population standard deviation over episodes."""

    mean: float
    std: float


@dataclass(frozen=True, eq=False)
class Side:
    """One policy's test episodes in one scenario and weather, by one or several training runs.

    `episodes` has the columns run, train_seed, seed, ending and the metrics; failed ones are among them.
    `trained` are the training runs whose method is judged; none: a policy as it is.
    """

    label: str
    episodes: pd.DataFrame
    trained: tuple[Trained, ...] = ()

    @cached_property
    def driven(self) -> pd.DataFrame:
        """The episodes that tell about the policy: without those whose simulator failed."""
        return self.episodes[~self.episodes["ending"].isin(FAILED)]

    @property
    def failed(self) -> int:
        """Episodes that are in no mean."""
        return len(self.episodes) - len(self.driven)

    @property
    def endings(self) -> tuple[tuple[str, int], ...]:
        """How often driven episodes ended in which way, the most frequent one first."""
        return tuple(Counter(self.driven["ending"]).most_common())

    def matrix(self, metric: str = "reward") -> pd.DataFrame:
        """A row for each run, a column for each test seed that all of them have; NaN where the simulator failed."""
        # A failed episode is ∞ at first: NaN stands for a seed that a run does not have, which drops the column.
        every = self.episodes.drop_duplicates(["run", "seed"], keep="last")
        every = every.assign(value=every[metric].where(~every["ending"].isin(FAILED), np.inf))
        table = every.pivot(index="run", columns="seed", values="value")
        return table.dropna(axis="columns").replace(np.inf, np.nan).astype(np.float64)

    @cached_property
    def by_seed(self) -> pd.DataFrame:
        """The reward's matrix."""
        return self.matrix()

    @property
    def rewards(self) -> Values:
        """(runs, test seeds)."""
        found: Values = self.by_seed.to_numpy()
        return found

    @cached_property
    def reward(self) -> Estimate:
        """The reward over training seeds and episodes."""
        return across_runs(self.rewards)

    @cached_property
    def middle(self) -> Estimate:
        """The reward's interquartile mean over training seeds and episodes."""
        return across_runs(self.rewards, interquartile_mean)

    @cached_property
    def by_episode(self) -> Estimate:
        """The reward over episodes alone: that of one policy as it is."""
        return estimate(self.driven["reward"].tolist())

    @property
    def iqm(self) -> float:
        """The interquartile mean of all rewards."""
        return iqm(self.rewards)

    @property
    def std_of_runs(self) -> float:
        """Of the training seeds' means."""
        return std_of_runs(self.rewards)

    @property
    def each_seed(self) -> list[tuple[int, float]]:
        """Every run's training seed and mean reward."""
        seeds = self.episodes.groupby("run")["train_seed"].first()
        return list(zip(map(int, seeds), map(float, mean(self.rewards, 1)), strict=True))

    def mean(self, metric: str) -> float:
        """Of driven episodes, which count alike."""
        return float(np.nanmean(self.matrix(metric)))

    def pooled(self, metric: str) -> Pooled:
        """Of driven episodes: those of EACH_EPISODE count alike, the controls by their episodes' steps."""
        values = self.driven[metric].to_numpy(np.float64)
        weights = None if metric in EACH_EPISODE else self.driven["steps"].clip(lower=1).to_numpy(np.float64)
        middle = np.average(values, weights=weights)
        return Pooled(float(middle), float(np.sqrt(np.average((values - middle) ** 2, weights=weights))))


Kind = TypeVar("Kind", bound=Side)
Kind_co = TypeVar("Kind_co", bound=Side, covariant=True)


@dataclass(frozen=True, eq=False)
class Pair(Generic[Kind_co]):
    """One side minus another on the test seeds that no run of either has failed on.

    `values` are both rewards, (runs, test seeds); `lacks` is what a verdict lacks."""

    ours: Kind_co
    theirs: Kind_co
    values: tuple[Values, Values]
    lacks: tuple[str, ...]

    @property
    def seeds(self) -> int:
        """Test seeds; without any there is nothing to compare."""
        return int(self.values[0].shape[1])

    @cached_property
    def difference(self) -> Estimate:
        """Over training seeds and episodes."""
        return difference_across_runs(*self.values)

    @cached_property
    def by_episode(self) -> Estimate:
        """Over episodes alone: of two policies as they are, one run each."""
        (ours,), (theirs,) = self.values
        return paired_difference(ours.tolist(), theirs.tolist())

    @cached_property
    def improvement(self) -> Estimate:
        """How often ours has more."""
        return probability_of_improvement(*self.values)

    @property
    def per_seed(self) -> Values:
        """The difference on each test seed, means over runs."""
        ours, theirs = self.values
        found: Values = ours.mean(0) - theirs.mean(0)
        return found

    @property
    def more(self) -> int:
        """Test seeds on which ours has more."""
        return int((self.per_seed > 0).sum())

    @property
    def verdict(self) -> str:
        """ahead, behind, undecided, or that there is none."""
        return verdict(self.difference, self.lacks)

    @property
    def in_words(self) -> str:
        """The verdict, or that there is none and what it lacks."""
        return in_words(self.difference, self.lacks)


def compare(ours: Kind, theirs: Kind, same_training_seeds: bool = False) -> Pair[Kind]:
    """Ours minus theirs. With `same_training_seeds` only the runs of training seeds that both have count, if there are
    such; runs must be told apart by their training seeds then."""
    one, other = ours.by_seed, theirs.by_seed
    judged = [ours.trained, theirs.trained]
    if same_training_seeds and len(both := one.index.intersection(other.index)):
        one, other = one.loc[both], other.loc[both]
        judged = [tuple(run for run in side if run.seed in both) for side in judged]
    whole = one.dropna(axis="columns").columns.intersection(other.dropna(axis="columns").columns)
    return Pair(ours, theirs, (one[whole].to_numpy(), other[whole].to_numpy()), lacking(len(whole), *judged))
