"""The report's tables: all policies on a run's test episodes, and paired differences on the same seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from semore.evaluate.compared import Pair, Side, compare
from semore.evaluate.report.runs import Contender
from semore.evaluate.runs import Cell, Run, side_of

BASELINES: Final = {
    "driver": "rule-based driver (sees the simulator's state)",
    "blind_driver": "the same driver, ignoring all actors",
    "fast_driver": "the imitated driver: the same at 25 m/s",
    "fast_blind_driver": "the same, ignoring all actors",
    "fast_short_sighted_driver": "at 25 m/s, seeing what 64² pixels show",
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


@dataclass(frozen=True, eq=False)
class Line(Side):
    """A row of the result table; `number` is the colour's, None for baselines; `runs` are the training seeds behind
    it."""

    policy: str = ""
    number: int | None = None
    runs: tuple[Run, ...] = ()

    @property
    def per_run(self) -> list[tuple[str, float]]:
        """(run, mean reward)."""
        return [(run.name, reward) for run, (_, reward) in zip(self.runs, self.each_seed, strict=True)]


Duel = Pair[Line]
"""One line minus another on the test seeds of both."""


def lines(group: Sequence[Contender], course: Cell) -> list[Line]:
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


def _line(label: str, number: int | None, policy: str, runs: Sequence[Run], course: Cell) -> Line | None:
    """Of the test seeds that all of the runs have; None where nobody drove any."""
    having = tuple(run for run in runs if run.episodes(policy, course))
    if not having:
        return None
    side = side_of(label, [run.within(course) for run in having], policy)
    kept = side.episodes[side.episodes["seed"].isin(side.by_seed.columns)]
    line = Line(label, kept, side.trained, policy, number, having)
    return line if np.isfinite(line.rewards).any() else None


def _duel(one: Line, other: Line) -> Iterator[Duel]:
    """One run alone against what it is no other training for (a rule, chance, its own network without eyes) is about
    its policy only, so no training of it is judged."""
    alone = other.number is None and len(one.runs) == 1
    pair = compare(replace(one, trained=()) if alone else one, other)
    if pair.seeds:
        yield pair
