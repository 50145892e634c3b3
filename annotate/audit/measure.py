"""What an audit finds, counted from frames as they stream by."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semore.annotate.audit.alignment import Alignment
from semore.annotate.audit.frames import Frames
from semore.annotate.audit.metrics import OBJECT_SHARE, Actors, Change, Masks, Overlap, Phrases, share
from semore.annotate.audit.truth import CLASSES, noun_of
from semore.annotate.oracle.rules import MIN_PIXELS, pixels

DISTANCES: Final = (10.0, 20.0, 40.0, 60.0)
"""Bounds (m) of the distance bands."""
BANDS: Final = ("0–10 m", "10–20 m", "20–40 m", "40–60 m", "60+ m")
NEIGHBOURS: Final = 2
"""Frames at most this many simulator steps apart count as neighbours for flicker."""


class Score(NamedTuple):
    """A sampled frame: wrong pixels, IoU (NaN without knowledge, or of nothing with nothing), why there is none."""

    episode: str
    row: int
    wrong: int
    iou: float
    reason: str


@dataclass
class Audit:
    """What was found. Comparisons are over the sampled frames that have knowledge (`overall.frames`); a mask is bright
    where H_ka exceeds `threshold`, and empty below MIN_PIXELS bright pixels, as an actor is unseen below them."""

    knowledge: str
    threshold: float
    texts: Counter[str]
    """All frames by the status of their text: `ok`, `empty`, `failed`, or `missing`."""
    frames: int = 0
    """Sampled frames: described ones, spread over the episodes."""
    without: int = 0
    """Sampled frames without knowledge: the text or a mask is empty, failed or missing."""
    reasons: Counter[str] = field(default_factory=Counter)
    overall: Overlap = field(default_factory=Overlap)
    weathers: dict[str, Overlap] = field(default_factory=lambda: defaultdict(Overlap))
    classes: dict[str, Actors] = field(default_factory=lambda: {name: Actors() for name in CLASSES})
    distances: dict[str, Actors] = field(default_factory=lambda: {band: Actors() for band in BANDS})
    phrases: dict[str, Phrases] = field(default_factory=lambda: defaultdict(Phrases))
    change: Change = field(default_factory=Change)
    staying: int = 0
    """Key actors that are in view in two neighbouring frames."""
    blinking: int = 0
    """Staying actors found in only one of the two frames: flicker that no motion explains."""
    shown: int = 0
    """Frames with key objects in view."""
    empty: int = 0
    """Shown frames with an empty mask."""
    shown_named: int = 0
    """Frames with key objects in view and at least one phrase."""
    empty_named: int = 0
    """Named frames with an empty mask."""
    absent: int = 0
    """Frames without key objects in view."""
    alarms: int = 0
    """Absent frames with a mask that is not empty."""
    phrase_sets: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """Sets of phrases of frames that have any."""
    truth_sets: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """The truth's sets of phrases, on the same frames."""
    alignment: Alignment = field(default_factory=Alignment)
    value_sum: float = 0.0
    peak_sum: float = 0.0
    scores: list[Score] = field(default_factory=list)
    """Every sampled frame."""

    @property
    def brightness(self) -> float:
        """Mean value of H_ka in [0, 1]."""
        return share(self.value_sum, self.overall.frames)

    @property
    def peak(self) -> float:
        """Mean over the frames with objects and phrases of H_ka's highest value."""
        return share(self.peak_sum, self.shown_named)

    @property
    def frame_iou(self) -> float:
        """Mean of the frames' own IoU: every frame counts alike, however small its objects."""
        known = [score.iou for score in self.scores if score.iou == score.iou]
        return share(sum(known), len(known))

    @property
    def empty_rate(self) -> float:
        """Share of the frames with key objects in view whose mask is empty."""
        return share(self.empty, self.shown)

    @property
    def alarm_rate(self) -> float:
        """Share of the frames without key objects in view whose mask is not empty."""
        return share(self.alarms, self.absent)

    @property
    def blink_rate(self) -> float:
        """Share of the key actors in view in two neighbouring frames that are found in only one."""
        return share(self.blinking, self.staying)

    @property
    def without_rate(self) -> float:
        """Share of the described frames that have no knowledge."""
        return share(self.without, self.frames)

    def phrases_of_class(self, name: str) -> Phrases:
        """All phrases that count for a class, or for OTHER, together."""
        total = Phrases()
        for phrase, tally in self.phrases.items():
            if noun_of(phrase).counts == name:
                total += tally
        return total


