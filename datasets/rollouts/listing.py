"""`list` and `show`: the rollouts there are, what they hold, and how far knowledge sets cover them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich import box
from rich.table import Table

from semore.datasets.command_line import OPTIONAL
from semore.datasets.hints import command
from semore.datasets.knowledge.admin.needs import CacheCommand
from semore.datasets.knowledge.questions import FrameKeys
from semore.datasets.rollouts.inventory import (
    Inventory,
    coverage,
    folder_bytes,
    folders,
    knowledge_sets,
    take_inventory,
)
from semore.datasets.rollouts.store import Episode, Rollouts


@dataclass(frozen=True)
class List(CacheCommand):
    """List the rollouts: episodes, steps, size, scenarios, who drove, rewards, endings, and how much of them every
    knowledge set covers."""

    def execute(self) -> int:
        """Print it."""
        sets = knowledge_sets(self.data)
        found = [take_inventory(folder, sets) for folder in folders(self.data)]
        self.show([asdict(each) for each in found], _list_lines(found, self.data))
        return 0


@dataclass(frozen=True)
class Show(CacheCommand):
    """Show one rollouts folder episode by episode, or one episode array by array."""

    rollouts: str
    """Name of the rollouts folder under <data>/rollouts, or a path ending in .zarr."""
    episode: str = field(default="", metadata=OPTIONAL)
    """Name of an episode; default all, a line each."""

    def execute(self) -> int:
        """Print it."""
        (folder,) = folders(self.data, [self.rollouts])
        if self.episode:
            self._one(Rollouts(folder).episode(self.episode))
            return 0
        sets = knowledge_sets(self.data)
        inventory = take_inventory(folder, sets)
        rows = []
        for name in [name for name in Rollouts(folder).names() if name not in inventory.unreadable]:
            episode = Rollouts(folder).episode(name)
            covered = {each.name: asdict(coverage(each, [FrameKeys.of([episode])])) for each in sets}
            rows.append(
                {"episode": name, "bytes": folder_bytes(episode.path), **episode.attributes, "coverage": covered}
            )
        self.show({**asdict(inventory), "rows": rows}, _show_lines(inventory, rows))
        return 0

    def _one(self, episode: Episode) -> None:
        arrays: list[dict[str, Any]] = [
            {"array": name, "shape": list(shape), "dtype": dtype} for name, (shape, dtype) in episode.layout().items()
        ]
        table = Table("array", "shape", "dtype", box=box.SIMPLE)
        for each in arrays:
            table.add_row(each["array"], " × ".join(map(str, each["shape"])), each["dtype"])
        about = [f"{key}: {value}" for key, value in episode.attributes.items()]
        report = {"episode": episode.name, "attributes": dict(episode.attributes), "arrays": arrays}
        self.show(report, [str(episode.path), *about, table])


def counts(values: Mapping[str, int]) -> str:
    """ "JayWalk 60, HighWay 10": the values of a count, the most frequent first."""
    return ", ".join(f"{name} {number:,}" for name, number in values.items())


def percent(share: float | None) -> str:
    """A fraction in [0, 1] as a percentage; a fraction below one is never rounded up to 100 %."""
    if share is None:
        return "none"
    return f"{min(share, 0.999) if share < 1 else share:.1%}"


def _list_lines(found: list[Inventory], data: str) -> Iterator[str | Table]:
    table = Table("rollouts", "episodes", "steps", "MB", "scenario", "driven by", "reward", "endings", box=box.SIMPLE)
    for each in found:
        reward = f"{each.reward[0]:.0f} ± {each.reward[1]:.0f}" if each.reward else ""
        table.add_row(
            each.name, f"{each.episodes:,}", f"{each.steps:,}", f"{each.bytes / 1e6:,.0f}", ", ".join(each.scenarios),
            counts(each.policies), reward, counts(each.endings),
        )  # fmt: skip
    yield table
    covered = Table("knowledge set", "rollouts", "decision frames", "with H_ka", "with verdict", box=box.SIMPLE)
    for each in found:
        for name, part in each.coverage.items():
            covered.add_row(name, each.name, f"{part.frames:,}", percent(part.masks), percent(part.verdicts))
    if covered.row_count:
        yield covered
    else:
        yield "no knowledge set yet: annotating makes one"
    for each in found:
        yield from _unreadable(each)
    yield f"next: {command('datasets show', {'data': data}, found[0].name)}"


def _unreadable(each: Inventory) -> Iterator[str]:
    if each.unreadable:
        number = len(each.unreadable)
        yield f"{each.name}: {number} more cannot be read; `{command('datasets validate', {}, each.path)}` tells why"


def _show_lines(inventory: Inventory, rows: list[dict[str, Any]]) -> Iterator[str | Table]:
    size = f"{inventory.bytes / 1e6:,.0f} MB"
    yield f"{inventory.path}: {inventory.episodes:,} episodes, {inventory.steps:,} steps, {size}"
    yield f"fingerprint {inventory.fingerprint}; recorded with {counts(inventory.recorders)}"
    sets = list(inventory.coverage)
    table = Table("episode", "split", "weather", "driven by", "steps", "reward", "ending", "MB", *sets, box=box.SIMPLE)
    for row in rows:
        table.add_row(
            row["episode"], *(str(row.get(key, "")) for key in ("split", "weather", "policy", "steps")),
            f"{row['total_reward']:.1f}" if "total_reward" in row else "", str(row.get("ending", "")),
            f"{row['bytes'] / 1e6:.1f}", *(percent(row["coverage"][name]["masks"]) for name in sets),
        )  # fmt: skip
    yield table
    yield from _unreadable(inventory)
    if inventory.episodes:
        yield f"next: {command('datasets show', {}, inventory.path, rows[0]['episode'])}"
