"""The findings in plain words: what the runs show, and what they do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from evaluate.report.figures import interval, number
from evaluate.report.results import Duel, Line
from evaluate.report.runs import Course, Run

SEEDS_OF_A_CLAIM: Final = 5
"""Training seeds, and"""
EPISODES_OF_A_CLAIM: Final = 50
"""test seeds that a claim needs (design.md §7.4)."""

REFERENCES: Final = {
    "driver": (
        "{} {} ahead of the rule-based driver, which sees the simulator's state.",
        "{} {} level with the rule-based driver, which sees the simulator's state, as far as can be told.",
        "{} {} behind the rule-based driver, which sees the simulator's state.",
    ),
    "blind_driver": (
        "{} {} ahead of a driver that keeps its lane and ignores everybody: the others on the road are heeded.",
        "{} {} not told apart from a driver that keeps its lane and ignores everybody.",
        "{} {} behind a driver that keeps its lane and ignores everybody.",
    ),
    "full_throttle": (
        "{} {} ahead of full throttle, which needs no eyes.",
        "{} {} not told apart from full throttle, which needs no eyes.",
        "{} {} behind full throttle, which needs no eyes.",
    ),
    "trained_grey": (
        "{} {} ahead of the same network shown grey pictures: it uses its eyes.",
        "{} {} not told apart from the same network shown grey pictures: it may not use its eyes.",
        "{} {} behind the same network shown grey pictures.",
    ),
}
"""By baseline: the sentence for ahead, undecided, behind."""


@dataclass(frozen=True)
class Finding:
    """A sentence, its verdict (ahead, behind or undecided), and the numbers behind it."""

    verdict: str
    text: str
    numbers: str = ""


def headline(table: Sequence[Line], pairs: Sequence[Duel], course: Course) -> str:
    """The shortest true title: who against whom, and how that ends when there are only two."""
    names = [line.label for line in table if line.number is not None]
    if len(names) == 1:
        return f"{names[0]} on {course[0]}"
    if len(names) > 3:
        return f"{len(names)} contenders on {course[0]}"
    verdict = f": {pairs[0].difference.verdict}" if len(names) == 2 and pairs else ""
    return f"{names[0]} against {_listed(names[1:])}{verdict}"


def findings(pairs: Sequence[Duel]) -> list[Finding]:
    """How the contenders compare, then where they stand to the driver and the sightless."""
    between = [_between(duel) for duel in pairs if duel.theirs.number is not None]
    return between + [found for policy in REFERENCES for found in _to_reference(policy, pairs)]


def doubts(table: Sequence[Line], pairs: Sequence[Duel], runs: Sequence[Run], course: Course) -> list[str]:
    """Why the numbers say no more than they do."""
    trained = [line for line in table if line.number is not None]
    few = [line.label for line in trained if len(line.runs) < SEEDS_OF_A_CLAIM]
    found = []
    if few and len(trained) > 1:
        found.append(
            f"Nothing about methods as such: {_listed(few)} trained with fewer than {SEEDS_OF_A_CLAIM} training seeds. "
            "Another seed of the same method may fall on the other side."
        )
    elif few:
        found.append(f"How much training luck matters: fewer than {SEEDS_OF_A_CLAIM} training seeds were run.")
    if short := sorted({duel.seeds for duel in pairs if duel.seeds < EPISODES_OF_A_CLAIM}):
        found.append(
            f"Some differences rest on {short[0]} test seeds only; a claim needs {EPISODES_OF_A_CLAIM} "
            '(make evaluate ARGS="--episodes 50").'
        )
    if not any(line.policy in ("trained_grey", "full_throttle") for line in table):
        found.append("Whether the policies use their eyes: no blind row was driven (make evaluate drives them).")
    if any(str(run.settings.get("simulator", "embedded")) == "embedded" for run in runs):
        found.append(
            "Driving in CARLA or on a street: these episodes ran in the embedded world, a ray-caster with kinematic "
            "physics."
        )
    found.append(f"Other scenarios or weathers than {course[0]}, {course[1]}, unless a section below has them.")
    failed = sum(line.failed for line in table)
    if failed:
        found.append(f"{failed} episodes whose simulator failed; they are counted and stand in no mean.")
    return found


def _between(duel: Duel) -> Finding:
    ours, theirs, verdict = duel.ours.label, duel.theirs.label, duel.difference.verdict
    text = {
        "ahead": f"{ours} is ahead of {theirs} by {number(duel.difference.mean)} in reward.",
        "behind": f"{ours} is behind {theirs} by {number(-duel.difference.mean)} in reward.",
        "undecided": f"{ours} against {theirs} is undecided: the difference may as well be nothing.",
    }[verdict]
    return Finding(verdict, text, _numbers(duel))


def _to_reference(policy: str, pairs: Sequence[Duel]) -> Iterator[Finding]:
    """A sentence for the contenders of each verdict."""
    met = [duel for duel in pairs if duel.theirs.policy == policy]
    for verdict, phrase in zip(("ahead", "undecided", "behind"), REFERENCES[policy], strict=True):
        if own := [duel for duel in met if duel.difference.verdict == verdict]:
            numbers = "; ".join(f"{duel.ours.label} {_numbers(duel)}" for duel in own)
            subject = _listed([duel.ours.label for duel in own])
            yield Finding(verdict, phrase.format(subject, "is" if len(own) == 1 else "are"), numbers)


def _numbers(duel: Duel) -> str:
    """Difference, interval, seeds: "+5.2 (−9.1 … +20.3), better on 27 of 50 test seeds"."""
    difference = duel.difference
    return (
        f"{number(difference.mean, sign=True)} ({interval(difference, sign=True)}), better on {duel.wins} of "
        f"{duel.seeds} test seeds"
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