def count(audit: Audit, part: Frames) -> None:
    """Add frames to the audit. Neighbours that fall into different parts are not compared with each other."""
    compared = part.valid & part.truth.known
    bright = _bright(audit, part)
    audit.frames += len(part.rows)
    audit.without += int((~part.valid).sum())
    audit.reasons.update(reason for reason in part.reasons if reason)
    _score(audit, part, bright)
    for overlap in (audit.overall, audit.weathers[str(part.episode.attributes.get("weather", "unknown"))]):
        overlap.add(bright[compared], part.truth.mask[compared])
    audit.alignment.add(bright[compared], part.truth.mask[compared])
    _count_frames(audit, part, bright, compared)
    _count_phrases(audit, part, compared)
    neighbours = (np.diff(part.rows) <= NEIGHBOURS) & compared[:-1] & compared[1:]
    audit.change.add(bright, part.truth.mask, neighbours)
    _count_actors(audit, part, bright, compared, neighbours)


def _bright(audit: Audit, part: Frames) -> Masks:
    bright: Masks = part.h_ka > 255 * audit.threshold
    return bright


def _score(audit: Audit, part: Frames, bright: Masks) -> None:
    wrong = (bright ^ part.truth.mask).sum((1, 2))
    union = (bright | part.truth.mask).sum((1, 2))
    for index, (row, reason) in enumerate(zip(part.rows.tolist(), part.reasons, strict=True)):
        if part.truth.known[index]:
            iou = float("nan") if reason else share(int(union[index] - wrong[index]), int(union[index]))
            audit.scores.append(Score(part.episode.name, row, int(wrong[index]), iou, reason))


def _count_frames(audit: Audit, part: Frames, bright: Masks, compared: NDArray[np.bool_]) -> None:
    shown = compared & (part.truth.mask.sum((1, 2)) >= MIN_PIXELS)
    named = np.bincount(part.owners, minlength=len(part.rows)) > 0
    empty = bright.sum((1, 2)) < MIN_PIXELS
    audit.shown += int(shown.sum())
    audit.empty += int((shown & empty).sum())
    audit.shown_named += int((shown & named).sum())
    audit.empty_named += int((shown & named & empty).sum())
    audit.absent += int((compared & ~shown).sum())
    audit.alarms += int((compared & ~shown & ~empty).sum())
    audit.value_sum += float(part.h_ka[compared].mean((1, 2)).sum()) / 255
    audit.peak_sum += float(part.h_ka[shown & named].max((1, 2)).sum(dtype=np.int64)) / 255
    for frame in np.flatnonzero(named & part.truth.known).tolist():
        audit.phrase_sets[tuple(sorted(part.phrases_of(frame)))] += 1
        audit.truth_sets[tuple(sorted(part.truth.phrases[frame]))] += 1


def _count_actors(
    audit: Audit, part: Frames, bright: Masks, compared: NDArray[np.bool_], neighbours: NDArray[np.bool_]
) -> None:
    truth, instance = part.truth, part.batch.instance
    total, covered = pixels(instance, truth.id), pixels(np.where(bright, instance, 0), truth.id)
    said = np.zeros((len(part.rows), len(CLASSES)), np.bool_)
    for owner, phrase in zip(part.owners.tolist(), part.phrases, strict=True):
        said[owner, [CLASSES.index(name) for name in noun_of(phrase).right]] = True
    named = np.take_along_axis(said, truth.kind, axis=1)
    key = truth.key & compared[:, None]
    band = np.digitize(truth.distance, DISTANCES)
    for tallies, group in ((audit.classes, truth.kind), (audit.distances, band)):
        for index, tally in enumerate(tallies.values()):
            chosen = key & (group == index)
            tally.add(named[chosen], total[chosen], covered[chosen])
    found = covered >= OBJECT_SHARE * total
    stays = key[:-1] & key[1:] & (truth.id[:-1] == truth.id[1:]) & neighbours[:, None]
    audit.staying += int(stays.sum())
    audit.blinking += int((stays & (found[:-1] != found[1:])).sum())


def _count_phrases(audit: Audit, part: Frames, compared: NDArray[np.bool_]) -> None:
    for index, (owner, phrase) in enumerate(zip(part.owners.tolist(), part.phrases, strict=True)):
        if not compared[owner]:
            continue
        lit = part.masks[index] > 255 * audit.threshold
        area, right = int(lit.sum()), noun_of(phrase).right
        on_key = int((lit & part.truth.mask[owner]).sum())
        on_class = int((lit & part.truth.pixels_of(part.batch, owner, right)).sum()) if right else on_key
        audit.phrases[phrase] += Phrases(1, int(area >= MIN_PIXELS), area, on_key, on_class)
