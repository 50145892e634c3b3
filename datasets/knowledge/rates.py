"""The speed of a set's producers in their last pass, for cost estimates: `rates.json` in the cache folder."""

from __future__ import annotations

from pathlib import Path

from semore.datasets.atomic_io import read_json, write_json
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.cache import SetManifest


def seconds_per_frame(root: Path, manifest: SetManifest) -> float | None:
    """A worker's seconds per frame with the set's producers in their last pass; None before the first."""
    return _read(root).get(_names(manifest))


def remember_rate(root: Path, manifest: SetManifest, seconds: float) -> None:
    """Store the measured seconds per frame for the next cost estimate."""
    write_json(root / "rates.json", _read(root) | {_names(manifest): seconds})


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
