"""The report's tables: all policies on a run's test episodes, and paired differences on the same seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.evaluate.claims import Trained, lacking, verdict
from semore.evaluate.episodes import Row, driven
from semore.evaluate.report.runs import Contender, Course, Run, seeds_of, table_of
from semore.evaluate.statistics import (
    Estimate,
    across_runs,
    difference_across_runs,
    iqm,
    mean,
    probability_of_improvement,
    std_of_runs,
)

BASELINES: Final = {
    "driver": "rule-based driver (sees the simulator's state)",
    "blind_driver": "the same driver, ignoring all actors",
    "fast_driver": "the imitated driver: the same at 25 m/s",
    "fast_blind_driver": "the same, ignoring all actors",
    "full_throttle": "full throttle",
    "random": "random",
}
"""Rows that are the same whichever run they were driven for."""
WITHOUT_EYES: Final = {
    "trained_grey": "shown grey pictures",
    "trained_frozen": "shown a frozen picture",
    "untrained": "before training",
}
"""Rows of a run's own network without what it needs."""


@dataclass(frozen=True)
class Line:
    """A row of the result table. `rewards` (runs, test seeds) with NaN for failed episodes; `number` is the colour's,
    None for baselines; `runs` are the training seeds behind it."""

    label: str
    number: int | None
    policy: str
    runs: tuple[Run, ...]
    seeds: tuple[int, ...]
    rewards: NDArray[np.float64]
    reward: Estimate
    iqm: float
    std_of_runs: float
    distance: Estimate
    crash: Estimate
    steer: float
    throttle: float
    brake: float
    endings: tuple[tuple[str, int], ...]
    failed: int

    @property
    def episodes(self) -> int:
        """Episodes behind the means."""
        return int((~np.isnan(self.rewards)).sum())

    @property
    def per_run(self) -> list[tuple[str, float]]:
        """(run, mean reward)."""
        return [(run.name, float(value)) for run, value in zip(self.runs, mean(self.rewards, 1), strict=True)]


@dataclass(frozen=True)
class Duel:
    """One line minus another on the test seeds of both; `more` of `seeds` episodes (means over runs) have more reward.
    `lacks`: what a verdict on it lacks."""

    ours: Line
    theirs: Line
    difference: Estimate
    improvement: Estimate
    more: int
    seeds: int
    per_seed: NDArray[np.float64]
    lacks: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """ahead, behind, undecided, or that there is none."""
        return verdict(self.difference, self.lacks)


def lines(group: Sequence[Contender], course: Course) -> list[Line]:
    """Contenders, then their networks without eyes, then what needs no run; what nobody drove is left out."""
    found = [_line(one.label, one.number, "trained", one.runs, course) for one in group]
    for policy, words in WITHOUT_EYES.items():
        found += [_line(f"{one.label}, {words}", None, policy, one.runs, course) for one in group]
    every = [run for one in group for run in one.runs]
    known = {"trained", *WITHOUT_EYES}
    others = dict.fromkeys(row.policy for run in every for row in run.rows if row.policy not in known)
    for policy in sorted(others, key=lambda name: [*BASELINES, name].index(name)):
        owners = [run for run in every if run.episodes(policy, course)]
        longest = max(owners, key=lambda run: len(run.episodes(policy, course)), default=None)
        found.append(_line(BASELINES.get(policy, policy), None, policy, (longest,) if longest else (), course))
    return [line for line in found if line is not None]


def duels(table: Sequence[Line]) -> list[Duel]:
    """The first contender against each other one, then every contender against the driver and the sightless."""
    trained = [line for line in table if line.number is not None]
    others = [line for line in table if line.number is None]
    pairs = [(trained[0], line) for line in trained[1:]] if trained else []
    for line in trained:
        mine = set(line.runs)
        pairs += [(line, other) for other in others if other.policy in BASELINES or mine == set(other.runs)]
    return [duel for one, other in pairs for duel in _duel(one, other)]


def _line(label: str, number: int | None, policy: str, runs: Sequence[Run], course: Course) -> Line | None:
    having = tuple(run for run in runs if run.episodes(policy, course))
    seeds = seeds_of(having, policy, course)
    rewards = table_of(having, policy, course)
    if not np.isfinite(rewards).any():
        return None

    def over(metric: str) -> NDArray[np.float64]:
        return table_of(having, policy, course, metric)

    def average(metric: str) -> float:
        return float(np.nanmean(over(metric)))

    rows: list[Row] = [row for run in having for row in run.episodes(policy, course) if row.seed in set(seeds)]
    kept = driven(rows)
    return Line(
        label, number, policy, having, tuple(seeds), rewards, across_runs(rewards), iqm(rewards),
        std_of_runs(rewards), across_runs(over("distance")), across_runs(over("crash_intensity")),
        average("steer"), average("throttle"), average("brake"),
        tuple(Counter(row.ending for row in kept).most_common()), len(rows) - len(kept),
    )  # fmt: skip


def _duel(one: Line, other: Line) -> Iterator[Duel]:
    shared = sorted(set(one.seeds) & set(other.seeds))
    ours, theirs = (line.rewards[:, [line.seeds.index(seed) for seed in shared]] for line in (one, other))
    whole = np.isfinite(ours).all(0) & np.isfinite(theirs).all(0)
    if not whole.any():
        return
    ours, theirs = ours[:, whole], theirs[:, whole]
    per_seed, seeds = ours.mean(0) - theirs.mean(0), int(whole.sum())
    yield Duel(
        one, other, difference_across_runs(ours, theirs), probability_of_improvement(ours, theirs),
        int((per_seed > 0).sum()), seeds, per_seed, lacking(seeds, *_judged(one, other)),
    )  # fmt: skip


def _judged(one: Line, other: Line) -> tuple[list[Trained], list[Trained]]:
    """The training runs whose methods a duel is about. One run alone against what it is no other training for (a rule,
    chance, its own network without eyes) is about its policy only, so there are none."""
    trained = [run.trained for run in one.runs]
    if other.number is not None:
        return trained, [run.trained for run in other.runs]
    return (trained, []) if len(trained) > 1 else ([], [])
