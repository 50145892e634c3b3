"""One HDF5 shard of the knowledge cache: written once, named by its content, checked when read."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from semore.datasets.atomic_io import atomic_file, digest16, digest_json
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.records import Digests, Identity, LevelName, record_digests

SHARD_FORMAT: Final = "semore-knowledge"
SHARD_VERSION: Final = 1
CHUNK_MASKS: Final = 32
"""Masks per HDF5 chunk. gzip 1 on such chunks was 2.5x faster to read than lzf and half its size (128x128)."""

_READ_ERRORS = (OSError, KeyError, ValueError, IndexError, RuntimeError, TypeError)
_NOT_THE_SHARDS_FAULT = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)


class DamagedShard(Exception):
    """A shard that is torn or whose checksum does not fit; the cache puts it aside."""


class MissingShard(DamagedShard):
    """A shard that is no longer there: put aside by another process, or replaced by `gc` or `compact`."""


@dataclass(frozen=True)
class Batch:
    """Records of one level and producer: keys, frames (n, 16), statuses (n,) uint8, notes n JSON strings as bytes,
    values None (texts), (n,) uint8 verdicts or (n, H, W) uint8 masks."""

    keys: Digests
    frames: Digests
    statuses: NDArray[np.uint8]
    notes: Sequence[bytes]
    values: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Entries:
    """What the index keeps of a shard: keys (n, 16), statuses (n,), record digests (n, 16), the producer's JSON, and
    the file's bytes when it was known to be sound."""

    keys: Digests
    statuses: NDArray[np.uint8]
    records: Digests
    producer: str = "{}"
    size: int = 0


