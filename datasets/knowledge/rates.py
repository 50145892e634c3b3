"""What answers cost, for estimates: the speed of a set's producers in their last pass, and the disk records take.

Speeds are kept in `rates.json` in the cache folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from semore.datasets.atomic_io import read_json, write_json
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.cache import SetManifest
from semore.datasets.knowledge.level import Level, shard_sizes
from semore.datasets.knowledge.records import Identity
from semore.datasets.knowledge.shards import producer_json

GUESSED_PHRASES: Final = 3.0
"""Per frame, before any text was read."""
GUESSED_BYTES: Final = 250.0
"""Disk per record, before anything was measured: with a sparse 128x128 mask; soft masks take more."""


def seconds_per_frame(root: Path, manifest: SetManifest) -> float | None:
    """A worker's seconds per frame with the set's producers in their last pass; None before the first."""
    return _read(root).get(_names(manifest))


def remember_rate(root: Path, manifest: SetManifest, seconds: float) -> None:
    """Store the measured seconds per frame for the next cost estimate."""
    write_json(root / "rates.json", _read(root) | {_names(manifest): seconds})


def bytes_per_record(levels: Sequence[Level], producer: Identity | None = None) -> float:
    """Mean disk of the levels' records: of those by a producer, where it has made any, else of all."""
    records = size = 0
    for level in levels:
        index, sizes = level.index, shard_sizes(level.folder)
        counts = np.bincount(index.table().shard, minlength=len(index.shards)).tolist()
        own = [n for n, name in enumerate(index.producers) if producer and name == producer_json(producer)]
        for number in own or range(len(index.shards)):
            records += counts[number]
            size += sizes.get(index.shards[number], 0)
    return size / records if records else GUESSED_BYTES


def duration(seconds: float) -> str:
    """A number of seconds as text for people."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _names(manifest: SetManifest) -> str:
    return ", ".join(
        f"{(part or {}).get('kind')} {(part or {}).get('id', '')}".strip()
        for part in (manifest.describer, manifest.segmenter, manifest.judge)
    )


def _read(root: Path) -> dict[str, float]:
    try:
        return {str(names): float(rate) for names, rate in read_json(root / "rates.json").items()}
    except (SemoreError, AttributeError, TypeError, ValueError):  # only a forecast hangs on it
        return {}
