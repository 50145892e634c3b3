"""The store of recorded episodes: a Zarr v3 group each, written under a temporary name and then renamed."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from semore.datasets.atomic_io import (
    digest16,
    digest_json,
    exclusive_lock,
    fsync_path,
    sweep_temporary,
    write_json,
)
from semore.datasets.errors import SemoreError, did_you_mean
from semore.datasets.hints import command
from semore.datasets.rollouts.remedy import remedy_for
from semore.datasets.rollouts.schema import FRAME_ARRAYS, SCHEMA_VERSION, STEP_ARRAYS
from semore.datasets.rollouts.zarr_group import write_group

CHUNK_FRAMES = 128
ROOT_ATTRIBUTES = {"format": "semore-rollouts", "schema_version": SCHEMA_VERSION}

Arrays = Mapping[str, NDArray[Any]]


class Attributes(dict[str, Any]):
    """An episode's attributes; asking for one that is not there is a SemoreError. Recordings made by others may lack
    what only some commands need."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._path = path

    def __missing__(self, key: str) -> Any:
        raise SemoreError(
            f"{self._path} has no attribute {key!r}, which this needs; add it to the attributes in its zarr.json "
            f"(docs/formats.md; `{command('datasets validate', {}, self._path.parent)}` names every one that is "
            "missing)"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return Attributes, (self._path, dict(self))


@dataclass(frozen=True)
class Episode:
    """A complete episode's name and attributes (scenario, weather, seed, split, policy, ending, steps, checksum, …)."""

    name: str
    path: Path
    attributes: Mapping[str, Any]

    @property
    def steps(self) -> int:
        """Simulator steps T; the frame arrays have T + 1 rows."""
        return int(self.attributes["steps"])

    @property
    def decision_rows(self) -> NDArray[np.int64]:
        """The rows at which an action was chosen, and the last one: those that are annotated by default."""
        return np.append(np.arange(0, self.steps, int(self.attributes.get("action_repeat", 1))), self.steps)

    def read(self, *names: str) -> dict[str, NDArray[Any]]:
        """The named arrays, whole and in order (datasets.rollouts.schema); SemoreError when one is torn or missing."""
        try:
            group = zarr.open_group(self.path, mode="r", zarr_format=3)
            return {name: _whole(group, name) for name in names}
        except (KeyError, ValueError, OSError, RuntimeError, zarr.errors.BaseZarrError) as error:
            raise _damaged(self, error) from None

    def layout(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of every array there is, without reading any; SemoreError when one's description is torn."""
        try:
            group = zarr.open_group(self.path, mode="r", zarr_format=3)
            return {name: (array.shape, str(array.dtype)) for name, array in sorted(group.arrays())}
        except (KeyError, ValueError, OSError, RuntimeError, zarr.errors.BaseZarrError) as error:
            raise _damaged(self, error) from None

    def verify(self) -> None:
        """Re-compute the checksum over every array; SemoreError when it differs from the recorded one."""
        found = checksum(self.read(*FRAME_ARRAYS, *STEP_ARRAYS))
        if found != self.attributes["checksum"]:
            remedy = remedy_for(self.path, self.attributes)
            raise SemoreError(f"{self.path}: checksum {found}, expected {self.attributes['checksum']}; {remedy}")


def _damaged(episode: Episode, error: Exception) -> SemoreError:
    remedy = remedy_for(episode.path, episode.attributes)
    return SemoreError(f"{episode.path} is damaged ({type(error).__name__}: {error}); {remedy}")


def _whole(group: zarr.Group, name: str) -> NDArray[Any]:
    """An array read whole; ValueError when a chunk is missing, which Zarr alone would take for zeros."""
    array = group[name]
    if not isinstance(array, zarr.Array) or array.nchunks_initialized < array.nchunks:
        raise ValueError(f"array {name!r} has missing chunks")
    return np.asarray(array[:])


class Digested(dict[str, NDArray[Any]]):
    """An episode's arrays, some of whose digests are known already: name → BLAKE2b-128 of all its bytes."""

    def __init__(self, arrays: Arrays, known: Mapping[str, bytes]) -> None:
        super().__init__(arrays)
        self.known = known


def checksum(arrays: Arrays) -> str:
    """BLAKE2b-128 (hex) over every array's name, shape, dtype and bytes, in name order."""
    known = arrays.known if isinstance(arrays, Digested) else {}
    parts: list[bytes] = []
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        parts += [f"{name}{array.shape}{array.dtype}".encode(), known.get(name) or digest16(array.data)]
    return digest16(*parts).hex()


def row_digests(*arrays: NDArray[Any]) -> NDArray[np.uint8]:
    """(N, 16) uint8: BLAKE2b-128 of each row's bytes and shapes, the arrays sharing their first dimension N."""
    end, rows = row_end(*arrays), [np.ascontiguousarray(array) for array in arrays]
    digests = [digest16(*(row[index].tobytes() for row in rows), end) for index in range(len(rows[0]))]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), 16)


def row_end(*arrays: NDArray[Any]) -> bytes:
    """The shapes, as they are digested behind each row's bytes."""
    return str([(array.shape[1:], str(array.dtype)) for array in arrays]).encode()


