"""`merge` and `split`: put recorded episodes into other folders, as hard links where the disk allows it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from semore.datasets.atomic_io import digest16, fsync_path
from semore.datasets.command_line import MANY
from semore.datasets.errors import SemoreError
from semore.datasets.hints import command
from semore.datasets.knowledge.admin.needs import CacheCommand
from semore.datasets.names import rollouts_path
from semore.datasets.rollouts.inventory import folders
from semore.datasets.rollouts.store import Episode, Rollouts
from semore.datasets.rollouts.validate import ALIKE


@dataclass(frozen=True)
class Merge(CacheCommand):
    """Join rollouts folders into one. Episodes are hard-linked (they are never written again), so this costs next to
    no disk; the sources stay. Equal names are refused unless the episodes are identical, and then taken once. Repeat
    the command to go on after an interruption."""

    target: str
    """Name of the folder to fill under <data>/rollouts, or a path ending in .zarr; it may hold episodes already."""
    sources: tuple[str, ...] = field(default=(), metadata=MANY)
    """Names or paths of the folders to join."""
    copy: bool = False
    """Copy the files even where links would do."""

    def execute(self) -> int:
        """Do it."""
        if not self.sources:
            raise SemoreError(f"name the folders to join: `semore datasets merge {self.target} SOURCE [SOURCE …]`")
        target = rollouts_path(self.data, self.target)
        episodes = [each for folder in folders(self.data, self.sources) for each in Rollouts(folder).episodes()]
        added = gather(target, episodes, self.copy)
        lines = [f"{target}: {added} episodes added, {len(episodes) - added} were there", *_next(target, self.data)]
        self.show({"target": str(target), "added": added, "present": len(episodes) - added}, lines)
        return 0


@dataclass(frozen=True)
class Split(CacheCommand):
    """Sort the episodes of a rollouts folder into several, by an attribute or by a fraction. Hard links as for `merge`;
    the folder itself stays."""

    rollouts: str
    """Name of the rollouts folder under <data>/rollouts, or a path ending in .zarr."""
    by: str = "split"
    """scenario, weather, split, policy, ending or any other attribute: a folder NAME-VALUE each. `fraction`: two
    folders, NAME-first and NAME-rest."""
    fraction: float = 0.8
    """With --by fraction: the share of the episodes in NAME-first. Their names and --seed decide which."""
    seed: int = 0
    """With --by fraction: draw others."""
    copy: bool = False
    """Copy the files even where links would do."""

    def execute(self) -> int:
        """Do it."""
        (folder,) = folders(self.data, [self.rollouts])
        episodes = list(Rollouts(folder).episodes())
        parts = (
            fractions(episodes, self.fraction, self.seed) if self.by == "fraction" else by_attribute(episodes, self.by)
        )
        targets = {value: folder.with_name(f"{folder.stem}-{value}.zarr") for value in parts}
        report = {str(targets[value]): gather(targets[value], own, self.copy) for value, own in parts.items()}
        lines = [f"{targets[value]}: {len(own)} episodes" for value, own in parts.items()]
        first = next(iter(targets.values()), None)
        self.show(report, [*lines, *(_next(first, self.data) if first else ())])
        return 0


def by_attribute(episodes: Iterable[Episode], attribute: str) -> dict[str, list[Episode]]:
    """The episodes by their attribute's value; SemoreError when an episode has no such attribute."""
    parts: dict[str, list[Episode]] = {}
    for episode in episodes:
        if attribute not in episode.attributes:
            known = ", ".join(sorted(episode.attributes))
            raise SemoreError(f"{episode.path} has no attribute {attribute!r}; choose fraction or one of {known}")
        parts.setdefault(str(episode.attributes[attribute]).replace("/", "_"), []).append(episode)
    return parts


def fractions(episodes: list[Episode], fraction: float, seed: int) -> dict[str, list[Episode]]:
    """`first` with the rounded fraction of the episodes, and `rest`; drawn by a digest of seed and name."""
    if not 0 < fraction < 1:
        raise SemoreError(f"fraction {fraction} must lie between 0 and 1")
    drawn = sorted(episodes, key=lambda each: digest16(f"{seed}:{each.name}".encode()))
    bound = round(fraction * len(drawn))
    return {"first": drawn[:bound], "rest": drawn[bound:]}


def gather(target: Path, episodes: list[Episode], copy: bool = False) -> int:
    """Link (or copy) the episodes into the rollouts folder `target`; returns how many were not there yet.

    SemoreError, before anything is written, when two episodes of one name differ or cameras are mixed.
    """
    rollouts = Rollouts(target)
    with rollouts.lock():
        rollouts.create()
        rollouts.sweep()
        present = {episode.name: episode for episode in rollouts.episodes()}
        wanted = _compatible(present, episodes)
        for episode in wanted:
            temporary = target / f".tmp-{os.getpid()}-{episode.name}"
            shutil.copytree(episode.path, temporary, copy_function=shutil.copy2 if copy else link_or_copy)
            os.rename(temporary, target / episode.name)
        fsync_path(target)
    return len(wanted)


def _compatible(present: Mapping[str, Episode], episodes: Iterable[Episode]) -> list[Episode]:
    """Those of the episodes that are new."""
    known = dict(present)
    new = []
    for episode in episodes:
        for key in ALIKE:
            other = next(iter(known.values()), episode)
            if episode.attributes.get(key) != other.attributes.get(key):
                raise SemoreError(
                    f"{episode.path} has {key} {episode.attributes.get(key)}, {other.path} has "
                    f"{other.attributes.get(key)}; such episodes cannot share a folder: choose another target"
                )
        twin = known.get(episode.name)
        if twin is None:
            known[episode.name] = episode
            new.append(episode)
        elif twin.attributes["checksum"] != episode.attributes["checksum"]:
            raise SemoreError(
                f"{episode.path} and {twin.path} have the same name but differ; choose another target for one of them, "
                "or record with seeds of their own (--first_seed)"
            )
    return new


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """A hard link, or a copy where the file system knows none or the target lies on another one."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        shutil.copy2(source, target)


def _next(target: Path, data: str) -> Iterator[str]:
    """What can be done with the folder: training takes the recordings of one scenario, weather and world."""
    episodes = list(Rollouts(target).episodes())
    for key in ("scenario", "weather", "simulator"):
        if len({each.attributes.get(key) for each in episodes}) > 1:
            yield f"these are of more than one {key}, and training takes one: `split --by {key}` sorts them"
            yield f"next: {command('datasets split', {'data': data, 'by': key}, target)}"
            return
    if not episodes:
        return
    one = {key: episodes[0].attributes.get(key) for key in ("scenario", "weather", "simulator")}
    names = {"data": data, "rollouts": target, **one, "run": _free_run(target.stem)}
    annotate = command("annotate", {"data": data, "rollouts": target, "scenario": one["scenario"]})
    yield "what is cached of these frames serves here too"
    yield f"next: {annotate} && {command('train', names)}"


def _free_run(name: str) -> str:
    """A run of that name, or with a number behind where one of other data may be."""
    tries = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(each for each in tries if not (Path("runs") / each).exists())
