"""The findings of a report in plain words: what the runs show, and what they do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from semore.evaluate.claims import NONE, TEST_SEEDS, TRAINING_SEEDS
from semore.evaluate.report.figures import interval, number
from semore.evaluate.report.results import Duel, Line
from semore.evaluate.runs import Cell, Run

REFERENCES: Final = {
    "driver": (
        "{} {} ahead of the rule-based driver, which sees the simulator's state.",
        "{} {} not significantly different from the rule-based driver, which sees the simulator's state.",
        "{} {} behind the rule-based driver, which sees the simulator's state.",
    ),
    "blind_driver": (
        "{} {} ahead of a driver that keeps its lane and ignores everybody: the others on the road are heeded.",
        "{} {} not significantly different from a driver that keeps its lane and ignores everybody.",
        "{} {} behind a driver that keeps its lane and ignores everybody.",
    ),
    "full_throttle": (
        "{} {} ahead of full throttle, which needs no eyes.",
        "{} {} not significantly different from full throttle, which needs no eyes.",
        "{} {} behind full throttle, which needs no eyes.",
    ),
    "trained_grey": (
        "{} {} ahead of the same network shown grey pictures: it uses its eyes.",
        "{} {} not significantly different from the same network shown grey pictures: it may not use its eyes.",
        "{} {} behind the same network shown grey pictures.",
    ),
}
"""By baseline: the sentence for ahead, undecided, behind."""
AGAINST: Final = {
    "driver": "the rule-based driver, which sees the simulator's state",
    "blind_driver": "a driver that keeps its lane and ignores everybody",
    "full_throttle": "full throttle, which needs no eyes",
    "trained_grey": "the same network shown grey pictures",
}
"""By baseline: what it is, where there is no verdict."""


@dataclass(frozen=True)
class Finding:
    """A sentence, its verdict (ahead, behind, undecided or none), and the numbers it rests on."""

    verdict: str
    text: str
    numbers: str = ""


def headline(table: Sequence[Line], pairs: Sequence[Duel], course: Cell) -> str:
    """The shortest true title: who against whom, and how that ends when there are only two, or that nothing is
    decided by so little."""
    names = [line.label for line in table if line.number is not None]
    if len(names) == 1:
        return f"{names[0]} on {course[0]}"
    if len(names) > 3:
        return f"{len(names)} contenders on {course[0]}"
    told = f": {pairs[0].verdict}" if len(names) == 2 and pairs and pairs[0].theirs.number is not None else ""
    return f"{names[0]} against {_listed(names[1:])}{told}"


def findings(pairs: Sequence[Duel]) -> list[Finding]:
    """How the contenders compare, then where they stand to the driver and the sightless."""
    between = [_between(duel) for duel in pairs if duel.theirs.number is not None]
    return between + [found for policy in REFERENCES for found in _to_reference(policy, pairs)]


def doubts(table: Sequence[Line], pairs: Sequence[Duel], runs: Sequence[Run], course: Cell) -> list[str]:
    """Why the numbers say no more than they do."""
    trained = [line for line in table if line.number is not None]
    few = [line.label for line in trained if len({run.seed for run in line.runs}) < TRAINING_SEEDS]
    found = []
    unequal = [(duel, lack) for duel in pairs for lack in duel.lacks if lack.startswith("unequal")]
    found += [f"{duel.ours.label} against {duel.theirs.label} as methods: {lack}." for duel, lack in unequal]
    if few and len(trained) > 1:
        found.append(
            f"Nothing about methods as such: {_listed(few)} trained with fewer than {TRAINING_SEEDS} training seeds. "
            "Another seed of the same method may fall on the other side."
        )
    elif few:
        found.append(f"How much training luck matters: fewer than {TRAINING_SEEDS} training seeds were run.")
    if short := sorted({duel.seeds for duel in pairs if duel.seeds < TEST_SEEDS}):
        found.append(
            f"Some differences rest on {short[0]} test seeds only; a verdict needs {TEST_SEEDS} "
            "(evaluate with --episodes 50)."
        )
    if not any(line.policy in ("trained_grey", "full_throttle") for line in table):
        found.append("Whether the policies use their eyes: no blind row was driven (evaluate drives them by default).")
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
    ours, theirs = duel.ours.label, duel.theirs.label
    text = {
        "ahead": f"{ours} is ahead of {theirs} by {number(duel.difference.mean)} in reward.",
        "behind": f"{ours} is behind {theirs} by {number(-duel.difference.mean)} in reward.",
        "undecided": f"{ours} against {theirs} is undecided: the difference may as well be nothing.",
        NONE: f"{ours} minus {theirs} has no verdict: {', '.join(duel.lacks)}.",
    }[duel.verdict]
    return Finding(duel.verdict, text, _numbers(duel))


def _to_reference(policy: str, pairs: Sequence[Duel]) -> Iterator[Finding]:
    """A sentence for the contenders of each verdict."""
    phrases = dict(zip(("ahead", "undecided", "behind"), REFERENCES[policy], strict=True))
    for verdict in (*phrases, NONE):
        own = [duel for duel in pairs if duel.theirs.policy == policy and duel.verdict == verdict]
        if not own:
            continue
        numbers = "; ".join(f"{duel.ours.label} {_numbers(duel)}" for duel in own)
        subject = _listed([_subject(duel.ours) for duel in own])
        if verdict == NONE:
            lacks = ", ".join(dict.fromkeys(lack for duel in own for lack in duel.lacks))
            text = f"{subject} minus {AGAINST[policy]}: no verdict: {lacks}."
        else:
            text = phrases[verdict].format(subject, "is" if len(own) == 1 else "are")
        yield Finding(verdict, f"{text[0].upper()}{text[1:]}", numbers)


def _subject(line: Line) -> str:
    """Whom a sentence about a line is about: one run's policy, or a method."""
    return line.label if len(line.runs) > 1 else f"this policy of {line.label}"


def _numbers(duel: Duel) -> str:
    """Difference, interval, seeds: "+5.2 (−9.1 … +20.3), more reward on 27 of 50 test seeds"."""
    difference = duel.difference
    return (
        f"{number(difference.mean, sign=True)} ({interval(difference, sign=True)}), more reward on "
        f"{duel.more} of {duel.seeds} test seeds"
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
