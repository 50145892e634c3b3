"""`diff`: what a changed prompt, weight file or setting makes stale, and how two knowledge sets see the same frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.datasets.command_line import OPTIONAL
from semore.datasets.knowledge.admin.needs import CacheCommand, changes, producer_of
from semore.datasets.knowledge.cache import KnowledgeCache, KnowledgeSet, SetManifest, open_set
from semore.datasets.knowledge.questions import FrameKeys, missing
from semore.datasets.knowledge.rates import GUESSED_PHRASES, bytes_per_record, duration, seconds_per_frame
from semore.datasets.knowledge.records import INVALID, LEVELS, Phrases, Text
from semore.datasets.progress import meter
from semore.datasets.rollouts.inventory import folders
from semore.datasets.rollouts.schema import RECORDING_SIZE
from semore.datasets.rollouts.store import Episode, Rollouts

COUNTED: Final = ("both", "first", "second", "neither", "phrases", "h_ka", "verdicts", "verdicts_equal")


@dataclass(frozen=True)
class Diff(CacheCommand):
    """Compare two knowledge sets over recorded rollouts: in what their producers differ, which frames they serve,
    whether phrases and H_ka agree, and what it takes to have the second one whole. With one set: what it lacks."""

    set: str
    """Name of a knowledge set."""
    other: str = field(default="", metadata=OPTIONAL)
    """Name of another."""
    rollouts: list[str] = field(default_factory=list)
    """Names of rollouts under <data>/rollouts, or paths ending in .zarr; default all."""

    def execute(self) -> int:
        """Print it."""
        cache = KnowledgeCache(self.root)
        episodes = [each for folder in folders(self.data, self.rollouts) for each in Rollouts(folder).episodes()]
        first = open_set(cache, self.set)
        if not self.other:
            cost = stale(cache, None, first.manifest, episodes)
            self.show(asdict(cost), cost.lines())
            return 0
        second = open_set(cache, self.other)
        cost, agreement = stale(cache, first.manifest, second.manifest, episodes), compare(first, second, episodes)
        self.show(
            {"stale": asdict(cost), "agreement": asdict(agreement)},
            [*agreement.lines(self.set, self.other), *cost.lines()],
        )
        return 0


@dataclass(frozen=True)
class Stale:
    """What a change of producers costs. `changed[level]`: the identity fields that differ; `frames`: distinct frames;
    `served`: how many of them the old producers serve (H_ka valid); `stale`: how many of those the new ones do not
    yet; `todo`: frames with anything to make; `make[level]`: records to make, masks estimated where the text is not
    known yet; `bytes` of disk by the mean of the records there are; `seconds` of one worker, None when these producers
    were never timed."""

    changed: dict[str, list[str]]
    frames: int
    served: int
    stale: int
    todo: int
    make: dict[str, int]
    bytes: int
    seconds: float | None

    def lines(self) -> Iterator[str]:
        """For people."""
        for level, fields in self.changed.items():
            yield f"{level}: another producer ({'; '.join(fields)})"
        if self.served:
            yield f"{self.stale:,} of the {self.served:,} frames served so far become stale"
        if not self.todo:
            yield f"{self.frames:,} frames, nothing to make"
            return
        time = "never timed" if self.seconds is None else f"about {duration(self.seconds)} on one worker"
        yield (
            f"to make for {self.todo:,} of {self.frames:,} frames: {self.make['texts']:,} texts, about "
            f"{self.make['masks']:,} masks, {self.make['verdicts']:,} verdicts; {time}, about "
            f"{max(self.bytes / 1e6, 0.1):,.1f} MB of disk"
        )


def stale(
    cache: KnowledgeCache,
    old: SetManifest | None,
    new: SetManifest,
    episodes: Sequence[Episode],
    rows: Sequence[NDArray[np.int64]] | None = None,
) -> Stale:
    """What going from the producers of `old` (None: from nothing) to those of `new` costs over the episodes (`rows` of
    each; default: the frames at which actions were chosen). Looks keys up; calls no model and writes nothing."""
    asked = FrameKeys.of(episodes, rows)
    frames, states = asked.frames, asked.states
    lacks = missing(cache, new, asked)
    before = KnowledgeSet(cache, "", old) if old is not None else None
    served = before.valid(frames, states) if before is not None else np.zeros(len(frames), np.bool_)
    serves = KnowledgeSet(cache, "", new).valid(frames, states)
    known = before.texts(frames[lacks.describe], states[lacks.describe]) if before is not None else []
    texts, todo = int(lacks.describe.sum()), int(lacks.busy.sum())
    make = {
        "texts": texts,
        "masks": int(lacks.segment.sum()) + round(texts * _phrases_per_frame(known, lacks.texts)),
        "verdicts": int(lacks.judge.sum()),
    }
    rate = seconds_per_frame(cache.root, new)
    return Stale(
        {
            level: fields
            for level in LEVELS
            if old and (fields := changes(producer_of(old, level), producer_of(new, level)))
        },
        len(frames),
        int(served.sum()),
        int((served & ~serves).sum()),
        todo,
        make,
        round(sum(make[each.name] * bytes_per_record([each], producer_of(new, each.name)) for each in cache.levels)),
        None if rate is None else rate * todo,
    )


@dataclass(frozen=True)
class Agreement:
    """How two sets see the same frames. `both`, `first`, `second`, `neither`: frames with a valid H_ka; of `both`:
    `phrases` equal as sets, `h_ka` equal in every pixel, `overlap` mean IoU of H_ka > 0.5 (1 where both are empty);
    `verdicts`: actions judged usably by both, `verdicts_equal` of them alike."""

    both: int
    first: int
    second: int
    neither: int
    phrases: int
    h_ka: int
    verdicts: int
    verdicts_equal: int
    overlap: float | None

    def lines(self, first: str, second: str) -> Iterator[str]:
        """For people."""
        yield (
            f"H_ka valid in both for {self.both:,} frames, only in {first} for {self.first:,}, only in {second} for "
            f"{self.second:,}, in neither for {self.neither:,}"
        )
        if self.both:
            yield (
                f"of those in both, {self.phrases / self.both:.1%} have the same phrases and "
                f"{self.h_ka / self.both:.1%} the same H_ka; mean IoU {self.overlap:.3f}"
            )
        if self.verdicts:
            yield f"{self.verdicts_equal / self.verdicts:.1%} of {self.verdicts:,} verdicts are the same"


def compare(first: KnowledgeSet, second: KnowledgeSet, episodes: Sequence[Episode]) -> Agreement:
    """Read both sets' answers, episode by episode; SemoreError when their masks have not the recording's size."""
    counts, overlaps = np.zeros(8, np.int64), [np.zeros(0)]
    with meter("diff", len(episodes), "episodes") as progress:
        for episode in episodes:
            frame_keys = FrameKeys.of([episode])
            frames, states, acted = frame_keys.frames, frame_keys.states, frame_keys.acted
            side = int(episode.attributes.get("camera", RECORDING_SIZE))
            (mask, valid), (other, usable) = (each.h_ka(frames, states, size=(side, side)) for each in (first, second))
            both = valid & usable
            named = [
                [None if text is None else frozenset(text.phrases) for text in each.texts(frames[both], states[both])]
                for each in (first, second)
            ]
            said, heard = (each.verdicts(frames[acted], states[acted], frame_keys.words) for each in (first, second))
            judged = (said != INVALID) & (heard != INVALID)
            counts += [
                both.sum(),
                (valid & ~usable).sum(),
                (usable & ~valid).sum(),
                (~valid & ~usable).sum(),
                sum(a == b for a, b in zip(*named, strict=True)),
                (mask[both] == other[both]).all(axis=(1, 2)).sum(),
                judged.sum(),
                (said == heard)[judged].sum(),
            ]
            overlaps.append(_overlap(mask[both], other[both]))
            progress.advance()
    joined = np.concatenate(overlaps)
    overlap = round(float(joined.mean()), 5) if len(joined) else None
    return Agreement(**dict(zip(COUNTED, counts.tolist(), strict=True)), overlap=overlap)


def _overlap(masks: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    shown, also = masks > 127, others > 127
    union = (shown | also).sum(axis=(1, 2))
    return np.where(union > 0, (shown & also).sum(axis=(1, 2)) / np.maximum(union, 1), 1.0)


def _phrases_per_frame(*choices: Sequence[Text | None]) -> float:
    """Mean over the first of the choices that has any usable text."""
    for texts in choices:
        phrases = Phrases.of(texts)
        if phrases.usable.any():
            return float(phrases.counts[phrases.usable].mean())
    return GUESSED_PHRASES