def write_shard(folder: Path, level: LevelName, identity: Identity, batch: Batch) -> tuple[Path, Entries]:
    """Write `<checksum>.h5` whole or not at all (temporary name, fsync, rename); SemoreError on a full disk."""
    records = record_digests(batch.keys, batch.statuses, batch.notes, batch.values)
    checksum = _checksum(level, identity, batch.keys, batch.statuses, records, batch.frames)
    path = folder / f"{checksum}.h5"
    try:
        with atomic_file(path) as temporary:
            _write(temporary, level, identity, batch, records, checksum)
            size = temporary.stat().st_size  # `compact` may have replaced the shard as soon as it has its name
    except (OSError, RuntimeError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            raise SemoreError(
                f"{folder}: the disk is full; a shard of {len(batch)} {level} could not be written. Free some space "
                "and run the same command again: what was committed before stays"
            ) from None
        raise
    return path, Entries(batch.keys, batch.statuses, records, producer_json(identity), size)


def read_entries(path: Path) -> Entries:
    """Keys, statuses and record digests, checked against the shard's name; DamagedShard when they do not fit."""
    with _reading(path) as file:
        identity = _identity(file)
        keys, statuses, records = (_rows(file, name) for name in ("key", "status", "record"))
        checksum = _checksum(str(file.attrs["level"]), identity, keys, statuses, records, _rows(file, "frame"))
        size = os.fstat(file.id.get_vfd_handle()).st_size
    if checksum != path.stem:
        raise DamagedShard(f"{path} has checksum {checksum}")
    return Entries(keys, statuses, records, producer_json(identity), size)


def read_records(path: Path, rows: NDArray[np.int64]) -> Digests:
    """(n, 16) record digests of `rows`."""
    with _reading(path) as file:
        return _rows(file, "record")[rows]


def read_notes(path: Path, rows: NDArray[np.int64]) -> list[str]:
    """The JSON notes of `rows`, each checked against its record digest when the shard holds texts."""
    with _reading(path) as file:
        notes = _notes(file)
        chosen = [notes[row] for row in rows.tolist()]
        if "value" not in file:
            _check(path, file, rows, chosen, None)
    return [text.decode() for text in chosen]


def read_verdicts(path: Path, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(n,) uint8 verdicts of `rows`, each checked against its record digest."""
    with _reading(path) as file:
        notes = _notes(file)
        values: NDArray[np.uint8] = _rows(file, "value")[rows]
        _check(path, file, rows, [notes[row] for row in rows.tolist()], values)
    return values


def read_masks(path: Path, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(n, H, W) uint8 masks of `rows` in that order; only the chunks needed are read, in file order.

    zlib's own checksum of every chunk guards the pixels; `verify_shard` checks the record digests as well.
    """
    order = np.argsort(rows, kind="stable")
    wanted = rows[order]
    chunks = np.unique(wanted // CHUNK_MASKS)
    runs = np.split(chunks, np.flatnonzero(np.diff(chunks) > 1) + 1)
    with _reading(path) as file:
        stored = file["value"]
        masks = np.empty((len(rows), *stored.shape[1:]), np.uint8)
        for run in runs:
            first, last = int(run[0]) * CHUNK_MASKS, (int(run[-1]) + 1) * CHUNK_MASKS
            begin, end = np.searchsorted(wanted, (first, last))
            masks[order[begin:end]] = stored[first:last][wanted[begin:end] - first]
    return masks


def read_batch(path: Path, rows: NDArray[np.int64]) -> tuple[Identity, Batch]:
    """The producer and the records of `rows` whole, each checked against its digest: what goes into another shard."""
    with _reading(path) as file:
        keys, frames, statuses, records = (_rows(file, name)[rows] for name in ("key", "frame", "status", "record"))
        notes = _notes(file)
        values = _rows(file, "value")[rows] if "value" in file else None
        batch = Batch(keys, frames, statuses, [notes[row] for row in rows.tolist()], values)
        if not np.array_equal(record_digests(keys, statuses, batch.notes, values), records):
            raise DamagedShard(f"{path} holds a record that differs from its digest")
        return _identity(file), batch


def read_keys(path: Path) -> tuple[Digests, Digests, str]:
    """Keys and frame digests (n, 16) and the producer's JSON, unchecked: what a damaged shard still tells."""
    with _reading(path) as file:
        return _rows(file, "key"), _rows(file, "frame"), producer_json(_identity(file))


def verify_shard(path: Path) -> None:
    """Read everything and compare every digest; DamagedShard when one differs."""
    entries = read_entries(path)
    with _reading(path) as file:
        values = _rows(file, "value") if "value" in file else None
        if not np.array_equal(record_digests(entries.keys, entries.statuses, _notes(file), values), entries.records):
            raise DamagedShard(f"{path} holds a record that differs from its digest")


def _write(path: Path, level: LevelName, identity: Identity, batch: Batch, records: Digests, checksum: str) -> None:
    with h5py.File(path, "w", locking=False, libver=("v110", "v110")) as file:
        file.attrs.update(
            format=SHARD_FORMAT,
            version=SHARD_VERSION,
            level=level,
            producer=producer_json(identity),
            checksum=checksum,
        )
        file["key"], file["frame"], file["status"], file["record"] = batch.keys, batch.frames, batch.statuses, records
        file["note_end"] = np.cumsum([len(text) for text in batch.notes], dtype=np.int64)
        joined = np.frombuffer(b"".join(batch.notes), np.uint8)
        file.create_dataset(
            "note", data=joined, chunks=(1 << 16,), maxshape=(None,), compression="gzip", compression_opts=1
        )
        if batch.values is not None and batch.values.ndim == 3:
            chunks = (CHUNK_MASKS, *batch.values.shape[1:])
            file.create_dataset(
                "value",
                data=batch.values,
                chunks=chunks,
                maxshape=(None, *chunks[1:]),
                compression="gzip",
                compression_opts=1,
            )
        elif batch.values is not None:
            file["value"] = batch.values


@contextmanager
def _reading(path: Path) -> Iterator[h5py.File]:
    """The open shard; whatever goes wrong while reading it becomes DamagedShard."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            version = file.attrs["version"]
            if version != SHARD_VERSION:
                raise SemoreError(
                    f"{path} has format version {version}, this code reads {SHARD_VERSION}; use the code that wrote "
                    "it or choose another knowledge folder"
                )
            yield file
    except FileNotFoundError:
        raise MissingShard(f"{path} is gone") from None
    except _READ_ERRORS as error:
        if getattr(error, "errno", None) in _NOT_THE_SHARDS_FAULT:
            raise SemoreError(
                f"{path} cannot be read now ({error}); mend that and run the same command again"
            ) from None
        raise DamagedShard(f"{path} cannot be read ({error})") from None


def _identity(file: h5py.File) -> Identity:
    identity: dict[str, Any] = json.loads(file.attrs["producer"])
    return identity


def producer_json(identity: Identity) -> str:
    """How shards and the index name a producer."""
    return json.dumps(dict(identity), sort_keys=True)


def _rows(file: h5py.File, name: str) -> NDArray[Any]:
    return np.asarray(file[name][:])


def _notes(file: h5py.File) -> list[bytes]:
    ends = [0, *_rows(file, "note_end").tolist()]
    joined = _rows(file, "note").tobytes()
    return [joined[begin:end] for begin, end in pairwise(ends)]


def _check(
    path: Path, file: h5py.File, rows: NDArray[np.int64], notes: list[bytes], values: NDArray[np.uint8] | None
) -> None:
    keys, statuses, records = (_rows(file, name)[rows] for name in ("key", "status", "record"))
    if not np.array_equal(record_digests(keys, statuses, notes, values), records):
        raise DamagedShard(f"{path} holds a record that differs from its digest")


def _checksum(level: str, identity: Identity, *arrays: NDArray[np.uint8]) -> str:
    parts = [digest16(np.ascontiguousarray(array).tobytes()) for array in arrays]
    return digest16(level.encode(), digest_json(dict(identity)), *parts).hex()
