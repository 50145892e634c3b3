"""`card`: a README.md for the data folder that says what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from semore.datasets.atomic_io import write_text
from semore.datasets.command_line import MANY
from semore.datasets.hints import command
from semore.datasets.knowledge.admin.needs import CacheCommand
from semore.datasets.provenance import code_version
from semore.datasets.rollouts.inventory import Inventory, folders, knowledge_sets, take_inventory
from semore.datasets.rollouts.listing import counts, percent
from semore.datasets.rollouts.schema import DT, SCHEMA_VERSION

CARD: Final = "README.md"
SIZES: Final = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""The hub's names for numbers of rows."""
MARK: Final = "Written by `semore datasets card`."


@dataclass(frozen=True)
class Card(CacheCommand):
    """Write the dataset card <data>/README.md: what was recorded, how, under which license, and its fingerprints. The
    hub shows it as the data set's front page."""

    rollouts: tuple[str, ...] = field(default=(), metadata=MANY)
    """Names of the rollouts folders to describe; default all."""
    license: str = "apache-2.0"
    """License of the data, as the hub names it."""
    title: str = "Semore driving rollouts"
    """Headline."""

    def execute(self) -> int:
        """Write it."""
        sets = knowledge_sets(self.data)
        found = [take_inventory(folder, sets) for folder in folders(self.data, self.rollouts)]
        path = Path(self.data) / CARD
        write_text(path, card(found, self.title, self.license))
        self.show(
            {"written": str(path)},
            [
                f"{path} written",
                f"to share it: {command('datasets push', {'data': self.data}, *self.rollouts)} OWNER/NAME",
            ],
        )
        return 0


def card(found: Sequence[Inventory], title: str, license_name: str) -> str:
    """The card as Markdown, with the front matter the hub reads."""
    frames = sum(each.steps + each.episodes for each in found)
    size = next((name for bound, name in SIZES if frames < bound), "n>1M")
    lines = [
        "---",
        f"license: {license_name}",
        "task_categories: [reinforcement-learning, image-segmentation]",
        "tags: [autonomous-driving, offline-rl, semore]",
        f"size_categories: [{size}]",
        "---",
        "",
        f"# {title}",
        "",
        f"License: {license_name}. {sum(each.episodes for each in found):,} episodes, {frames:,} frames. {MARK}",
        "",
        "| rollouts | episodes | steps | minutes | MB | reward | endings |",
        "|---|---|---|---|---|---|---|",
        *(_row(each) for each in found),
        "",
        "Rewards are the episodes' totals, mean ± standard deviation (least … most).",
        "",
        "## How it was recorded",
        "",
    ]
    for each in found:
        lines += [
            f"**{each.name}**: scenario {counts(each.scenarios)}; weather {counts(each.weathers)}; driven by "
            f"{counts(each.policies)}; split {counts(each.splits)}; simulator {counts(each.simulators)}; code "
            f"{counts(each.recorders)}; camera {', '.join(each.cameras)} pixels. Fingerprint `{each.fingerprint}`.",
            "",
        ]
    covered = [(each, name, part) for each in found for name, part in each.coverage.items()]
    lines += ["## Knowledge", ""]
    if covered:
        lines += ["| set | rollouts | decision frames | with H_ka | with verdict |", "|---|---|---|---|---|"]
        lines += [
            f"| {name} | {each.name} | {part.frames:,} | {percent(part.masks)} | {percent(part.verdicts)} |"
            for each, name, part in covered
        ]
    else:
        lines += ["None yet: no knowledge set covers these rollouts."]
    return "\n".join([*lines, "", *_layout(), ""])


def _row(each: Inventory) -> str:
    reward = "{:.0f} ± {:.0f} ({:.0f} … {:.0f})".format(*each.reward) if each.reward else ""
    return (
        f"| {each.name} | {each.episodes:,} | {each.steps:,} | {each.steps * DT / 60:.0f} | {each.bytes / 1e6:,.0f} | "
        f"{reward} | {counts(each.endings)} |"
    )


def _layout() -> list[str]:
    return [
        "## Layout",
        "",
        f"Schema {SCHEMA_VERSION}: `rollouts/<name>.zarr` is a Zarr v3 group with a group per episode of T simulator",
        f"steps of {DT} s:",
        "",
        "| array | shape | dtype |",
        "|---|---|---|",
        "| rgb | T+1, H, W, 3 | uint8 |",
        "| semantic, instance | T+1, H, W | uint8, uint16 |",
        "| actors, ego | T+1, A, 14 and T+1, 17 | float32, the simulator's state |",
        "| digest, state_digest | T+1, 16 | uint8, BLAKE2b-128 of the picture, of the state |",
        "| action | T, 2 | float32 in [−1, 1]: steer, and throttle (+) or brake (−) |",
        "| reward, speed, progress, impulse | T | float32 |",
        "| terminated, truncated | T | bool |",
        "",
        "`knowledge/` holds phrases, masks and verdicts by frame digest. `semore datasets validate` checks every",
        f"byte. Written with Semore {code_version()}.",
    ]
