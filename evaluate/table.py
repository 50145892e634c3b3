"""The tables of an evaluation: every policy on the same test seeds, and differences to the trained one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from rich.table import Table

from semore.evaluate.claims import in_words, lacking
from semore.evaluate.episodes import FAILED, SIMULATOR_FAILED, Row, by_policy, driven
from semore.evaluate.statistics import estimate, iqm, paired_difference, probability_of_improvement

EACH_EPISODE: Final = ("reward", "distance", "crash_intensity")
"""Metrics whose mean is over episodes; that of the others is over the simulator steps of all episodes (method.md
§2.6)."""


class Pooled(NamedTuple):
    """Mean and population standard deviation over episodes."""

    mean: float
    std: float

    def text(self, digits: int) -> str:
        """As the field prints it."""
        return f"{self.mean:.{digits}f} ± {self.std:.{digits}f}"


def pooled(rows: Sequence[Row], metric: str) -> Pooled:
    """Of a metric of driven episodes: those of EACH_EPISODE count alike, the controls by their episodes' steps."""
    values = np.array([getattr(row, metric) for row in rows], np.float64)
    weights = None if metric in EACH_EPISODE else np.array([max(row.steps, 1) for row in rows], np.float64)
    mean = np.average(values, weights=weights)
    return Pooled(float(mean), float(np.sqrt(np.average((values - mean) ** 2, weights=weights))))


def paired(ours: Sequence[Row], theirs: Sequence[Row]) -> tuple[list[float], list[float]]:
    """Rewards on the test seeds that both have driven, in the same order."""
    one, other = ({row.seed: row.reward for row in driven(rows)} for rows in (ours, theirs))
    seeds = sorted(one.keys() & other.keys())
    return [one[seed] for seed in seeds], [other[seed] for seed in seeds]


def results(rows: Sequence[Row], title: str) -> Table:
    """Mean ± std of every metric, the reward's 95% interval and interquartile mean, and how the episodes ended.
    Episodes whose simulator failed are counted in the last column and nowhere else."""
    columns = ("policy", "reward", "95% interval", "IQM", "distance m", "crash N·s", "steer", "brake", "endings")
    table = Table(*columns, title=title)
    for policy, own in by_policy(rows).items():
        counted = driven(own)
        endings = Counter(row.ending for row in own)
        told = ", ".join(f"{ending} {count}" for ending, count in endings.most_common())
        if not counted:
            table.add_row(policy, *[""] * (len(columns) - 2), told)
            continue
        rewards = [row.reward for row in counted]
        reward = estimate(rewards)
        table.add_row(
            policy,
            pooled(counted, "reward").text(1),
            f"{reward.low:.1f} … {reward.high:.1f}",
            f"{iqm(rewards):.1f}",
            pooled(counted, "distance").text(0),
            pooled(counted, "crash_intensity").text(0),
            f"{pooled(counted, 'steer').mean:.3f}",
            f"{pooled(counted, 'brake').mean:.3f}",
            told,
        )
    return table


def differences(rows: Sequence[Row]) -> Table | None:
    """Reward of the trained policy minus each other one on the test seeds both have driven, and how often it has more;
    None when there is no other one. Verdicts are of this policy as it is, not of its method: one training run."""
    groups = by_policy(rows)
    table = Table(
        "trained minus",
        "reward",
        "95% interval",
        "verdict",
        "P(more reward)",
        "95% interval",
        title="paired differences of this one policy",
    )
    for policy, own in groups.items():
        pairs = paired(groups["trained"], own)
        if policy == "trained" or not pairs[0]:
            continue
        difference, chance = paired_difference(*pairs), probability_of_improvement(*pairs)
        table.add_row(
            policy,
            f"{difference.mean:+.1f}",
            f"{difference.low:+.1f} … {difference.high:+.1f}",
            in_words(difference, lacking(len(pairs[0]))),
            f"{chance.mean:.2f}",
            f"{chance.low:.2f} … {chance.high:.2f}",
        )
    return table if table.row_count else None


def failures(rows: Sequence[Row]) -> str:
    """A sentence about the episodes whose simulator failed; empty when there are none."""
    failed = [row for row in rows if row.ending in FAILED]
    again = sum(row.ending == SIMULATOR_FAILED for row in failed)
    if not failed:
        return ""
    return f"{len(failed)} episode(s) failed with their simulator and are in no mean; {again} are tried again next time"
