"""What each knowledge set and run needs of the cache, and what all admin commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from semore.datasets.atomic_io import digest_json
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.cache import SetManifest, pins_path, read_manifest, read_pins, set_names
from semore.datasets.knowledge.records import LEVELS, Digests, Identity, LevelName
from semore.datasets.knowledge.shards import producer_json

LOCK: Final = ".ledger.lock"
"""Held by `gc` and `compact`: one at a time per cache."""
PLAIN_WIDTH: Final = 160
"""Columns of tables that go into a file or a pipe."""
PINS: Final = "knowledge_used.npy"
"""A run's pins."""


@dataclass(frozen=True)
class CacheCommand:
    """The settings that all commands on the cache have in common."""

    _: KW_ONLY
    data: str = "data"
    """Folder of all recorded data; the cache is <data>/knowledge."""
    json: bool = False
    """Print JSON instead of text."""

    @property
    def root(self) -> Path:
        """The cache folder; SemoreError when there is none."""
        root = Path(self.data) / "knowledge"
        if not root.is_dir():
            raise SemoreError(f"{root} does not exist: nothing is annotated there yet; name another folder by --data")
        return root

    def show(self, report: Any, lines: Iterable[Any]) -> None:
        """Print the report: its JSON, or lines and tables for people."""
        if self.json:
            print(json.dumps(report, indent=2, ensure_ascii=False))
            return
        console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
        for line in lines:
            console.print(line, highlight=False, markup=False, soft_wrap=isinstance(line, str))


@dataclass(frozen=True)
class Roots:
    """What the cache is kept for: per level the producers (JSON) that some knowledge set names, and the record digests
    (M, 16) that runs and sets pin."""

    producers: Mapping[LevelName, frozenset[str]]
    pins: Digests
    sets: tuple[str, ...]
    runs: tuple[str, ...]


def find_roots(root: Path, runs: Sequence[Path]) -> Roots:
    """The roots of the cache `root`: its sets, and the runs below the folders `runs`. SemoreError when one of them
    cannot be read, since its needs are then unknown."""
    names = set_names(root)
    pinned = [path for name in names if (path := pins_path(root, name)).exists()]
    found = sorted(path for folder in runs if folder.is_dir() for path in folder.rglob(PINS))
    return Roots(
        {level: frozenset(set_producers(root, level).values()) for level in LEVELS},
        np.unique(np.concatenate([np.zeros((0, 16), np.uint8), *map(read_pins, pinned + found)]), axis=0),
        tuple(names),
        tuple(str(path.parent) for path in found),
    )


def producer_of(manifest: SetManifest, level: LevelName) -> Identity | None:
    """The set's producer of a level; None for a set without a judge."""
    return {"texts": manifest.describer, "masks": manifest.segmenter, "verdicts": manifest.judge}[level]


def set_producers(root: Path, level: LevelName) -> dict[str, str]:
    """Knowledge set → its producer of a level (JSON), of the sets of a cache that have one."""
    found = {name: producer_of(read_manifest(root, name), level) for name in set_names(root)}
    return {name: producer_json(identity) for name, identity in found.items() if identity is not None}


def summary(identity: Identity | None) -> str:
    """A producer in few words: kind, model, rules, weights, prompt, and the start of its identity's digest."""
    if identity is None:
        return "none"
    words = [str(identity[key])[:40] for key in ("kind", "model", "rules", "weights", "prompt") if identity.get(key)]
    return f"{' '.join(words)} [{digest_json(dict(identity)).hex()[:8]}]"


def changes(old: Identity | None, new: Identity | None) -> list[str]:
    """In which fields two producers differ: "prompt: 1a2b → 3c4d"."""
    before, after = dict(old or {}), dict(new or {})
    return [
        f"{key}: {before.get(key, 'none')} → {after.get(key, 'none')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
