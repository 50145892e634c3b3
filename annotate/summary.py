"""What is said before and after annotating: the forecast line and the summary."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from annotate.plan import Plan, phrases_of
from datasets.errors import SemoreError
from datasets.files import read_json, write_json
from datasets.knowledge import KnowledgeCache, SetManifest
from datasets.knowledge_level import COMMIT_RECORDS
from datasets.knowledge_records import LEVELS, Status

GUESSED_SECONDS: Final = 0.001
"""Per frame, before anything was measured: right for the privileged producers."""
GUESSED_PHRASES: Final = 3.0
BYTES_PER_RECORD: Final = 250
"""Disk, with a sparse 128x128 mask; soft masks take more."""
BYTES_PER_PIXEL: Final = 7
"""rgb, semantic, instance and one mask, while an episode is worked on."""
SHOWN_PHRASES: Final = 15
SHOWN_REASONS: Final = 5
MEASURE_FRAMES: Final = 256
"""Frames a pass must have worked on for its rate to be kept."""


@dataclass
class Summary:
    """What a pass did. `statuses[level]` counts the records made, `calls[level]` the producer calls."""

    frames: int = 0
    cached: int = 0
    seconds: float = 0.0
    statuses: dict[str, Counter[str]] = field(default_factory=lambda: {level: Counter() for level in LEVELS})
    calls: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LEVELS, 0))
    phrases: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    mask_pixels: float = 0.0
    """Sum over the masks made of their mean in [0, 1]."""
    reasonable: int = 0
    """Verdicts of 1."""

    @property
    def done(self) -> int:
        """Frames that had anything to do."""
        return self.frames - self.cached

    def count(self, level: str, status: int, reason: str) -> None:
        """Note one record made."""
        self.statuses[level][Status(status).name.lower()] += 1
        if reason:
            self.reasons[f"{level}: {reason}"] += 1

    def show(self, console: Console) -> None:
        """Print the summary as people read it."""
        work = f"{self.seconds:.1f} s, {self.done / max(self.seconds, 1e-9):,.0f} frames/s" if self.done else "no work"
        table = Table("level", "model calls", "ok", "empty", "failed")
        for level in LEVELS:
            counts = (self.statuses[level][Status(status).name.lower()] for status in Status)
            table.add_row(level, *(f"{count:,}" for count in (self.calls[level], *counts)))
        if self.done:
            console.print(table)
        lines = [f"{self.frames:,} frames, {self.cached:,} of them cached before; {work}"]
        masks, judged = self.statuses["masks"].total(), self.statuses["verdicts"]["ok"]
        if masks:
            lines.append(f"mean mask {100 * self.mask_pixels / masks:.2f}% of the picture")
        if judged:
            lines.append(f"{100 * self.reasonable / judged:.0f}% of the actions judged reasonable")
        lines += [f"{count:>9,} x {phrase}" for phrase, count in self.phrases.most_common(SHOWN_PHRASES)]
        lines += [f"{count:>9,} x not ok: {reason}" for reason, count in self.reasons.most_common(SHOWN_REASONS)]
        for line in lines:
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def forecast(plan: Plan, manifest: SetManifest, cache: KnowledgeCache) -> str:
    """One line: frames, cached, to do, time, memory, disk."""
    line = f"{plan.frames:,} frames in {len(plan.episodes)} episodes, {plan.frames - plan.todo:,} cached"
    if not plan.todo:
        return f"{line}: nothing to do"
    known = [len(phrases_of(text)) for part in plan.episodes for text in part.texts if text is not None]
    per_frame = sum(known) / len(known) if known else GUESSED_PHRASES
    masks = plan.masks + round(plan.missing("describe") * per_frame)
    rate = _read_rates(cache.root).get(_kinds(manifest))
    seconds = plan.todo * (rate or GUESSED_SECONDS)
    records = plan.missing("describe") + masks + plan.missing("judge")
    pixels = _frame_pixels(plan)
    memory = 2 * COMMIT_RECORDS * pixels + max(len(part.frames) for part in plan.episodes) * pixels * BYTES_PER_PIXEL
    return (
        f"{line}, {plan.todo:,} to do: {plan.missing('describe'):,} texts, about {masks:,} masks, "
        f"{plan.missing('judge'):,} verdicts; {'at the rate measured last' if rate else 'about'} {_duration(seconds)}, "
        f"{memory / 1e6:,.0f} MB of memory, about {max(records * BYTES_PER_RECORD / 1e6, 0.1):,.1f} MB of disk"
    )


def remember_rate(cache: KnowledgeCache, manifest: SetManifest, summary: Summary) -> None:
    """Keep the measured seconds per frame of these producers for the next forecast."""
    if summary.done >= MEASURE_FRAMES:
        rates = _read_rates(cache.root) | {_kinds(manifest): summary.seconds / summary.done}
        write_json(_rates_path(cache.root), rates)


def _kinds(manifest: SetManifest) -> str:
    return " ".join(str((part or {}).get("kind")) for part in (manifest.describer, manifest.segmenter, manifest.judge))


def _rates_path(root: Path) -> Path:
    return root / "rates.json"


def _read_rates(root: Path) -> dict[str, float]:
    try:
        return {str(kinds): float(rate) for kinds, rate in read_json(_rates_path(root)).items()}
    except (SemoreError, AttributeError, TypeError, ValueError):  # only a forecast hangs on it
        return {}


def _frame_pixels(plan: Plan) -> int:
    side = int(plan.episodes[0].episode.attributes.get("camera", 128))
    return side * side


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
