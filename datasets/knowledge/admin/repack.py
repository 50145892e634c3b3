"""Repacks records of some shards into fresh ones; `gc` and `compact` change the disk in no other way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semore.datasets.atomic_io import fsync_path
from semore.datasets.knowledge.level import COMMIT_RECORDS, Level, joined
from semore.datasets.knowledge.records import Identity
from semore.datasets.knowledge.shards import Batch, producer_json, read_batch, write_shard


@dataclass
class Repacked:
    """What became of the source shards."""

    removed: int = 0
    """Shards that are gone."""
    written: int = 0
    """Shards that took their place."""


@dataclass(frozen=True)
class _Source:
    shard: str
    identity: Identity
    batch: Batch


def repack(
    level: Level, sources: Iterable[tuple[str, NDArray[np.int64]]], advance: Callable[[int], None] = lambda _: None
) -> Repacked:
    """Keep only the given rows of the source shards, joined into shards of about COMMIT_RECORDS, and remove the rest.

    A new shard is durable and visible before the shards it replaces go, so that a crash at any moment leaves every
    record in place, at worst twice; readers that find a shard gone look again. A source that turns out damaged is put
    aside, not copied. Calls `advance` for each source.
    """
    done = Repacked()
    waiting: dict[tuple[str, tuple[int, ...]], list[_Source]] = {}
    for shard, rows in sources:
        advance(1)
        if not len(rows):
            _remove(level, [shard], "", done)
            continue
        kept = level.sound(shard, read_batch, rows)
        if kept is None:
            continue
        identity, batch = kept
        shape = () if batch.values is None else batch.values.shape[1:]
        queue = waiting.setdefault((producer_json(identity), shape), [])
        queue.append(_Source(shard, identity, batch))
        if sum(len(source.batch) for source in queue) >= COMMIT_RECORDS:
            _write(level, queue, done)
    for queue in waiting.values():
        _write(level, queue, done)
    level.refresh()
    level.save_index(always=True)
    return done


def _write(level: Level, queue: list[_Source], done: Repacked) -> None:
    if not queue:
        return
    batch = joined([source.batch for source in queue])
    path, _ = write_shard(level.folder, level.name, queue[0].identity, batch)
    done.written += 1
    _remove(level, [source.shard for source in queue], path.name, done)
    queue.clear()


def _remove(level: Level, shards: list[str], replacement: str, done: Repacked) -> None:
    for shard in shards:
        if shard == replacement:  # a shard is named by its content: this one came out as it was
            done.written -= 1
            continue
        (level.folder / shard).unlink(missing_ok=True)
        done.removed += 1
    fsync_path(level.folder)
