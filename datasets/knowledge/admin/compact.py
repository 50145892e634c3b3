"""`compact`: join small shards, so that a cache written by many short passes opens and reads fast."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

import numpy as np

from semore.datasets.atomic_io import exclusive_lock
from semore.datasets.knowledge.admin.needs import LOCK, CacheCommand
from semore.datasets.knowledge.admin.repack import Repacked, repack
from semore.datasets.knowledge.cache import KnowledgeCache
from semore.datasets.knowledge.level import Level
from semore.datasets.progress import meter

SMALL: Final = 512
"""Shards with fewer records are joined (design.md §3)."""


@dataclass(frozen=True)
class Compact(CacheCommand):
    """Join small shards of the knowledge cache. Others may read and annotate meanwhile; killed at any moment, nothing
    is lost."""

    def execute(self) -> int:
        """Do it and say what became of the shards."""
        cache = KnowledgeCache(self.root)
        with exclusive_lock(self.root / LOCK, f"gc or compact of {self.root}"):
            done = {level.name: compact_level(level) for level in cache.levels}
        self.show(
            {name: asdict(repacked) for name, repacked in done.items()},
            [f"{name}: {each.removed:,} shards joined into {each.written:,}" for name, each in done.items()],
        )
        return 0


def compact_level(level: Level) -> Repacked:
    """Join the shards of fewer than SMALL records, per producer and mask size, in the order they were written. Call
    under the lock. Of equal records one is kept; records that lost stay, for runs that pin them."""
    level.refresh()
    index, table = level.index, level.index.table()
    sizes = np.bincount(table.shard, minlength=len(index.shards))
    small = sizes < SMALL
    # Of equal records, those of big shards come first: what a killed `compact` left behind is not joined once more.
    table = table.take(np.lexsort((small[table.shard], table.rank, table.low, table.high)))
    kept = table.take(~table.copies & small[table.shard]).rows_by_shard()
    groups: dict[str, list[int]] = {}
    for number in sorted(np.flatnonzero(small).tolist(), key=lambda number: _written(level, index.shards[number])):
        groups.setdefault(index.producers[number], []).append(number)
    chosen = [
        (index.shards[number], kept.get(number, np.zeros(0, np.int64)))
        for group in groups.values()
        for number in group
        if len(group) > 1 or len(kept.get(number, ())) < sizes[number]  # nothing to gain from one alone
    ]
    with meter(f"compact {level.name}", len(chosen), "shards") as progress:
        return repack(level, chosen, progress.advance)


def _written(level: Level, shard: str) -> tuple[float, str]:
    try:
        return (level.folder / shard).stat().st_mtime, shard
    except FileNotFoundError:  # put aside by another process: `repack` will find out
        return 0.0, shard
