"""One level of the knowledge cache: a folder of shards, its index, and the records not yet committed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from semore.datasets.atomic_io import digest_json
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.index import Hits, Index
from semore.datasets.knowledge.records import INVALID, Digests, Identity, LevelName, Status
from semore.datasets.knowledge.shards import (
    Batch,
    DamagedShard,
    Entries,
    read_entries,
    read_masks,
    read_notes,
    read_records,
    read_verdicts,
    write_shard,
)

COMMIT_RECORDS: Final = 2048
"""Records gathered per shard (design.md §3 asks for at least 512); a killed writer loses at most these per level."""
INDEX_NAME: Final = "index.npz"
SAVE_INDEX_SHARE: Final = 0.1
"""The saved index is renewed once this share of the records is missing from it."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Level:
    """`texts`, `masks` or `verdicts` below a cache folder. Not thread-safe; any number of processes may share the
    folder, each with its own Level."""

    def __init__(self, root: Path, name: LevelName, pins: Digests | None = None) -> None:
        self.name, self.folder = name, root / name
        self._pending: dict[bytes, tuple[Identity, list[Batch]]] = {}
        self._pending_notes: dict[bytes, str] = {}
        self._index = Index.load(self.folder / INDEX_NAME, shard_sizes(self.folder), pins)
        self._saved = len(self._index) if pins is None else None  # pins are one reader's affair: not to be saved
        self.refresh()

    def __len__(self) -> int:
        """Committed records known to the index."""
        return len(self._index)

    @property
    def index(self) -> Index:
        """The records of the committed shards, as of the last refresh."""
        return self._index

    def refresh(self, save: bool = True) -> None:
        """Pick up shards that other processes have committed, and forget those that are gone; then save the index, if
        it is worth it, unless somebody else will."""
        before: set[str] | None = None
        # Until two listings agree: one alone may miss a shard and its replacement when `compact` is at work meanwhile.
        while (present := shard_names(self.folder)) != before:
            self._index.forget(set(self._index.shards) - present)
            fresh: dict[str, Entries] = {}
            for shard in sorted(present - set(self._index.shards)):
                if (entries := self.sound(shard, read_entries)) is not None:
                    fresh[shard] = entries
            self._index.add(fresh)
            before = present
        if save:
            self.save_index()

    def save_index(self, always: bool = False) -> None:
        """Save the index when it has changed enough to be worth it, or `always`; a read-only folder is left alone."""
        if self._saved is None:
            return
        if not always and abs(len(self._index) - self._saved) <= SAVE_INDEX_SHARE * len(self._index):
            return
        try:
            self._index.save(self.folder / INDEX_NAME)
        except OSError as error:
            _log.info("%s: index not saved (%s)", self.folder, error)
        self._saved = len(self._index)

    def lookup(self, keys: Digests) -> Hits:
        """The winning committed record of each key; vectorised (millions of keys per second)."""
        return self._index.lookup(keys)

    def missing(self, keys: Digests, retry_failed: bool = False) -> NDArray[np.bool_]:
        """(N,) bool: no record, committed or pending (with `retry_failed` also: only a committed failed one). Of equal
        keys only the first is marked, so that no work is done twice."""
        hits = self.lookup(keys)
        absent: NDArray[np.bool_] = ~hits.found
        if retry_failed:
            absent |= hits.status == Status.FAILED
        seen: set[bytes] = set()
        for index in np.flatnonzero(absent).tolist():
            key = keys[index].tobytes()
            absent[index] = key not in self._pending_notes and key not in seen
            seen.add(key)
        return absent

    def answered(self, keys: Digests) -> int:
        """How many of the keys have a record that is an answer: committed, and not failed."""
        return int(np.isin(self.lookup(keys).status, (Status.OK, Status.EMPTY)).sum())

    def add(
        self,
        identity: Identity,
        keys: Digests,
        frames: Digests,
        statuses: Sequence[int],
        notes: Sequence[str],
        values: NDArray[np.uint8] | None = None,
    ) -> None:
        """Queue n records of one producer; commits them once `COMMIT_RECORDS` are waiting.

        keys, frames (n, 16); notes: JSON strings; values: (n, H, W) masks, (n,) verdicts, None for texts.
        """
        if not len(keys):
            return
        packed = [text.encode() for text in notes]
        batch = Batch(keys, frames, np.array(statuses, np.uint8), packed, values)
        shape = () if values is None else values.shape[1:]
        queue = self._pending.setdefault(digest_json([dict(identity), shape]), (identity, []))[1]
        queue.append(batch)
        self._pending_notes.update(zip((key.tobytes() for key in keys), notes, strict=True))
        if sum(map(len, queue)) >= COMMIT_RECORDS:
            self.commit()

    def commit(self) -> None:
        """Write every pending record into a shard and make it visible; SemoreError on a full disk."""
        for queue, (identity, batches) in list(self._pending.items()):
            path, entries = write_shard(self.folder, self.name, identity, joined(batches))
            self._index.add({path.name: entries})
            del self._pending[queue]
        self._pending_notes.clear()

    def notes(self, keys: Digests) -> list[str | None]:
        """The JSON note of each key's winner, pending ones included; None where there is none."""
        found: list[str | None] = [None] * len(keys)
        for rows, texts in self._read(keys, self.lookup(keys), read_notes):
            for row, text in zip(rows.tolist(), texts, strict=True):
                found[row] = text
        if self._pending_notes:
            for row in (row for row, text in enumerate(found) if text is None):
                found[row] = self._pending_notes.get(keys[row].tobytes())
        return found

    def verdicts(self, keys: Digests) -> NDArray[np.uint8]:
        """(N,) uint8: 1, 0, or INVALID (255) where there is no usable record."""
        found = np.full(len(keys), INVALID, np.uint8)
        for rows, values in self._read(keys, self.lookup(keys), read_verdicts):
            found[rows] = values
        return found

    def masks(self, keys: Digests) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """(N, H, W) uint8 masks and (N,) bool: there is one. Zeros where there is none; (N, 0, 0) when none is found.
        SemoreError when the masks have different sizes. Reads shard by shard, only the chunks needed."""
        hits = self.lookup(keys)
        usable = hits.status == Status.OK
        masks = np.zeros((len(keys), 0, 0), np.uint8)
        present = np.zeros(len(keys), np.bool_)
        for rows, values in self._read(keys, hits, read_masks, usable):
            if masks.shape[1:] == (0, 0):
                masks = np.zeros((len(keys), *values.shape[1:]), np.uint8)
            elif masks.shape[1:] != values.shape[1:]:
                raise SemoreError(
                    f"{self.folder}: masks of {masks.shape[1:]} and of {values.shape[1:]} pixels asked for at once; "
                    "load frames of one camera size at a time"
                )
            masks[rows], present[rows] = values, True
        return masks, present

    def records(self, keys: Digests) -> Digests:
        """(M, 16) record digests of the winners of those keys that have one, in key order."""
        hits = self.lookup(keys)
        found = np.zeros((len(keys), 16), np.uint8)
        present = np.zeros(len(keys), np.bool_)
        for rows, values in self._read(keys, hits, read_records):
            found[rows], present[rows] = values, True
        return found[present]

    def _read(
        self,
        keys: Digests,
        hits: Hits,
        read: Callable[[Path, NDArray[np.int64]], Any],
        wanted: NDArray[np.bool_] | None = None,
    ) -> Iterator[tuple[NDArray[np.int64], Any]]:
        """(positions, what `read` gives for them), shard by shard. A damaged shard is put aside and its keys are looked
        up again in the others."""
        (chosen,) = np.nonzero(hits.found if wanted is None else wanted)
        order = chosen[np.argsort(hits.shard[chosen], kind="stable")]
        groups = np.split(order, np.flatnonzero(np.diff(hits.shard[order])) + 1) if len(order) else []
        names = self._index.shards
        lost: list[NDArray[np.int64]] = []
        for rows in groups:
            shard = names[int(hits.shard[rows[0]])]
            values = self.sound(shard, read, hits.row[rows])
            if values is None:
                lost.append(rows)
            else:
                yield rows, values
        if lost:
            self.refresh()
            again = np.sort(np.concatenate(lost))
            found = self.lookup(keys[again])
            usable = None if wanted is None else found.status == Status.OK
            for rows, values in self._read(keys[again], found, read, usable):
                yield again[rows], values

    def sound(self, shard: str, read: Callable[..., T], *rows: NDArray[np.int64]) -> T | None:
        """What `read` gives for (rows of) a shard; None when that is damaged, and now put aside."""
        try:
            return read(self.folder / shard, *rows)
        except DamagedShard as error:
            self._put_aside(shard, error)
            return None

    def _put_aside(self, shard: str, error: DamagedShard) -> None:
        """Quarantine a damaged shard and say so, once, whoever finds it."""
        if quarantine(self.folder / shard, error):
            _log.warning(
                "%s; moved aside as %s.damaged. Only its %s are missing now: annotating the same frames into the same "
                "set makes them again",
                error,
                shard,
                self.name,
            )


