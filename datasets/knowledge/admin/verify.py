"""`verify`: check every digest of the cache, or whether the records that a run rests on are still there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np

from semore.datasets.cores import cores
from semore.datasets.knowledge.admin.needs import PINS, CacheCommand, set_producers
from semore.datasets.knowledge.cache import KnowledgeCache, read_pins
from semore.datasets.knowledge.index import Index, Segment
from semore.datasets.knowledge.level import INDEX_NAME, Level, quarantine, shard_names
from semore.datasets.knowledge.records import LEVELS, Digests, LevelName
from semore.datasets.knowledge.shards import (
    DamagedShard,
    MissingShard,
    read_keys,
    read_records,
    verify_shard,
)
from semore.datasets.progress import meter

SHARDS_PER_PROCESS: Final = 64
"""Starting a process takes as long as reading about so many shards."""


@dataclass(frozen=True)
class Verify(CacheCommand):
    """Read every shard of the knowledge cache and compare its checksum and the digest of every record. Damaged ones
    are put aside as .damaged, so that annotating makes their records again, and only those; the exit code is then
    1. With --run: is every record that a run rests on still there, and does it still serve its frame?"""

    run: str = ""
    """A run's folder, e.g. runs/JayWalk-laptop: check what its knowledge_used.npy names instead."""
    workers: int = 0
    """Processes that read; default one per processor when there is enough to read."""

    def execute(self) -> int:
        """Check and report; 1 when something is damaged or missing."""
        if self.run:
            return self._verify_run(Path(self.run))
        shards = sum(len(shard_names(self.root / level)) for level in LEVELS)
        worthwhile = min(cores(), 1 + shards // SHARDS_PER_PROCESS)
        damages = verify_cache(self.root, self.workers or worthwhile)
        self.show([asdict(damage) for damage in damages], _lines(self.root, damages))
        return int(bool(damages))

    def _verify_run(self, folder: Path) -> int:
        status = verify_pins(KnowledgeCache(self.root), read_pins(folder / PINS))
        lines = [f"{folder} rests on {status.pinned:,} records: {status.serving:,} are there and serve their frames"]
        if status.overtaken:
            lines.append(f"{status.overtaken:,} are there, but better or other answers have taken their place since")
        if status.missing:
            lines.append(f"{status.missing:,} are gone: what the run was trained on cannot be had again in full")
        self.show(asdict(status), lines)
        return int(status.missing > 0)


@dataclass(frozen=True)
class Damage:
    """A damaged shard. `records` have to be made again (None when that cannot be told) and belong to `frames` frames;
    `sets` are the knowledge sets whose producer wrote it."""

    level: LevelName
    shard: str
    problem: str
    records: int | None
    frames: int | None
    sets: tuple[str, ...]


@dataclass(frozen=True)
class PinStatus:
    """Of `pinned` records: how many are there and win their key, how many are there and lose it, and how many are
    gone."""

    pinned: int
    serving: int
    overtaken: int
    missing: int


def verify_cache(root: Path, workers: int = 1) -> list[Damage]:
    """Check every shard with `workers` processes and put the damaged ones aside."""
    found: list[tuple[LevelName, str, str]] = []
    paths = [(level, root / level / shard) for level in LEVELS for shard in sorted(shard_names(root / level))]
    known = {level: Index.load(root / level / INDEX_NAME) for level in LEVELS}  # before any level forgets the damaged
    with meter("verify", len(paths), "shards") as progress, _mapping(workers) as mapped:
        for (level, path), problem in zip(paths, mapped(problem_of, [path for _, path in paths]), strict=True):
            progress.advance()
            if problem and quarantine(path, DamagedShard(problem)):
                found.append((level, path.name, problem))
    if not found:
        return []
    levels = {level.name: level for level in KnowledgeCache(root).levels}
    return [_damage(root, levels[level], known[level], shard, problem) for level, shard, problem in found]


def problem_of(path: Path) -> str:
    """What is wrong with a shard; "" when it is sound or has been replaced meanwhile."""
    try:
        verify_shard(path)
    except MissingShard:
        return ""
    except DamagedShard as error:
        return str(error)
    return ""


def verify_pins(cache: KnowledgeCache, pins: Digests) -> PinStatus:
    """Look for the records (M, 16) in the cache; whole digests are compared."""
    wanted, there, serving = {pin.tobytes() for pin in pins}, set[bytes](), set[bytes]()
    for level in cache.levels:
        table = level.index.table()
        among = table.among(pins)
        there |= _digests(level, table.take(among))
        serving |= _digests(level, table.take(among & table.wins))
    serving, there = serving & wanted, there & wanted
    return PinStatus(len(wanted), len(serving), len(there - serving), len(wanted - there))


def _digests(level: Level, records: Segment) -> set[bytes]:
    found: set[bytes] = set()
    for number, rows in records.rows_by_shard().items():
        shard = level.index.shards[number]
        digests = level.sound(shard, read_records, rows)
        found.update(record.tobytes() for record in (() if digests is None else digests))
    return found


def _damage(root: Path, level: Level, known: Index, shard: str, problem: str) -> Damage:
    """What the loss of a shard means, as far as the file itself and the saved index still tell."""
    records = frames = None
    producer = ""
    try:
        keys, owners, producer = read_keys(level.folder / f"{shard}.damaged")
        lost = ~level.lookup(keys).found
        records, frames = int(lost.sum()), len(np.unique(owners[lost], axis=0))
    except DamagedShard:
        if shard in known:
            table, number = known.table(), known.shards.index(shard)
            records = int((~level.lookup(table.take(table.shard == number).keys).found).sum())
            producer = known.producers[number]
    users = [name for name, own in set_producers(root, level.name).items() if own == producer]
    return Damage(level.name, shard, problem, records, frames, tuple(users))


@contextmanager
def _mapping(workers: int) -> Iterator[Callable[..., Iterable[str]]]:
    """`map`, over processes when there are several: HDF5 lets only one thread of a process read at a time."""
    if workers <= 1:
        yield map
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        yield pool.map


def _lines(root: Path, damages: list[Damage]) -> Iterator[str]:
    if not damages:
        yield f"{root}: every shard is sound"
    for damage in damages:
        yield f"{damage.problem}; put aside as {damage.shard}.damaged"
    for level in LEVELS:
        own = [damage for damage in damages if damage.level == level]
        if not own:
            continue
        records = sum(damage.records or 0 for damage in own)
        frames = sum(damage.frames or 0 for damage in own)
        more = " or more" if any(damage.records is None or damage.frames is None for damage in own) else ""
        yield f"{level}: {records:,} records of {frames:,} frames{more} are to be made again"
    sets = sorted({name for damage in damages for name in damage.sets})
    if damages:
        asked = " or ".join(f"--knowledge {name}" for name in sets) if sets else "the --knowledge they belong to"
        yield f"to make them again: annotate with --data {root.parent}, the same --rollouts as before and {asked}"
