"""Does a scenario need eyes? The expert against blind policies on the same seeds.

Blind are: full throttle, the best of a grid of constant actions (picked in hindsight), random actions, and the driver
when it ignores all actors. One drive serves both rewards: they differ in the weight of the impulses only
(datasets/reward.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Final

from rich.console import Console

from semore.collect.embedded.world import EmbeddedSimulator
from semore.collect.env import DrivingEnv
from semore.collect.policies import Policy, make_policy
from semore.collect.scenarios import SCENARIOS
from semore.datasets.atomic_io import atomic_file
from semore.datasets.command_line import read_settings
from semore.datasets.errors import SemoreError
from semore.datasets.hints import command
from semore.datasets.reward import IMPULSE_WEIGHT
from semore.datasets.rollouts.schema import SEED_SPLITS
from semore.datasets.run_command import run_command
from semore.evaluate.claims import in_words
from semore.evaluate.compared import Side, frame
from semore.evaluate.episodes import TOGETHER, Row, evaluate_policies
from semore.evaluate.table import against, around, cells, label, of_pair, of_side, spread

CONSTANTS: Final = tuple(
    f"constant:{steer:g},{pedal:g}" for steer, pedal in product((-0.05, -0.02, 0.0, 0.02, 0.05), (0.3, 0.6, 1.0))
)
POLICIES: Final = ("driver", "blind_driver", "full_throttle", "random", *CONSTANTS)
SIZE: Final = 8
"""Side of the picture, which nobody here looks at."""


@dataclass(frozen=True)
class EyesSettings:
    """Which scenarios to drive, and where to keep what."""

    scenarios: tuple[str, ...] = tuple(SCENARIOS)
    """Scenarios to judge."""
    episodes: int = 100
    """Test seeds, the same for every policy."""
    runs: str = "runs"
    """The episodes' rows are kept under <runs>/eyes, by version of the world: a second call drives only what is
    missing."""
    table: str = ""
    """Also write the table to this Markdown file."""
    workers: int = 2
    """Worker processes."""


@dataclass(frozen=True)
class BlindCourse:
    """A Course nobody needs to see: the embedded world with a tiny camera."""

    scenario: str
    weather: str = ""
    together: int = TOGETHER
    policy_digest: str = ""  # the file's name holds the world's version

    def envs(self, count: int) -> list[DrivingEnv]:
        return [DrivingEnv(self.scenario, self.weather, size=SIZE, camera=SIZE) for _ in range(count)]

    def policy(self, name: str) -> Policy:
        return make_policy(name)


def rewards(rows: Sequence[Row], kind: str) -> list[float]:
    """The episodes' rewards under the reward `kind`, from rows driven under the published one."""
    extra = IMPULSE_WEIGHT[kind] - IMPULSE_WEIGHT["published"]
    return [row.reward - extra * row.crash_intensity for row in rows]


COLUMNS: Final = (
    label("policy"), of_side("episode reward", lambda side: spread(side.by_episode)),
    of_pair("driver − policy", lambda pair: around(pair.by_episode)),
    of_pair("the driver is", lambda pair: in_words(pair.by_episode, pair.lacks)),
    of_side("endings", lambda side: ", ".join(f"{ending} {count}" for ending, count in sorted(side.endings))),
)  # fmt: skip


def comparison(rows: Sequence[Row], kind: str) -> list[tuple[str, ...]]:
    """The cells of COLUMNS, of one scenario under one reward."""
    every = frame(rows).assign(reward=rewards(rows, kind))
    sides = {policy: Side(policy, own) for policy, own in every.groupby("policy", sort=False)}
    best = max((side for name, side in sides.items() if name in CONSTANTS), key=lambda side: side.by_episode.mean)
    best = replace(best, label=f"{best.label} (best of {len(CONSTANTS)})")
    shown = [sides["driver"], sides["blind_driver"], sides["full_throttle"], best, sides["random"]]
    return list(map(tuple, cells(COLUMNS, against(sides["driver"], shown))))


def main() -> None:
    settings = read_settings(EyesSettings, "python -m study.eyes")
    test = SEED_SPLITS["test"]
    if not 2 <= settings.episodes <= len(test) or settings.workers < 1:
        raise SemoreError(
            f"episodes {settings.episodes} must be 2 to {len(test)}, workers {settings.workers} at least 1"
        )
    version = EmbeddedSimulator.version
    lines = [
        "# A bench that needs eyes",
        "",
        "A scenario shows something about seeing only where nobody gets far without it. The rule-based driver sees the",
        "simulator's state. Against it stand, on the same test seeds: the same driver when it ignores all actors",
        f"(`blind_driver`), full throttle, the best of {len(CONSTANTS)} constant actions (steering and pedal, picked",
        "in hindsight for each row), and random actions. `published` and `safety` are the two rewards. Verdicts go by",
        "where the 95 % bootstrap interval of the paired difference lies.",
        "",
        f"Embedded world, version {version}, {settings.episodes} test seeds. Written by `python -m study.eyes`.",
        "",
        f"| scenario | reward | {' | '.join(column.header for column in COLUMNS)} |",
        "|---|---|---|---|---|---|---|",
    ]
    for scenario in settings.scenarios:
        seeds = range(test.start, test.start + settings.episodes)
        path = Path(settings.runs) / "eyes" / f"embedded-{version}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = evaluate_policies(BlindCourse(scenario), POLICIES, seeds, path, settings.workers)
        for kind in IMPULSE_WEIGHT:
            lines += [f"| {scenario} | {kind} | {' | '.join(cells)} |" for cells in comparison(rows, kind)]
    Console(soft_wrap=True).print("\n".join(lines), highlight=False, markup=False)
    if settings.table:
        with atomic_file(Path(settings.table)) as temporary:
            Path(temporary).write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"written to {settings.table}")
    print(f"next: {command(('collect', 'annotate', 'train'))}")


if __name__ == "__main__":
    run_command(main)
