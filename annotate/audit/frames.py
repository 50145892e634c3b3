"""Recorded frames with their knowledge and their truth, streamed episode by episode."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.annotate.audit.truth import Truth, truth_of
from semore.annotate.interfaces import FrameBatch
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.cache import KnowledgeSet
from semore.datasets.knowledge.merge import merge_masks
from semore.datasets.knowledge.records import Digests, Phrases, Status, Text, mask_keys, record_keys
from semore.datasets.rollouts.store import Episode

BATCH: Final = 64
"""Frames held at once beside the episode they come from."""


@dataclass(frozen=True)
class Frames:
    """B frames at `rows` (B,) of an episode.

    masks (M, H, W) uint8: the phrase masks frame by frame, owners (M,) the frame of each, phrases the M phrases. h_ka
    (B, H, W) uint8. reasons: why there is no knowledge of a frame, "" where there is.
    """

    episode: Episode
    rows: NDArray[np.int64]
    batch: FrameBatch
    truth: Truth
    phrases: list[str]
    owners: NDArray[np.int64]
    masks: NDArray[np.uint8]
    h_ka: NDArray[np.uint8]
    reasons: list[str]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(B,) bool: there is knowledge of the frame, as KnowledgeSet.h_ka says."""
        return np.array([not reason for reason in self.reasons], np.bool_)

    def phrases_of(self, frame: int) -> list[str]:
        """The phrases of one frame."""
        return [self.phrases[index] for index in np.flatnonzero(self.owners == frame)]


def survey(knowledge: KnowledgeSet, episodes: Sequence[Episode]) -> tuple[list[NDArray[np.int64]], Counter[str]]:
    """The described rows of each episode, and the number of all frames by the status of their text: ok, empty, failed,
    or missing."""
    described: list[NDArray[np.int64]] = []
    counts: Counter[str] = Counter()
    for episode in episodes:
        arrays = episode.read("digest", "state_digest")
        keys = record_keys("texts", knowledge.manifest.describer, arrays["digest"], arrays["state_digest"])
        hits = knowledge.cache.texts.lookup(keys)
        described.append(np.flatnonzero(hits.found))
        for status in Status:
            counts[status.name.lower()] += int((hits.status == status).sum())
        counts["missing"] += int((~hits.found).sum())
    return described, counts


def spread(described: Sequence[NDArray[np.int64]], frames: int | None) -> list[NDArray[np.int64]]:
    """At most `frames` of each episode's rows (None: all), evenly spread, in pairs of neighbours so that flicker can be
    seen."""
    total = sum(map(len, described))
    if frames is None or frames >= total:
        return list(described)
    starts = np.linspace(0, max(total - 2, 0), max(frames // 2, 1)).round().astype(np.int64)
    chosen = np.unique(np.concatenate([starts, starts + 1]) if frames > 1 else starts)
    ends = np.cumsum([len(rows) for rows in described])
    return [
        rows[chosen[(chosen >= end - len(rows)) & (chosen < end)] - (end - len(rows))]
        for rows, end in zip(described, ends, strict=True)
    ]


def read_frames(knowledge: KnowledgeSet, episode: Episode, rows: NDArray[np.int64]) -> Iterator[Frames]:
    """The frames at `rows` of an episode, BATCH at a time; SemoreError when masks are of another camera size."""
    if not len(rows):
        return
    whole = FrameBatch.read(episode, privileged=True)
    for begin in range(0, len(rows), BATCH):
        chosen = rows[begin : begin + BATCH]
        yield _looked_up(knowledge, episode, chosen, whole.take(chosen))


def _looked_up(knowledge: KnowledgeSet, episode: Episode, rows: NDArray[np.int64], batch: FrameBatch) -> Frames:
    texts = knowledge.texts(batch.frames, batch.states)
    named = Phrases.of(texts)
    phrases, owners, counts = named.flat, named.owners, named.counts
    keys = mask_keys(knowledge.manifest.segmenter, batch.frames, batch.states, named)
    masks, present = knowledge.cache.masks.masks(keys)
    shape = batch.instance.shape[1:]
    if not masks.size:
        masks = np.zeros((len(keys), *shape), np.uint8)
    if masks.shape[1:] != shape:
        raise SemoreError(
            f"knowledge set {knowledge.name}: masks are {masks.shape[1:]}, the frames {shape}; they must come from the "
            "same camera size"
        )
    reasons = [_why_no_text(text) for text in texts]
    absent = np.flatnonzero(~present)
    for index, reason in zip(absent.tolist(), _why_no_mask(knowledge, keys[absent]), strict=True):
        reasons[owners[index]] = f"no mask of “{phrases[index]}”: {reason}"
    shown = np.array([not reason for reason in reasons], np.bool_) & (counts > 0)
    h_ka = np.zeros((len(batch), *shape), np.uint8)
    if shown.any():
        starts = np.cumsum(counts[shown]) - counts[shown]
        h_ka[shown] = merge_masks(masks[shown[owners]], starts, knowledge.manifest.merge)
    return Frames(episode, rows, batch, truth_of(batch), phrases, owners, masks, h_ka, reasons)


def _why_no_text(text: Text | None) -> str:
    if text is None:
        return "not described"
    return "" if text.status == Status.OK else f"text {text.status.name.lower()}: {text.reason or 'no reason given'}"


def _why_no_mask(knowledge: KnowledgeSet, keys: Digests) -> list[str]:
    notes = knowledge.cache.masks.notes(keys)
    return ["missing" if stored is None else str(json.loads(stored).get("reason", "")) for stored in notes]
