"""What a pass of annotation did, as people read it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from datasets.knowledge_records import LEVELS, Status

SHOWN_PHRASES: Final = 15
SHOWN_REASONS: Final = 5


@dataclass
class Summary:
    """Of a pass or of one share. `statuses[level]` counts the records made, `calls[level]` the producer calls."""

    frames: int = 0
    """All frames knowledge is wanted for."""
    todo: int = 0
    """Of these, the ones that missed any and equal no other of them."""
    done: int = 0
    """Of those, the ones worked on."""
    seconds: float = 0.0
    """Of work, summed over the workers."""
    wall: float = 0.0
    """Seconds by the clock."""
    statuses: dict[str, Counter[str]] = field(default_factory=lambda: {level: Counter() for level in LEVELS})
    calls: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LEVELS, 0))
    phrases: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    mask_pixels: float = 0.0
    """Sum over the masks made of their mean in [0, 1]."""
    reasonable: int = 0
    """Verdicts of 1."""
    deaths: int = 0
    """Workers that died."""

    @property
    def cached(self) -> int:
        """Frames with nothing to do."""
        return self.frames - self.todo

    @property
    def failed(self) -> int:
        """Records that failed."""
        return sum(counts["failed"] for counts in self.statuses.values())

    def count(self, level: str, status: int, reason: str) -> None:
        """Note one record made."""
        self.statuses[level][Status(status).name.lower()] += 1
        if reason:
            self.reasons[f"{level}: {reason}"] += 1

    def merge(self, other: Summary) -> Summary:
        """Add another one's counts; returns itself."""
        self.frames += other.frames
        self.todo += other.todo
        self.done += other.done
        self.seconds += other.seconds
        self.wall += other.wall
        for level in LEVELS:
            self.statuses[level].update(other.statuses[level])
            self.calls[level] += other.calls[level]
        self.phrases.update(other.phrases)
        self.reasons.update(other.reasons)
        self.mask_pixels += other.mask_pixels
        self.reasonable += other.reasonable
        self.deaths += other.deaths
        return self

    def plain(self) -> dict[str, Any]:
        """Its counts as JSON values."""
        return {
            "frames": self.frames, "todo": self.todo, "done": self.done, "seconds": round(self.seconds, 3),
            "wall": round(self.wall, 3),
            "records": {level: dict(counts) for level, counts in self.statuses.items()}, "calls": self.calls,
            "failures": dict(self.reasons), "deaths": self.deaths,
        }  # fmt: skip

    def show(self, console: Console) -> None:
        """Print it."""
        rate = f"{self.wall:.1f} s, {self.done / max(self.wall, 1e-9):,.1f} frames/s"
        table = Table("level", "model calls", "ok", "empty", "failed")
        for level in LEVELS:
            counts = (self.statuses[level][Status(status).name.lower()] for status in Status)
            table.add_row(level, *(f"{count:,}" for count in (self.calls[level], *counts)))
        if self.done:
            console.print(table)
        lines = [
            f"{self.frames:,} frames, {self.cached:,} of them known or repeated before; "
            + (f"{self.done:,} done in {rate}" if self.done else "no work")
        ]
        if self.done < self.todo:
            lines.append(f"{self.todo - self.done:,} frames stay without knowledge for now: no semantic loss on them")
        if self.deaths:
            lines.append(f"{self.deaths} workers died; their frames were dealt again")
        masks, judged = self.statuses["masks"].total(), self.statuses["verdicts"]["ok"]
        if masks:
            lines.append(f"mean mask {100 * self.mask_pixels / masks:.2f}% of the picture")
        if judged:
            lines.append(f"{100 * self.reasonable / judged:.0f}% of the actions judged reasonable")
        lines += [f"{count:>9,} x {phrase}" for phrase, count in self.phrases.most_common(SHOWN_PHRASES)]
        lines += [f"{count:>9,} x not ok: {reason}" for reason, count in self.reasons.most_common(SHOWN_REASONS)]
        for line in lines:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
