"""`stats` and `sets`: what the knowledge cache holds, which producers made it and which runs use it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from semore.datasets.atomic_io import read_json
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.admin.needs import CacheCommand, producer_of, set_producers, summary
from semore.datasets.knowledge.cache import KnowledgeCache, read_manifest, set_names
from semore.datasets.knowledge.index import Index, Segment
from semore.datasets.knowledge.level import INDEX_NAME, Level, shard_sizes
from semore.datasets.knowledge.records import LEVELS, LevelName, Status
from semore.datasets.knowledge.shards import CHUNK_MASKS, producer_json, read_masks

SAMPLED_SHARDS: Final = 32
"""Shards of which one chunk of masks is read for the mean coverage."""


@dataclass(frozen=True)
class Stats(CacheCommand):
    """Show what the knowledge cache holds: records, shards and bytes per level and producer, and which sets use
    them."""

    phrases: int = 10
    """How many of the most frequent phrases to show per describer; 0 reads no text."""

    def execute(self) -> int:
        """Print it."""
        cache = KnowledgeCache(self.root)
        found = [each for level in cache.levels for each in level_stats(level, self.phrases)]
        indices = [_index_state(level) for level in cache.levels]
        self.show({"producers": [asdict(each) for each in found], "index": indices}, _stats_lines(found, indices))
        return 0


@dataclass(frozen=True)
class Sets(CacheCommand):
    """List the knowledge sets by name: their producers, how many records those have, and which runs use them."""

    runs: str = "runs"
    """Folder of runs."""

    def execute(self) -> int:
        """Print it."""
        cache = KnowledgeCache(self.root)
        users = runs_by_set(Path(self.runs))
        found = [
            {
                "name": name,
                "merge": manifest.merge,
                **{level: summary(producer_of(manifest, level)) for level in LEVELS},
                "records": {level.name: _served(level, producer_of(manifest, level.name)) for level in cache.levels},
                "runs": users.get(name, []),
            }
            for name in set_names(self.root)
            for manifest in [read_manifest(self.root, name)]
        ]
        self.show(found, _set_lines(found))
        return 0


@dataclass(frozen=True)
class ProducerStats:
    """One producer in one level. `keys`: questions answered; `ok`, `empty`, `failed`: how their winners ended; `lost`:
    records beaten by another; `coverage`: mean of a sample of its masks in [0, 1]; `phrases`: the most frequent."""

    level: LevelName
    producer: str
    identity: dict[str, Any]
    keys: int
    ok: int
    empty: int
    failed: int
    lost: int
    shards: int
    bytes: int
    coverage: float | None
    phrases: dict[str, int]
    sets: list[str]


def level_stats(level: Level, phrases: int = 10) -> Iterator[ProducerStats]:
    """Figures per producer of a level, the largest first."""
    index, table, sizes = level.index, level.index.table(), shard_sizes(level.folder)
    users = set_producers(level.folder.parent, level.name)
    for producer, _ in Counter(index.producers).most_common():
        numbers = [number for number, name in enumerate(index.producers) if name == producer]
        own = table.take(np.isin(table.shard, numbers))
        won = own.take(own.wins)
        statuses = np.bincount(won.status, minlength=3).tolist()
        identity = json.loads(producer)
        yield ProducerStats(
            level.name,
            summary(identity),
            identity,
            len(won),
            statuses[Status.OK],
            statuses[Status.EMPTY],
            statuses[Status.FAILED],
            len(own) - len(won),
            len(numbers),
            sum(sizes.get(index.shards[number], 0) for number in numbers),
            _coverage(level, won) if level.name == "masks" else None,
            _top_phrases(level, won, phrases) if level.name == "texts" and phrases else {},
            [name for name, each in users.items() if each == producer],
        )


def runs_by_set(runs: Path) -> dict[str, list[str]]:
    """Knowledge set name → the runs below a folder whose settings.json refers to it."""
    found: dict[str, list[str]] = {}
    for path in sorted(runs.rglob("settings.json")):
        try:
            name = read_json(path)["settings"]["knowledge"]
        except (SemoreError, KeyError, TypeError):  # not a training run's
            continue
        found.setdefault(str(name), []).append(str(path.parent))
    return found


def _served(level: Level, identity: Any) -> int:
    if identity is None:
        return 0
    producer, table = producer_json(identity), level.index.table()
    own = np.array([each == producer for each in level.index.producers], np.bool_)
    return int((table.wins & own[table.shard]).sum())


def _coverage(level: Level, won: Segment) -> float | None:
    """Mean over one chunk each of up to SAMPLED_SHARDS shards."""
    by_shard = won.take(won.status == Status.OK).rows_by_shard()
    numbers = list(by_shard)[:: max(len(by_shard) // SAMPLED_SHARDS, 1)]
    means: list[NDArray[np.float64]] = []
    for number in numbers:
        shard = level.index.shards[number]
        masks = level.sound(shard, read_masks, by_shard[number][:CHUNK_MASKS])
        if masks is not None:
            means.append(masks.mean(axis=(1, 2)) / 255)
    return round(float(np.concatenate(means).mean()), 5) if means else None


def _top_phrases(level: Level, won: Segment, count: int) -> dict[str, int]:
    notes = Counter(note for note in level.notes(won.keys) if note is not None)
    phrases: Counter[str] = Counter()
    for note, times in notes.items():
        for phrase in json.loads(note)["phrases"]:
            phrases[phrase] += times
    return dict(phrases.most_common(count))


def _index_state(level: Level) -> dict[str, Any]:
    saved = Index.load(level.folder / INDEX_NAME, shard_sizes(level.folder))
    return {
        "level": level.name,
        "records": len(level),
        "shards": len(level.index.shards),
        "saved_records": len(saved),
        "saved_shards": len(saved.shards),
    }


def _stats_lines(found: list[ProducerStats], indices: list[dict[str, Any]]) -> Iterator[str | Table]:
    columns = ("level", "producer", "ok", "empty", "failed", "lost", "shards", "MB", "coverage", "sets")
    table = Table(*columns, box=box.SIMPLE)
    for each in found:
        counts = (f"{count:,}" for count in (each.ok, each.empty, each.failed, each.lost, each.shards))
        coverage = "" if each.coverage is None else f"{each.coverage:.2%}"
        sets = ", ".join(each.sets) or "none: gc frees it"
        table.add_row(each.level, each.producer, *counts, f"{each.bytes / 1e6:,.1f}", coverage, sets)
    yield table
    for each in found:
        if each.phrases:
            yield f"{each.producer} names most: " + ", ".join(f"{name} ({n:,})" for name, n in each.phrases.items())
    for state in indices:
        yield (
            f"{state['level']}: the saved index holds {state['saved_records']:,} of {state['records']:,} records, "
            f"{state['saved_shards']:,} of {state['shards']:,} shards"
        )


def _set_lines(found: list[dict[str, Any]]) -> Iterator[str | Table]:
    table = Table("set", "merge", "level", "producer", "records", "runs", box=box.SIMPLE)
    for each in found:
        for row, level in enumerate(LEVELS):
            first = (each["name"], each["merge"]) if not row else ("", "")
            runs = ", ".join(each["runs"]) if not row else ""
            table.add_row(*first, level, each[level], f"{each['records'][level]:,}", runs)
    yield table
    if not found:
        yield "no knowledge set yet: annotating makes one"
