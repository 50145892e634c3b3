"""The summary of an annotation pass: records made, producer calls, failures, and time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from semore.annotate.scheduling.plan import Plan
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.records import LEVELS, Status

SHOWN_PHRASES: Final = 15
SHOWN_REASONS: Final = 5
STUBBORN: Final = 0.05
"""Failures beside so many answers known before, as a share of them, are taken for the frames' own fault, even if the
pass asked about nothing else: a server's content filter refuses the same picture each time."""
_PRODUCER: Final = dict(zip(LEVELS, ("describer", "segmenter", "judge"), strict=True))


@dataclass
class Summary:
    """Counts of a pass or of one chunk: `statuses[level]` of the records made, `calls[level]` of the producer calls."""

    frames: int = 0
    """All frames that knowledge is wanted for."""
    todo: int = 0
    """Distinct frames among these that lacked any knowledge."""
    done: int = 0
    """Frames that were worked on."""
    seconds: float = 0.0
    """Seconds of work, summed over the workers."""
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
    known: Counter[str] = field(default_factory=Counter)
    """By level: answers known before."""

    @staticmethod
    def of(plan: Plan) -> Summary:
        """Of a pass over the plan that has yet to begin."""
        return Summary(frames=plan.frames, todo=plan.todo, phrases=plan.phrases.copy(), known=plan.known.copy())

    @property
    def cached(self) -> int:
        """Frames with nothing to do."""
        return self.frames - self.todo

    @property
    def failed(self) -> int:
        """Records that failed."""
        return sum(counts["failed"] for counts in self.statuses.values())

    @property
    def answered(self) -> int:
        """Records made that are answers, good or empty."""
        return sum(self._answers(level) for level in LEVELS)

    @property
    def refusal(self) -> str:
        """Why the pass counts as failed, "" when it does not: a producer answered nothing that it was asked."""
        for level in LEVELS:
            failed = self.statuses[level]["failed"]
            if not self._answers(level) and failed > STUBBORN * self.known[level]:
                ours = {said: n for said, n in self.reasons.items() if said.startswith(f"{level}: ")}
                often = max(ours, key=lambda said: ours[said], default="")
                return (
                    f"the {_PRODUCER[level]} answered none of {failed:,} questions; {ours.get(often, 0):,} times: "
                    f"{often.removeprefix(f'{level}: ') or 'no reason given'}. Mend that and run the same command "
                    "again: what failed is asked again, what is known stays"
                )
        if self.frames and not self.todo and not self.known["texts"]:
            return f"all {self.frames:,} frames failed in earlier passes; run again with --retry_failed true"
        return ""

    def require_answers(self) -> None:
        """SemoreError when the pass counts as failed."""
        if self.refusal:
            raise SemoreError(self.refusal)

    def _answers(self, level: str) -> int:
        return self.statuses[level]["ok"] + self.statuses[level]["empty"]

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
        self.known.update(other.known)
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
            lines.append(f"{self.deaths} workers died; their frames were handed out again")
        masks, judged = self.statuses["masks"].total(), self.statuses["verdicts"]["ok"]
        if masks:
            lines.append(f"mean mask {100 * self.mask_pixels / masks:.2f}% of the picture")
        if judged:
            lines.append(f"{100 * self.reasonable / judged:.0f}% of the actions judged reasonable")
        lines += [f"{count:>9,} x {phrase}" for phrase, count in self.phrases.most_common(SHOWN_PHRASES)]
        lines += [f"{count:>9,} x not ok: {reason}" for reason, count in self.reasons.most_common(SHOWN_REASONS)]
        for line in lines:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
