"""Durable files: temporary name, fsync and rename; also the project's digest and its advisory lock.

Every write that matters goes through here."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

from semore.datasets.disk_space import megabytes, room_for
from semore.datasets.errors import SemoreError
from semore.datasets.lock_files import UNSUPPORTED, named_lock

Row = TypeVar("Row")


def digest16(*parts: bytes | memoryview) -> bytes:
    """BLAKE2b-128 of the concatenated parts, the only digest of the project (design.md §3)."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(part)
    return state.digest()


def digest_json(value: Any) -> bytes:
    """BLAKE2b-128 of a JSON value in canonical form (sorted keys, no spaces)."""
    return digest16(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


def fsync(handle: int) -> None:
    """Have what was written survive a power cut, where the file system can promise that: CIFS and some FUSE answer
    EINVAL for folders, and nothing but the promise is lost. OSError for whatever else goes wrong, as on a full disk."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def fsync_path(path: Path) -> None:
    """Make what is written in a file, or what is renamed inside a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_file(path: Path, size: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it into place, on error remove it.
    SemoreError when there is no room for it, saying what it takes: `size` bytes, or more than it had when it failed."""
    temporary, written = path.with_name(f".tmp-{os.getpid()}-{path.name}"), 0

    def needed() -> str:
        if size is not None:
            return megabytes(size)
        return f"more than {megabytes(written)}" if written else ""

    with room_for(path, needed):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with open(temporary, "rb") as handle:
                fsync(handle.fileno())
            os.replace(temporary, path)
            fsync_path(path.parent)
        finally:
            written = temporary.stat().st_size if temporary.exists() else 0
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write `content` atomically."""
    with atomic_file(path, len(content)) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value atomically, indented for reading."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a header and a line for each row atomically; lines end in \\n. ValueError when a row has a column more."""
    with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path, kind: type[Row], remedy: str) -> list[Row]:
    """Rows as a dataclass of texts and numbers; none when there is no file. The last columns may be missing
    where their fields have defaults, as in files of earlier versions; SemoreError with the remedy when others are
    missing, or there are too many."""
    if not path.exists():
        return []
    known = fields(kind)  # type: ignore[arg-type]
    types = {each.name: {"str": str, "int": int, "float": float}[str(each.type)] for each in known}
    needed = sum(each.default is MISSING for each in known)
    with open(path, newline="", encoding="utf-8") as handle:
        reader = csv.DictReader(handle)
        if reader.fieldnames not in [list(types)[:count] for count in range(needed, len(types) + 1)]:
            raise SemoreError(f"{path}: columns {reader.fieldnames}, expected {list(types)}; {remedy}")
        return [kind(**{name: types[name](value) for name, value in line.items()}) for line in reader]


def read_json(path: Path) -> Any:
    """Read a JSON file; SemoreError naming it when it is missing or torn."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SemoreError(f"{path} does not exist") from None
    except json.JSONDecodeError as error:
        raise SemoreError(f"{path} is not valid JSON ({error}); restore it from a copy, or move it away") from None


def sweep_temporary(folder: Path) -> int:
    """Remove what a killed writer left in `folder` (names starting with .tmp-); returns how many. Call under a lock."""
    leftovers = list(folder.glob(".tmp-*")) if folder.is_dir() else []
    for leftover in leftovers:
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
    return len(leftovers)


def missing_folders(folder: Path) -> list[Path]:
    """Those of `folder` and its parents that there are not, innermost first: what making it makes."""
    return [each for each in (folder, *folder.parents) if not each.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove these folders, one after another, as far as they are empty."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def taken_back(path: Path, *ignored: str) -> Iterator[None]:
    """Where an error comes before anything came of it: removes the file `path`, if it is new since, and so is nothing
    beside it but hidden files and those of an `ignored` name."""

    def beside() -> set[str]:
        return {each.name for each in path.parent.iterdir() if each.name[0] != "."} - set(ignored)

    before = beside()
    try:
        yield
    except BaseException:
        if beside() - before == {path.name}:
            path.unlink()
        raise


@contextmanager
def exclusive_lock(path: Path, purpose: str) -> Iterator[None]:
    """Hold `path` as a lock for this process; SemoreError naming the holder when another process has it.

    The kernel drops the lock when the process dies, so a crash never leaves a stale one. Where the file system has no
    such locks, `named_lock` takes their place. What ends in an error leaves no lock file that was not there before, nor
    folders made for it that are still empty.
    """
    new, made = not path.exists(), missing_folders(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(path, purpose):
            try:
                yield
            except BaseException:
                if new:
                    path.unlink(missing_ok=True)
                raise
    except BaseException:
        remove_empty(made)
        raise


@contextmanager
def _locked(path: Path, purpose: str) -> Iterator[None]:
    instead: AbstractContextManager[None] = nullcontext()
    with open(path, "a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "an unknown process"
            raise SemoreError(f"{path}: {purpose} is already running as {holder}; wait for it or stop it") from None
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            instead = named_lock(path, purpose)
        if not (path.exists() and path.samefile(f"/proc/self/fd/{handle.fileno()}")):
            raise SemoreError(f"{path}: {purpose} was just given up by another process; run the same command again")
        with instead:
            with room_for(path):
                handle.truncate(0)
                os.write(handle.fileno(), f"process {os.getpid()} on {os.uname().nodename}\n".encode())
            yield