class Rollouts:
    """A folder `<name>.zarr` of episodes. Many processes may read it; each writer writes whole episodes of its own
    names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> None:
        """Make the root group if there is none; SemoreError when the folder holds something else."""
        if (self.path / "zarr.json").exists():
            self._check_root()
            return
        if self.path.exists() and any(entry.name[0] != "." for entry in self.path.iterdir()):
            raise SemoreError(f"{self.path} exists and is no rollouts folder; choose another name or move it away")
        self.path.mkdir(parents=True, exist_ok=True)
        root = {"zarr_format": 3, "node_type": "group", "attributes": ROOT_ATTRIBUTES}
        write_json(self.path / "zarr.json", root)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One collector per folder: a second one is refused by name. What ends in an error before the first episode
        leaves no folder that was not there before."""
        new = not self.path.exists()
        with exclusive_lock(self.path.parent / f".{self.path.name}.lock", f"recording into {self.path}"):
            try:
                yield
            except BaseException:
                if new and self.path.exists() and not self.names():
                    shutil.rmtree(self.path)
                raise

    def sweep(self) -> int:
        """Remove half-written episodes of killed writers; call under `lock`."""
        return sweep_temporary(self.path)

    def names(self) -> list[str]:
        """Names of the complete episodes, sorted; temporary ones are never seen."""
        if not self.path.is_dir():
            return []
        return sorted(entry.name for entry in self.path.iterdir() if entry.is_dir() and entry.name[0] != ".")

    def episode(self, name: str) -> Episode:
        """One episode by name; SemoreError naming those with a similar name when there is none of that name, or saying
        what to do when it is damaged or of another schema version."""
        path = self.path / name
        if not path.is_dir():
            self._check_root()
            raise SemoreError(self._no_episode(name))
        try:
            attributes = dict(json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            raise SemoreError(f"{path} is not a recorded episode; {remedy_for(path)}") from None
        _check_version(path, attributes)
        if not attributes.get("complete"):
            raise SemoreError(f"{path} is not marked complete; {remedy_for(path, attributes)}")
        return Episode(name, path, Attributes(path, attributes))

    def _no_episode(self, name: str) -> str:
        names = self.names()
        known = f"it has {len(names)}: {names[0]} … {names[-1]}" if names else f"it has none: {self._record()}"
        hint = did_you_mean(name, names)
        return f"{self.path} has no episode {name!r}; {hint + ' ' if hint else ''}{known}"

    def _record(self) -> str:
        """Which scenario is missed here, and under which preset, only the command knows that misses it."""
        made = command("collect", {"rollouts": self.path})
        return f"record it: `{made}`, with the scenario and preset that are meant"

    def episodes(self) -> Iterator[Episode]:
        """Every complete episode in name order; SemoreError when the folder is missing or of another version."""
        self._check_root()
        return (self.episode(name) for name in self.names())

    def write(self, name: str, arrays: Arrays, attributes: Mapping[str, Any]) -> None:
        """Write an episode whole: temporary folder, fsync, rename. `arrays` must be exactly those of the schema.

        SemoreError on a wrong set of arrays or a full disk; then nothing of the episode stays behind.
        """
        expected = {**FRAME_ARRAYS, **STEP_ARRAYS}
        if {key: str(value.dtype) for key, value in arrays.items()} != expected:
            raise SemoreError(f"episode {name}: arrays {sorted(arrays)} do not follow the schema {sorted(expected)}")
        steps = len(arrays["action"])
        wrong = [key for key, value in arrays.items() if len(value) != steps + (key in FRAME_ARRAYS)]
        if wrong:
            raise SemoreError(f"episode {name}: {sorted(wrong)} do not have one row per frame or step of {steps} steps")
        temporary = self.path / f".tmp-{os.getpid()}-{name}"
        try:
            own = {"schema_version": SCHEMA_VERSION, "steps": steps, "checksum": checksum(arrays), "complete": True}
            write_group(temporary, arrays, {**attributes, **own}, CHUNK_FRAMES)
            os.rename(temporary, self.path / name)
            fsync_path(self.path)
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise SemoreError(
                    f"{self.path}: the disk is full; episode {name} was not kept. Free some space and run the same "
                    "command again: finished episodes stay"
                ) from None
            raise

    def fingerprint(self, names: Iterable[str] | None = None) -> str:
        """BLAKE2b-128 (hex) over the names and checksums of the named (default: all) episodes."""
        chosen = self.names() if names is None else sorted(names)
        return digest_json([[name, self.episode(name).attributes["checksum"]] for name in chosen]).hex()

    def _check_root(self) -> None:
        try:
            attributes = json.loads((self.path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        except FileNotFoundError:
            others = (each.parent.stem for each in self.path.parent.glob("*.zarr/zarr.json"))
            hint = did_you_mean(self.path.stem, others)
            raise SemoreError(f"{self.path} does not exist; {hint or self._record()}") from None
        except (json.JSONDecodeError, KeyError):
            raise SemoreError(f"{self.path}/zarr.json is torn; move {self.path} away and {self._record()}") from None
        if attributes.get("format") != ROOT_ATTRIBUTES["format"]:
            raise SemoreError(f"{self.path} is a Zarr folder, but not of Semore rollouts; choose another name")
        _check_version(self.path, attributes)


def _check_version(path: Path, attributes: Mapping[str, Any]) -> None:
    found = attributes.get("schema_version")
    if found != SCHEMA_VERSION:
        raise SemoreError(
            f"{path} has schema version {found}, this code reads {SCHEMA_VERSION}; record it again with this version "
            "or read it with the code that wrote it"
        )