def quarantine(path: Path, error: DamagedShard) -> bool:
    """Move a damaged shard aside as `<name>.damaged`; False when it is gone: another process was first, or `gc` or
    `compact` replaced it."""
    try:
        path.rename(path.with_name(f"{path.name}.damaged"))
    except FileNotFoundError:
        return False
    except OSError as reason:
        raise SemoreError(f"{error}; it could not be moved aside ({reason}): remove it by hand") from None
    return True


def shard_names(folder: Path) -> set[str]:
    """File names of the committed shards of a level's folder."""
    try:
        return {name for name in os.listdir(folder) if name.endswith(".h5") and not name.startswith(".")}
    except FileNotFoundError:
        return set()


def shard_sizes(folder: Path) -> dict[str, int]:
    """Committed shards: file name → bytes."""
    sizes = {}
    for name in shard_names(folder):
        with suppress(FileNotFoundError):  # gone since
            sizes[name] = (folder / name).stat().st_size
    return sizes


def joined(batches: Sequence[Batch]) -> Batch:
    """The records of several batches as one."""
    values = [batch.values for batch in batches if batch.values is not None]
    return Batch(
        np.concatenate([batch.keys for batch in batches]),
        np.concatenate([batch.frames for batch in batches]),
        np.concatenate([batch.statuses for batch in batches]),
        [text for batch in batches for text in batch.notes],
        np.concatenate(values) if values else None,
    )
