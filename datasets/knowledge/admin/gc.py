"""`gc`: free the disk of records that neither a knowledge set nor a run needs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from semore.datasets.atomic_io import exclusive_lock
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.admin.needs import LOCK, CacheCommand, Roots, find_roots
from semore.datasets.knowledge.admin.repack import repack
from semore.datasets.knowledge.cache import KnowledgeCache
from semore.datasets.knowledge.level import Level
from semore.datasets.knowledge.records import LEVELS
from semore.datasets.progress import meter

WRITING_SECONDS: Final = 3600.0
"""A temporary file that has not changed for so long belongs to nobody any more, whatever the grace."""


@dataclass(frozen=True)
class Gc(CacheCommand):
    """Remove what no knowledge set and no run needs: records of producers that no set names, records that have lost to
    a better one under the same key, shards put aside as damaged, and files of killed writers. Kept are the winning
    records of every set's producers, and everything that a run or a set pins. Prints what it would free; --yes does
    it. Others may read and annotate meanwhile."""

    runs: list[str] = field(default_factory=lambda: ["runs"])
    """Folders of runs; whatever a knowledge_used.npy below them names is kept."""
    grace: float = 60.0
    """Minutes for which files are left alone after they were written."""
    yes: bool = False
    """Do it."""

    def execute(self) -> int:
        """Say what would be freed and, with `yes`, free it."""
        if self.grace < 0:
            raise SemoreError(f"grace is {self.grace}; it must be at least 0 minutes")
        cache, before = KnowledgeCache(self.root), time.time() - 60 * self.grace
        folders = [Path(folder) for folder in self.runs]
        missing = [folder for folder in self.runs if folder != "runs" and not Path(folder).is_dir()]
        if missing:
            raise SemoreError(f"{', '.join(missing)}: no such folder of runs; what its runs pin would not be kept")
        roots = find_roots(self.root, folders)
        if not self.yes:
            waste = find_waste(cache, roots, before)
        else:
            with exclusive_lock(self.root / LOCK, f"gc or compact of {self.root}"):
                waste = collect(cache, folders, before)
        self.show(_report(roots, waste, self.yes), _lines(roots, waste, self.yes))
        return 0


@dataclass(frozen=True)
class Waste:
    """Records and shards that no set and no run needs.

    `shards[level]` maps a shard to the rows that are kept of it; without any the shard is removed. `records[level]` is
    the number of records to free, and `size[level]` their bytes on disk, an estimate where a part of a shard stays."""

    shards: dict[str, dict[str, NDArray[np.int64]]]
    records: dict[str, int]
    size: dict[str, int]
    leftovers: tuple[Path, ...]
    """Damaged shards and temporary files."""


def find_waste(cache: KnowledgeCache, roots: Roots, before: float) -> Waste:
    """The waste among the files written before the time `before` (seconds)."""
    cache.refresh()
    waste = Waste({}, {}, {}, tuple(_leftovers(cache.root, before)))
    for level in cache.levels:
        waste.shards[level.name], waste.records[level.name], waste.size[level.name] = _unneeded(level, roots, before)
    return waste


def collect(cache: KnowledgeCache, runs: list[Path], before: float) -> Waste:
    """Remove the waste and return it; call under the lock. A set that is made at this very moment may find old records
    gone that it could have used; annotating makes them again."""
    waste = find_waste(cache, find_roots(cache.root, runs), before)
    for path in waste.leftovers:
        path.unlink(missing_ok=True)
    for level in cache.levels:  # whole shards first: the disk may be full, and what stays of others needs room
        shards = sorted(waste.shards[level.name].items(), key=lambda shard: len(shard[1]))
        with meter(f"gc {level.name}", len(shards), "shards") as progress:
            repack(level, shards, progress.advance)
    return waste


def _unneeded(level: Level, roots: Roots, before: float) -> tuple[dict[str, NDArray[np.int64]], int, int]:
    index, table = level.index, level.index.table()
    named = np.array([producer in roots.producers[level.name] for producer in index.producers], np.bool_)
    needed = (table.wins & named[table.shard]) | table.among(roots.pins)
    kept = table.take(needed & ~table.copies).rows_by_shard()
    counts = np.bincount(table.shard, minlength=len(index.shards)).tolist()
    shards, records, size = {}, 0, 0.0
    for number, shard in enumerate(index.shards):
        rows = kept.get(number, np.zeros(0, np.int64))
        unneeded = counts[number] - len(rows)
        if unneeded and (own := _size_before(level.folder / shard, before)) is not None:
            shards[shard] = rows
            records += unneeded
            size += own * unneeded / counts[number]
    return shards, records, int(size)


def _size_before(path: Path, before: float) -> int | None:
    """Bytes of a file written before a time; None when it is younger or gone."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size if found.st_mtime < before else None


def _leftovers(root: Path, before: float) -> Iterator[Path]:
    dead = min(before, time.time() - WRITING_SECONDS)
    for folder in (root, root / "sets", *(root / level for level in LEVELS)):
        yield from (path for path in sorted(folder.glob("*.damaged")) if _size_before(path, before) is not None)
        yield from (path for path in sorted(folder.glob(".tmp-*")) if _size_before(path, dead) is not None)


def _report(roots: Roots, waste: Waste, done: bool) -> dict[str, Any]:
    return {
        "removed": done,
        "sets": list(roots.sets),
        "runs": list(roots.runs),
        "levels": {
            level: {
                "records": waste.records[level],
                "shards_removed": sum(not len(rows) for rows in waste.shards[level].values()),
                "shards_rewritten": sum(len(rows) > 0 for rows in waste.shards[level].values()),
                "bytes": waste.size[level],
            }
            for level in LEVELS
        },
        "leftovers": [str(path) for path in waste.leftovers],
    }


def _lines(roots: Roots, waste: Waste, done: bool) -> Iterator[str]:
    yield f"kept for: {_named('set', roots.sets)}; {_named('run', roots.runs)}; {len(roots.pins):,} pinned records"
    verb = "freed" if done else "to free"
    report = _report(roots, waste, done)
    for level, each in report["levels"].items():
        yield (
            f"{level}: {verb} {each['records']:,} records, {each['bytes'] / 1e6:,.1f} MB "
            f"({each['shards_removed']:,} shards, parts of {each['shards_rewritten']:,})"
        )
    yield f"{len(waste.leftovers):,} files of killed writers or put aside as damaged"
    if not done and (any(waste.records.values()) or waste.leftovers):
        yield "nothing has been removed yet; --yes does it"


def _named(what: str, names: tuple[str, ...]) -> str:
    return f"{len(names)} {what}s" + (f" ({', '.join(names)})" if names else "")
