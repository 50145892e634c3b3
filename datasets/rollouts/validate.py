"""`validate`: check that every recorded episode is whole and as the schema says, and sum up what was recorded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from semore.datasets.command_line import MANY
from semore.datasets.cores import cores
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.admin.needs import CacheCommand
from semore.datasets.progress import meter
from semore.datasets.rollouts.inventory import folders
from semore.datasets.rollouts.remedy import recorded_here, remedy_for
from semore.datasets.rollouts.schema import (
    ACTOR_FIELDS,
    EGO_FIELDS,
    FRAME_ARRAYS,
    SCHEMA_VERSION,
    STEP_ARRAYS,
    split_of,
)
from semore.datasets.rollouts.store import Episode, Rollouts, checksum, row_digests

REQUIRED: Final = (
    "scenario", "weather", "seed", "split", "policy", "action_repeat", "reward", "camera", "ending", "total_reward",
    "steps", "checksum",
)  # fmt: skip
"""Attributes the other stages rest on."""
ALIKE: Final = ("camera",)
"""Attributes in which the episodes of a folder must agree: masks and frames are read at one size."""


@dataclass(frozen=True)
class Finding:
    """Something wrong with a file or folder, and what to do about it."""

    path: str
    problem: str
    remedy: str


@dataclass(frozen=True)
class Validate(CacheCommand):
    """Read every recorded episode whole: torn or missing chunks, checksums, the digests of frames and states, missing
    or foreign arrays, attributes and layouts that do not follow the schema. Says what to do about each; the exit code
    is then 1. For the knowledge cache there is `verify`."""

    rollouts: tuple[str, ...] = field(default=(), metadata=MANY)
    """Names of rollouts folders under <data>/rollouts, or paths ending in .zarr; default all."""

    def execute(self) -> int:
        """Check and report; 1 when something is wrong."""
        chosen = folders(self.data, self.rollouts)
        findings = [finding for folder in chosen for finding in validate(folder)]
        self.show([asdict(each) for each in findings], _lines(chosen, findings))
        return int(bool(findings))


def validate(folder: Path) -> list[Finding]:
    """Everything wrong with a rollouts folder; [] when it is sound."""
    rollouts = Rollouts(folder)
    try:
        rollouts.episodes()
    except SemoreError as error:
        return [
            _finding(
                folder, error, f"move it away and collect again with --rollouts {folder} and what it was recorded with"
            )
        ]
    names = rollouts.names()
    threads = cores()
    with meter(f"validate {folder.name}", len(names), "episodes") as progress, ThreadPoolExecutor(threads) as pool:
        found = []
        for each in pool.map(lambda name: list(_episode(rollouts, name)), names):
            progress.advance()
            found += each
    return found + list(
        _unlike(rollouts, [name for name in names if str(folder / name) not in {f.path for f in found}])
    )


def _episode(rollouts: Rollouts, name: str) -> Iterator[Finding]:
    path = rollouts.path / name
    try:
        episode = rollouts.episode(name)
    except SemoreError as error:
        yield _finding(path, error)
        return
    again, ours = remedy_for(path, episode.attributes), recorded_here(path, episode.attributes)
    missing = [key for key in REQUIRED if key not in episode.attributes]
    if missing:
        remedy = again if ours else "add them to the attributes in its zarr.json (docs/formats.md)"
        yield Finding(str(path), f"attributes {', '.join(missing)} are missing", remedy)
        return
    wrong = list(_layout(episode))
    yield from (Finding(str(path), problem, again) for problem in wrong)
    if wrong:
        return
    try:
        arrays = episode.read(*FRAME_ARRAYS, *STEP_ARRAYS)
    except SemoreError as error:
        yield _finding(path, error)
        return
    yield from (Finding(str(path), problem, again) for problem in _contents(episode.attributes, arrays))


def _layout(episode: Episode) -> Iterator[str]:
    """Arrays, shapes and dtypes against the schema."""
    camera, steps = int(episode.attributes["camera"]), episode.steps
    inner: dict[str, tuple[int | None, ...]] = {
        "rgb": (camera, camera, 3), "semantic": (camera, camera), "instance": (camera, camera),
        "actors": (None, len(ACTOR_FIELDS)), "ego": (len(EGO_FIELDS),), "digest": (16,), "state_digest": (16,),
        "action": (2,),
    }  # fmt: skip
    found = episode.layout()
    if absent := sorted((FRAME_ARRAYS.keys() | STEP_ARRAYS.keys()) - found.keys()):
        yield f"arrays {', '.join(absent)} are missing"
    if foreign := sorted(found.keys() - FRAME_ARRAYS.keys() - STEP_ARRAYS.keys()):
        yield f"arrays {', '.join(foreign)} are not in schema {SCHEMA_VERSION}"
    for name, dtype in {**FRAME_ARRAYS, **STEP_ARRAYS}.items():
        if name not in found:
            continue
        shape, own = found[name]
        expected = (steps + (name in FRAME_ARRAYS), *inner.get(name, ()))
        fits = len(shape) == len(expected) and all(b is None or a == b for a, b in zip(shape, expected, strict=True))
        if own != dtype or not fits:
            asked = " × ".join("any" if each is None else str(each) for each in expected)
            yield f"array {name} is {own} {' × '.join(map(str, shape))}, the schema says {dtype} {asked}"


def _contents(attributes: Mapping[str, Any], arrays: Mapping[str, Any]) -> Iterator[str]:
    """Checksum, digests, and what attributes and arrays say twice."""
    if (found := checksum(arrays)) != attributes["checksum"]:
        yield f"checksum is {found}, expected {attributes['checksum']}: the arrays are not those that were recorded"
    frames = (row_digests(arrays["rgb"]) != arrays["digest"]).any(axis=1)
    states = row_digests(*(arrays[name] for name in ("ego", "actors", "semantic", "instance")))
    for name, differ in (("digest", frames), ("state_digest", (states != arrays["state_digest"]).any(axis=1))):
        if differ.any():
            yield f"{name} of {differ.sum()} frames, first {differ.argmax()}, is not that of the frame"
    if attributes["split"] != split_of(int(attributes["seed"])):
        yield f"split is {attributes['split']}, but seed {attributes['seed']} is {split_of(int(attributes['seed']))}"
    endless = ~np.isfinite(arrays["action"]).all(axis=1)
    if endless.any():
        yield f"action of {endless.sum()} steps, first {endless.argmax()}, is no finite number"
    total = float(arrays["reward"].sum(dtype=np.float64))
    if abs(total - float(attributes["total_reward"])) > 1e-3 * max(1.0, abs(total)):
        yield f"total_reward is {attributes['total_reward']:.3f}, the rewards sum to {total:.3f}"


def _unlike(rollouts: Rollouts, names: list[str]) -> Iterator[Finding]:
    """Episodes that differ from most of their folder where all must agree."""
    values = {name: rollouts.episode(name).attributes for name in names}
    for key in ALIKE:
        common = Counter(json.dumps(each[key]) for each in values.values()).most_common(1)
        for name, each in values.items():
            if json.dumps(each[key]) != common[0][0]:
                problem = f"{key} is {each[key]}, most of the folder have {common[0][0]}"
                yield Finding(str(rollouts.path / name), problem, "move it into a folder of its own with `split --by`")


def _finding(path: Path, error: SemoreError, remedy: str = "") -> Finding:
    """The error's own words; its remedy stands behind the last semicolon, and ours is said instead if there is one."""
    problem, _, own = str(error).rpartition("; ")
    return Finding(str(path), problem.removeprefix(f"{path}").lstrip(": "), remedy or own)


def _lines(chosen: list[Path], findings: list[Finding]) -> Iterator[str]:
    for each in findings:
        yield f"{each.path}: {each.problem}\n  remedy: {each.remedy}"
    damaged = {each.path for each in findings}
    for folder in chosen:
        own = [path for path in damaged if Path(path) == folder or Path(path).parent == folder]
        number = len(Rollouts(folder).names())
        yield f"{folder}: {number} episodes, " + (f"{len(own)} of them damaged" if own else "all sound")
