"""The frames that a contact sheet shows: the worst, the typical, and those without knowledge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from semore.annotate.audit.contact_sheet import SheetRow
from semore.annotate.audit.frames import Frames, read_frames
from semore.annotate.audit.measure import Audit, Score
from semore.annotate.oracle.rules import MIN_PIXELS
from semore.datasets.knowledge.cache import KnowledgeSet
from semore.datasets.rollouts.store import Episode

GAPS: Final = (1_000_000, 100, 20, 0)
"""Frames of one episode are chosen so far apart, as long as there are enough: first from different episodes."""


class Pick(NamedTuple):
    """A frame to show, with the reason."""

    score: Score
    why: str


def pick_frames(audit: Audit, count: int) -> list[Pick]:
    """At most `count` frames: up to a quarter without knowledge, up to half of the rest the worst (most wrong pixels,
    which matters more than the IoU of a few), and the typical (IoU nearest the median)."""
    failed = [score for score in audit.scores if score.reason]
    scored = [score for score in audit.scores if score.iou == score.iou]
    bad = [score for score in scored if score.wrong]
    median = float(np.median([score.iou for score in scored])) if scored else 0.0
    picks: list[Pick] = []

    def choose(scores: list[Score], why: str, wanted: int, order: Callable[[Score], float]) -> None:
        ordered = sorted(scores, key=order)
        enough = len(picks) + min(wanted, len(scores))
        for gap in GAPS:
            for score in ordered:
                if len(picks) >= enough:
                    return
                if all(score.episode != pick.score.episode or abs(score.row - pick.score.row) > gap for pick in picks):
                    picks.append(Pick(score, why))

    choose(failed, "no knowledge", -(-count // 4), lambda _: 0.0)
    choose(bad, "worst", (count - len(picks)) // 2, lambda score: -score.wrong)
    choose(scored, "typical", count - len(picks), lambda score: abs(score.iou - median))
    reasons = ("typical", "worst", "no knowledge")
    return sorted(picks, key=lambda pick: (reasons.index(pick.why), -pick.score.wrong, pick.score[:2]))


def sheet_rows(knowledge: KnowledgeSet, episodes: Sequence[Episode], audit: Audit, count: int) -> list[SheetRow]:
    """The picked frames as rows of a contact sheet, read again from the rollouts and the cache."""
    picks = pick_frames(audit, count)
    found: dict[tuple[str, int], SheetRow] = {}
    for episode in episodes:
        wanted = {pick.score.row: pick for pick in picks if pick.score.episode == episode.name}
        for part in read_frames(knowledge, episode, np.array(sorted(wanted), np.int64)):
            for index, row in enumerate(part.rows.tolist()):
                found[episode.name, row] = _row(part, index, wanted[row], audit.threshold)
    return [found[pick.score.episode, pick.score.row] for pick in picks]


def _row(part: Frames, index: int, pick: Pick, threshold: float) -> SheetRow:
    about = part.episode.attributes
    place = [str(about[name]) for name in ("scenario", "weather") if name in about]
    lit = {
        part.phrases[at]: bool((part.masks[at] > 255 * threshold).sum() >= MIN_PIXELS)
        for at in np.flatnonzero(part.owners == index)
    }
    return SheetRow(
        label=(pick.why, " · ".join(place), f"{part.episode.name}:{part.rows[index]}"),
        rgb=part.batch.rgb[index],
        phrases=lit,
        mask=part.h_ka[index],
        truth=part.truth.mask[index],
        iou=pick.score.iou,
        reason=part.reasons[index],
    )
