"""Which shard row answers a key: sorted arrays, searched for many keys at once, saved so that start-up stays fast."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.files import atomic_file
from datasets.knowledge_records import Digests
from datasets.knowledge_shards import Entries

INDEX_VERSION = 1
_COLUMNS = ("high", "low", "status", "shard", "row")


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
    """Winners sorted by key; a key is two big-endian uint64 halves."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    status: NDArray[np.uint8]
    shard: NDArray[np.int32]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.high)

    def find(self, high: NDArray[np.uint64], low: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Position of each key, −1 where there is none."""
        if not len(self):
            return np.full(len(high), -1, np.int64)
        position = np.searchsorted(self.high, high)
        last = len(self) - 1
        while True:  # two keys that share their first half stand side by side: step over the wrong ones
            at = np.minimum(position, last)
            wrong = (position <= last) & (self.high[at] == high) & (self.low[at] < low)
            if not wrong.any():
                break
            position = position + wrong
        same = (position <= last) & (self.high[at] == high) & (self.low[at] == low)
        return np.where(same, position, -1)


class Index:
    """The winners among the records of known shards: lowest status first, then the shard whose name sorts first.

    New shards come as small segments that are merged when they have grown comparable to the one before, so that both
    adding a shard to millions of records and looking up stay cheap.
    """

    def __init__(self) -> None:
        self.shards: list[str] = []
        self._numbers: dict[str, int] = {}
        self._ranks = np.empty(0, np.int64)
        self._segments: list[Segment] = []

    def __len__(self) -> int:
        """Records held; a key known twice in different segments counts twice."""
        return sum(map(len, self._segments))

    def __contains__(self, shard: str) -> bool:
        return shard in self._numbers

    def add(self, shards: Mapping[str, Entries]) -> None:
        """Add the records of shards (by file name) that are not yet in."""
        fresh = {name: entries for name, entries in shards.items() if name not in self}
        if not fresh:
            return
        first = len(self.shards)
        self._register(fresh)
        sizes = [len(entries.keys) for entries in fresh.values()]
        keys = np.concatenate([entries.keys for entries in fresh.values()])
        self._segments.append(
            self._winners(
                *halves(keys),
                np.concatenate([entries.statuses for entries in fresh.values()]),
                np.repeat(np.arange(first, first + len(fresh), dtype=np.int32), sizes),
                np.concatenate([np.arange(size, dtype=np.int64) for size in sizes]),
            )
        )
        while len(self._segments) > 1 and 2 * len(self._segments[-1]) > len(self._segments[-2]):
            self._merge_last(2)

    def lookup(self, keys: Digests) -> Hits:
        """The winning record of each of N keys (N, 16)."""
        high, low = halves(keys)
        best = Hits(np.full(len(keys), -1, np.int32), np.zeros(len(keys), np.int64), np.full(len(keys), 255, np.uint8))
        for segment in self._segments:
            position = segment.find(high, low)
            (hit,) = np.nonzero(position >= 0)
            at = position[hit]
            status, shard = segment.status[at], segment.shard[at]
            tie = (status == best.status[hit]) & (self._ranks[shard] < self._ranks[best.shard[hit]])
            better = tie | (status < best.status[hit])
            hit, at = hit[better], at[better]
            best.shard[hit], best.row[hit], best.status[hit] = segment.shard[at], segment.row[at], segment.status[at]
        return best

    def save(self, path: Path, sizes: Sequence[int]) -> None:
        """Write the whole index atomically; `sizes` are the bytes of each shard of `shards`, to validate it later."""
        while len(self._segments) > 1:
            self._merge_last(len(self._segments))
        columns = {name: getattr(segment, name) for segment in self._segments for name in _COLUMNS}
        names = np.array(self.shards, dtype=np.bytes_)
        with atomic_file(path) as temporary, open(temporary, "wb") as handle:
            np.savez(handle, version=INDEX_VERSION, shards=names, sizes=np.array(sizes, np.int64), **columns)

    @staticmethod
    def load(path: Path, present: Mapping[str, int]) -> Index:
        """The saved index when every shard it names is `present` (file name → bytes); an empty one otherwise."""
        index = Index()
        try:
            with np.load(path) as stored:
                if int(stored["version"]) != INDEX_VERSION:
                    return index
                names = [name.decode() for name in stored["shards"].tolist()]
                if [present.get(name) for name in names] != stored["sizes"].tolist():
                    return index
                segment = Segment(*(stored[name] for name in _COLUMNS))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return index
        index._register(names)
        index._segments = [segment]
        return index

    def _register(self, names: Mapping[str, Entries] | Sequence[str]) -> None:
        for name in names:
            self._numbers[name] = len(self.shards)
            self.shards.append(name)
        self._ranks = np.empty(len(self.shards), np.int64)
        self._ranks[sorted(range(len(self.shards)), key=self.shards.__getitem__)] = np.arange(len(self.shards))

    def _merge_last(self, count: int) -> None:
        merging = self._segments[-count:]
        columns = [np.concatenate([getattr(segment, name) for segment in merging]) for name in _COLUMNS]
        self._segments[-count:] = [self._winners(*columns)]

    def _winners(
        self,
        high: NDArray[np.uint64],
        low: NDArray[np.uint64],
        status: NDArray[np.uint8],
        shard: NDArray[np.int32],
        row: NDArray[np.int64],
    ) -> Segment:
        order = np.lexsort((row, self._ranks[shard], status, low, high))
        high, low = high[order], low[order]
        first = np.ones(len(order), np.bool_)
        first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        kept = order[first]
        return Segment(high[first], low[first], status[kept], shard[kept], row[kept])


def halves(keys: Digests) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Keys (N, 16) as two (N,) uint64 halves that sort like the bytes."""
    words = np.ascontiguousarray(keys).view(">u8").reshape(-1, 2).astype(np.uint64)
    return np.ascontiguousarray(words[:, 0]), np.ascontiguousarray(words[:, 1])
