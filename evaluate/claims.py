"""When a comparison may be put into a verdict word: one rule for every table, page and report (docs/evaluate.md).

The words are ahead, behind and undecided. A few episodes, one training seed or runs that were not given the same make
intervals that look decided and are not, so below the rule there is the interval, and what a verdict lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from semore.evaluate.statistics import Estimate

TRAINING_SEEDS: Final = 5
"""Training seeds of each method, and"""
TEST_SEEDS: Final = 50
"""paired test seeds that a verdict needs (design.md §7.4)."""
DATA: Final = (
    "reward", "schedule.refresh_every", "schedule.refresh_episodes", "schedule.refresh_decisions",
    "schedule.refresh_frames",
)  # fmt: skip
"""Settings that say, beside the recordings, what a run learns from and is measured by."""
SIZE: Final = (
    "agent.encoder.size", "agent.encoder.channels", "agent.encoder.latent", "agent.hidden", "agent.model_hidden",
)  # fmt: skip
"""Settings that say how large a run's pictures and network are."""
NONE: Final = "no verdict"


class Trained(NamedTuple):
    """A training run, as far as another one must be its equal: fingerprint of recordings and DATA, updates, SIZE."""

    seed: int
    data: str
    updates: int
    size: str


def trained(seed: int, updates: int, rollouts: str, settings: Mapping[str, Any]) -> Trained:
    """Of a run; `settings` by dotted name, of which those of DATA and SIZE count."""
    data, size = (", ".join(f"{name} {settings[name]}" for name in names if name in settings) for names in (DATA, SIZE))
    return Trained(seed, f"{rollouts}, {data}", updates, size)


def lacking(test_seeds: int, ours: Sequence[Trained] = (), theirs: Sequence[Trained] = ()) -> tuple[str, ...]:
    """What a verdict over so many paired test seeds lacks, in words; nothing: it may be said.

    `ours` and `theirs` are the training runs whose method is judged. A side without runs is one policy as it is: the
    world's driver, or a single trained network of which nothing is said but how it drives.
    """
    seeds = min((len({run.seed for run in side}) for side in (ours, theirs) if side), default=TRAINING_SEEDS)
    every = [*ours, *theirs]
    updates = sorted({run.updates for run in every})
    lacks = {
        f"{test_seeds} of {TEST_SEEDS} test seeds": test_seeds < TEST_SEEDS,
        f"{seeds} of {TRAINING_SEEDS} training seeds": seeds < TRAINING_SEEDS,
        "unequal data": len({run.data for run in every}) > 1,
        f"unequal updates ({', '.join(f'{count:,}' for count in updates)})": len(updates) > 1,
        "unequal size": len({run.size for run in every}) > 1,
    }
    return tuple(words for words, lack in lacks.items() if lack)


def verdict(difference: Estimate, lacks: Sequence[str]) -> str:
    """Of a difference: ahead, behind or undecided, by which side of 0 its interval lies on; NONE while it lacks
    anything."""
    if lacks:
        return NONE
    return "ahead" if difference.low > 0 else "behind" if difference.high < 0 else "undecided"


def in_words(difference: Estimate, lacks: Sequence[str]) -> str:
    """The verdict, or that there is none and what it lacks."""
    found = verdict(difference, lacks)
    return f"{found}: {', '.join(lacks)}" if lacks else found
