"""The index of the knowledge cache: from a key to the shard row that answers it, for many keys at once."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.datasets.atomic_io import atomic_file
from semore.datasets.knowledge.records import Digests
from semore.datasets.knowledge.shards import Entries

INDEX_VERSION: Final = 2
RANK_BITS: Final = 61
"""Bits of the record digest in a rank; above them the status (2 bits), above that 0 for a pinned record, else 1."""


@dataclass(frozen=True)
class Hits:
    """For N keys: shard number (−1 = no record), row in it, and status (255 = no record)."""

    shard: NDArray[np.int32]
    row: NDArray[np.int64]
    status: NDArray[np.uint8]

    @property
    def found(self) -> NDArray[np.bool_]:
        """(N,) bool: there is a record."""
        return self.shard >= 0


@dataclass(frozen=True)
class Segment:
    """Records sorted by key, then rank: the first of equal keys is the winner, the others have lost. A key is two
    big-endian uint64 halves."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    rank: NDArray[np.uint64]
    status: NDArray[np.uint8]
    shard: NDArray[np.int32]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.high)

    @property
    def keys(self) -> Digests:
        """The keys as (n, 16) uint8."""
        return np.stack([self.high, self.low], axis=1).astype(">u8").view(np.uint8).reshape(-1, 16)

    @property
    def wins(self) -> NDArray[np.bool_]:
        """(n,) bool: the record serves its key."""
        return ~_repeats(self.high, self.low)

    @property
    def copies(self) -> NDArray[np.bool_]:
        """(n,) bool: an equal record stands before this one."""
        return _repeats(self.high, self.low, self.rank)

    def find(self, high: NDArray[np.uint64], low: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Position of the first record of each key, −1 where there is none."""
        if not len(self):
            return np.full(len(high), -1, np.int64)
        position = np.searchsorted(self.high, high)
        last = len(self) - 1
        while True:  # keys that share their first half stand side by side: step over the wrong ones
            at = np.minimum(position, last)
            wrong = (position <= last) & (self.high[at] == high) & (self.low[at] < low)
            if not wrong.any():
                break
            position = position + wrong
        same = (position <= last) & (self.high[at] == high) & (self.low[at] == low)
        return np.where(same, position, -1)

    def of_key(self, key: Digests) -> Segment:
        """The records under one key (1, 16), the winner first."""
        high, low = halves(key)
        begin, end = np.searchsorted(self.high, high[0], "left"), np.searchsorted(self.high, high[0], "right")
        return self.take(begin + np.flatnonzero(self.low[begin:end] == low[0]))

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Segment:
        """The records at `rows`."""
        return Segment(*(getattr(self, name)[rows] for name in _COLUMNS))

    def among(self, records: Digests) -> NDArray[np.bool_]:
        """(n,) bool: the record is one of `records` (M, 16), as far as the bits kept of its digest tell."""
        return np.isin(self.rank & np.uint64((1 << RANK_BITS) - 1), prefixes(records))

    def rows_by_shard(self) -> dict[int, NDArray[np.int64]]:
        """Shard number → its rows, sorted."""
        order = np.lexsort((self.row, self.shard))
        numbers, starts = np.unique(self.shard[order], return_index=True)
        parts = np.split(self.row[order], starts[1:])  # one part, empty, when there is no row
        return dict(zip(numbers.tolist(), parts, strict=False))


_COLUMNS: Final = tuple(field.name for field in fields(Segment))


class Index:
    """Every record of the known shards. Of those with one key, ok wins over empty over failed, then the lowest record
    digest: content decides, not the packing, so that shards may be joined or thinned without changing an answer.
    Records among `pins` (digests) win over all others.

    New shards come as small segments that are merged when they have grown comparable to the one before, so that both
    adding a shard to millions of records and looking up stay cheap.
    """

    def __init__(self, pins: Digests | None = None) -> None:
        self.shards: list[str] = []
        self.producers: list[str] = []
        """JSON of each shard's producer."""
        self.sizes: list[int] = []
        """Bytes of each shard when it was read or written whole: another size later means damage."""
        self._numbers: dict[str, int] = {}
        self._segments: list[Segment] = []
        self._pins = pins

    def __len__(self) -> int:
        """Records held."""
        return sum(map(len, self._segments))

    def __contains__(self, shard: str) -> bool:
        return shard in self._numbers

    def add(self, shards: Mapping[str, Entries]) -> None:
        """Add the records of shards (by file name) that are not yet in."""
        fresh = {name: entries for name, entries in shards.items() if name not in self}
        if not fresh:
            return
        first = len(self.shards)
        self._register((name, entries.producer, entries.size) for name, entries in fresh.items())
        counts = [len(entries.keys) for entries in fresh.values()]
        statuses = np.concatenate([entries.statuses for entries in fresh.values()])
        records = prefixes(np.concatenate([entries.records for entries in fresh.values()]))
        segment = Segment(
            *halves(np.concatenate([entries.keys for entries in fresh.values()])),
            records | ((statuses.astype(np.uint64) + np.uint64(4)) << np.uint64(RANK_BITS)),
            statuses,
            np.repeat(np.arange(first, first + len(fresh), dtype=np.int32), counts),
            np.concatenate([np.arange(count, dtype=np.int64) for count in counts]),
        )
        self._segments.append(_sorted(self._pinned(segment)))
        while len(self._segments) > 1 and 2 * len(self._segments[-1]) > len(self._segments[-2]):
            self._merge_last(2)

    def forget(self, shards: Iterable[str]) -> None:
        """Drop the records of shards that are gone; those that had lost to them take over."""
        gone = [number for name in set(shards) if (number := self._numbers.get(name)) is not None]
        if not gone:
            return
        stays = np.ones(len(self.shards), np.bool_)
        stays[gone] = False
        numbers = (np.cumsum(stays) - 1).astype(np.int32)
        kept = [shard for shard, stay in zip(self._described(), stays.tolist(), strict=True) if stay]
        self.shards, self.producers, self.sizes, self._numbers = [], [], [], {}
        self._register(kept)
        segments = [segment.take(stays[segment.shard]) for segment in self._segments]
        self._segments = [replace(segment, shard=numbers[segment.shard]) for segment in segments if len(segment)]

    def lookup(self, keys: Digests) -> Hits:
        """The winning record of each of N keys (N, 16)."""
        high, low = halves(keys)
        best = Hits(np.full(len(keys), -1, np.int32), np.zeros(len(keys), np.int64), np.full(len(keys), 255, np.uint8))
        ranks = np.full(len(keys), np.iinfo(np.uint64).max)
        for segment in self._segments:
            position = segment.find(high, low)
            (hit,) = np.nonzero(position >= 0)
            at = position[hit]
            better = segment.rank[at] < ranks[hit]
            hit, at = hit[better], at[better]
            ranks[hit] = segment.rank[at]
            best.shard[hit], best.row[hit], best.status[hit] = segment.shard[at], segment.row[at], segment.status[at]
        return best

    def table(self) -> Segment:
        """All records, winners and losers, in one sorted table."""
        if not self._segments:
            return _EMPTY
        if len(self._segments) > 1:
            self._merge_last(len(self._segments))
        return self._segments[0]

    def save(self, path: Path) -> None:
        """Write the whole index atomically."""
        table = self.table()
        kinds, kind = np.unique(np.array(self.producers, np.bytes_), return_inverse=True)
        with atomic_file(path) as temporary, open(temporary, "wb") as handle:
            np.savez(
                handle,
                version=INDEX_VERSION,
                shards=np.array(self.shards, np.bytes_),
                sizes=np.array(self.sizes, np.int64),
                producers=kinds,
                producer=kind,
                **{name: getattr(table, name) for name in _COLUMNS},
            )

    @staticmethod
    def load(path: Path, present: Mapping[str, int] | None = None, pins: Digests | None = None) -> Index:
        """The saved index without the shards that are no longer `present` (file name → bytes) as they were, empty when
        there is none to use. None: with all it knew."""
        index = Index(pins)
        try:
            with np.load(path) as stored:
                if int(stored["version"]) != INDEX_VERSION:
                    return index
                names = [name.decode() for name in stored["shards"].tolist()]
                sizes = stored["sizes"].tolist()
                producers = [producer.decode() for producer in stored["producers"][stored["producer"]].tolist()]
                segment = Segment(*(stored[name] for name in _COLUMNS))
        except (OSError, ValueError, KeyError, EOFError, IndexError, zipfile.BadZipFile):
            return index
        index._register(zip(names, producers, sizes, strict=True))
        index._segments = [segment if pins is None else _sorted(index._pinned(segment))]
        if present is not None:
            index.forget(name for name, size in zip(names, sizes, strict=True) if present.get(name) != size)
        return index

    def _described(self) -> Iterator[tuple[str, str, int]]:
        """Name, producer and size of each shard."""
        return zip(self.shards, self.producers, self.sizes, strict=True)

    def _register(self, described: Iterable[tuple[str, str, int]]) -> None:
        for name, producer, size in described:
            self._numbers[name] = len(self.shards)
            self.shards.append(name)
            self.producers.append(producer)
            self.sizes.append(size)

    def _merge_last(self, count: int) -> None:
        merging = self._segments[-count:]
        joined = Segment(*(np.concatenate([getattr(segment, name) for segment in merging]) for name in _COLUMNS))
        self._segments[-count:] = [_sorted(joined)]

    def _pinned(self, segment: Segment) -> Segment:
        """The segment with the ranks of pinned records below all others."""
        if self._pins is None:
            return segment
        unpinned = segment.rank & np.uint64((1 << 63) - 1)
        return replace(segment, rank=np.where(segment.among(self._pins), unpinned, segment.rank))


_NONE: Final = np.zeros(0, np.uint64)
_EMPTY: Final = Segment(_NONE, _NONE, _NONE, np.zeros(0, np.uint8), np.zeros(0, np.int32), np.zeros(0, np.int64))


def _sorted(segment: Segment) -> Segment:
    return segment.take(np.lexsort((segment.rank, segment.low, segment.high)))


def _repeats(*columns: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """(n,) bool: every column is as in the row before."""
    repeats = np.zeros(len(columns[0]), np.bool_)
    repeats[1:] = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
    return repeats


def halves(keys: Digests) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Keys (N, 16) as two (N,) uint64 halves that sort like the bytes."""
    words = np.ascontiguousarray(keys).view(">u8").reshape(-1, 2).astype(np.uint64)
    return np.ascontiguousarray(words[:, 0]), np.ascontiguousarray(words[:, 1])


def prefixes(records: Digests) -> NDArray[np.uint64]:
    """(N,) uint64: the first RANK_BITS bits of record digests (N, 16)."""
    found: NDArray[np.uint64] = halves(records)[0] >> np.uint64(64 - RANK_BITS)
    return found
