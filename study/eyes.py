"""Does a scenario need eyes? The expert against blind policies on the same seeds.

Blind are: full throttle, the best of a grid of constant actions (picked in hindsight), random actions, and the driver
when it ignores all actors. One drive serves both rewards: they differ in the weight of the impulses only
(datasets/reward.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
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
from semore.evaluate.claims import in_words, lacking
from semore.evaluate.episodes import TOGETHER, Row, by_policy, evaluate_policies
from semore.evaluate.statistics import estimate, paired_difference

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


def comparison(rows: Sequence[Row], kind: str) -> list[tuple[str, str, str, str, str]]:
    """Of one scenario under one reward: (policy, reward, driver − policy with 95% interval, verdict, endings)."""
    groups = by_policy(rows)
    means = {name: estimate(rewards(own, kind)).mean for name, own in groups.items()}
    best = max((name for name in groups if name in CONSTANTS), key=means.__getitem__)
    driver = rewards(groups["driver"], kind)
    table = []
    for name in ("driver", "blind_driver", "full_throttle", best, "random"):
        own = rewards(groups[name], kind)
        about = estimate(own)
        difference, told = "", ""
        if name != "driver":
            paired = paired_difference(driver, own)
            difference = f"{paired.mean:+.0f} ({paired.low:+.0f} … {paired.high:+.0f})"
            told = in_words(paired, lacking(len(own)))
        endings = sorted(Counter(row.ending for row in groups[name]).items())
        counts = ", ".join(f"{ending} {count}" for ending, count in endings)
        label = f"{name} (best of {len(CONSTANTS)})" if name == best else name
        table.append((label, f"{about.mean:.0f} ± {about.std:.0f}", difference, told, counts))
    return table


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
        "| scenario | reward | policy | episode reward | driver − policy | the driver is | endings |",
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
