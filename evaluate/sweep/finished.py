"""A finished run of a sweep: its episodes, its summary, and what other runs must be equal in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semore.evaluate.claims import Trained, trained
from semore.evaluate.episodes import Row
from semore.evaluate.sweep.points import Point


@dataclass(frozen=True)
class Result:
    """A finished run of a sweep: its episodes and its summary.json."""

    point: Point
    seed: int
    folder: Path
    rows: Sequence[Row]
    summary: Mapping[str, Any]

    @property
    def trained(self) -> Trained:
        """What other runs must be equal in; all that a sweep changes on purpose is in the point."""
        rollouts = self.summary.get("rollouts", "unknown")
        return trained(self.seed, self.summary["updates"], rollouts, dict(self.point.settings))
