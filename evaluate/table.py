"""The one maker of tables: rows are sides of a comparison, columns say what is told of each and of how it compares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from rich.table import Table

from semore.evaluate.claims import in_words
from semore.evaluate.compared import Pair, Pooled, Side, compare, frame
from semore.evaluate.episodes import FAILED, SIMULATOR_FAILED, Row, by_policy
from semore.evaluate.statistics import Estimate


class Column(NamedTuple):
    """A header, and what stands below it of a side and of the leader minus it (None for the leader itself). Where
    nothing was driven it is empty, unless `always`."""

    header: str
    cell: Callable[[Any, Any], str]
    always: bool = False


def label(header: str = "") -> Column:
    """The side's name."""
    return Column(header, lambda side, _: str(side.label), True)


def of_side(header: str, told: Callable[[Any], str]) -> Column:
    """What is told of the side alone."""
    return Column(header, lambda side, _: told(side))


def of_pair(header: str, told: Callable[[Any], str]) -> Column:
    """What is told of the leader minus it; empty where there is nothing to compare."""
    return Column(header, lambda _, pair: told(pair) if pair and pair.seeds else "")


def pooled(header: str, metric: str, digits: int = 0) -> Column:
    """A metric's mean ± std over episodes."""
    return of_side(header, lambda side: spread(side.pooled(metric), digits))


def average(header: str, metric: str, digits: int = 0) -> Column:
    """A metric's mean over episodes."""
    return of_side(header, lambda side: f"{side.pooled(metric).mean:.{digits}f}")


def spread(found: Estimate | Pooled, digits: int = 0) -> str:
    """mean ± std, as the field prints it."""
    return f"{found.mean:.{digits}f} ± {found.std:.{digits}f}"


def interval(found: Estimate, form: str = ".0f") -> str:
    """low … high."""
    return f"{found.low:{form}} … {found.high:{form}}"


def around(found: Estimate, form: str = "+.0f") -> str:
    """mean (low … high)."""
    return f"{found.mean:{form}} ({interval(found, form)})"


def each_seed(side: Side) -> str:
    """Every training seed's mean reward."""
    return ", ".join(f"{seed}: {reward:.0f}" for seed, reward in side.each_seed)


REWARD: Final = (
    of_side("reward", lambda side: spread(side.reward)), of_side("95% interval", lambda side: interval(side.reward)),
)  # fmt: skip
"""The reward over training seeds and episodes."""


def against(
    lead: Side | None, sides: Iterable[Side], same_training_seeds: bool = False
) -> list[tuple[Side, Pair[Side] | None]]:
    """The rows of a table in which every side is compared with the leader, if there is one."""
    return [(side, None if lead in (None, side) else compare(lead, side, same_training_seeds)) for side in sides]


def cells(columns: Sequence[Column], rows: Iterable[tuple[Side, Pair[Side] | None]]) -> list[list[str]]:
    """The text of each row's columns."""
    return [
        [column.cell(side, pair) if column.always or len(side.driven) else "" for column in columns]
        for side, pair in rows
    ]


def shown(columns: Sequence[Column], rows: Iterable[tuple[Side, Pair[Side] | None]], title: str = "") -> Table:
    """For the terminal."""
    table = Table(*(column.header for column in columns), title=title)
    for row in cells(columns, rows):
        table.add_row(*row)
    return table


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """For a page: the first column to the left, the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _all_endings(side: Side) -> str:
    return ", ".join(f"{ending} {count}" for ending, count in Counter(side.episodes["ending"]).most_common())


RESULTS: Final = (
    label("policy"), pooled("reward", "reward", 1),
    of_side("95% interval", lambda side: interval(side.by_episode, ".1f")),
    of_side("IQM", lambda side: f"{side.iqm:.1f}"),
    pooled("distance m", "distance", 0), pooled("crash N·s", "crash_intensity", 0),
    average("steer", "steer", 3), average("brake", "brake", 3),
    Column("endings", lambda side, _: _all_endings(side), True),
)  # fmt: skip
DIFFERENCES: Final = (
    label("trained minus"), of_pair("reward", lambda pair: f"{pair.by_episode.mean:+.1f}"),
    of_pair("95% interval", lambda pair: interval(pair.by_episode, "+.1f")),
    of_pair("verdict", lambda pair: in_words(pair.by_episode, pair.lacks)),
    of_pair("P(more reward)", lambda pair: f"{pair.improvement.mean:.2f}"),
    of_pair("95% interval", lambda pair: interval(pair.improvement, ".2f")),
)  # fmt: skip


def results(rows: Sequence[Row], title: str) -> Table:
    """Mean ± std of every metric, the reward's 95% interval and interquartile mean, and how the episodes ended.
    Episodes whose simulator failed are counted in the last column and nowhere else."""
    return shown(RESULTS, against(None, _policies(rows).values()), title)


def differences(rows: Sequence[Row]) -> Table | None:
    """Reward of the trained policy minus each other one on the test seeds both have driven, and how often it has more;
    None when there is no other one. Verdicts are of this policy as it is, not of its method: one training run."""
    sides = _policies(rows)
    pairs = [row for row in against(sides["trained"], sides.values()) if row[1] and row[1].seeds]
    return shown(DIFFERENCES, pairs, "paired differences of this one policy") if pairs else None


def _policies(rows: Sequence[Row]) -> dict[str, Side]:
    return {policy: Side(policy, frame(own)) for policy, own in by_policy(rows).items()}


def failures(rows: Sequence[Row]) -> str:
    """A sentence about the episodes whose simulator failed; empty when there are none."""
    failed = [row for row in rows if row.ending in FAILED]
    again = sum(row.ending == SIMULATOR_FAILED for row in failed)
    if not failed:
        return ""
    return f"{len(failed)} episode(s) failed with their simulator and are in no mean; {again} are tried again next time"
