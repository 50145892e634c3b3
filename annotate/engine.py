"""The annotation pass: describe, segment and judge what the cache misses, in batches that bad answers do not stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from annotate.plan import EpisodePlan, Plan, make_plan, phrases_of
from annotate.producers import make_producers
from annotate.seams import MAX_PHRASES, FrameBatch, Producers, Verdict
from annotate.summary import Summary, forecast, remember_rate
from datasets.errors import SemoreError
from datasets.knowledge import KnowledgeCache, KnowledgeSet, SetManifest, ensure_set
from datasets.knowledge_merge import Merge
from datasets.knowledge_records import INVALID, Status, Text, note, record_keys
from datasets.progress import meter
from datasets.rollouts import Episode, Rollouts

REASON_LENGTH: Final = 300
FRAME_SOURCES: Final = ("rgb", "digest", "state_digest", "semantic", "instance", "actors", "ego")

T = TypeVar("T")


class FrameMasks(NamedTuple):
    """A frame's phrase masks (k, H, W) uint8, their common status and reason."""

    masks: NDArray[np.uint8]
    status: Status = Status.OK
    reason: str = ""


def _nothing(amount: int) -> None:
    """No progress shown."""


@dataclass(frozen=True)
class Annotator:
    """Fills a knowledge set with what `producers` say about episodes; cheap to call again and again.

    Nothing that is cached is produced anew, except failed records when `retry_failed`. Two annotators may work on one
    cache at once: at worst both answer the same frame.
    """

    knowledge: KnowledgeSet
    producers: Producers
    batch: int = 256
    """Frames handed to a producer at once."""
    retry_failed: bool = True
    """Whether failed records are tried again."""

    def __call__(self, episodes: Sequence[Episode]) -> Summary:
        """Annotate the episodes without a word and commit."""
        return self.run(self.plan(episodes))

    def plan(self, episodes: Sequence[Episode]) -> Plan:
        """What is to do; other annotators' commits are seen."""
        self.knowledge.cache.refresh()
        return make_plan(self.knowledge, episodes, self.retry_failed)

    def run(self, plan: Plan, advance: Callable[[int], None] = _nothing) -> Summary:
        """Do it, calling `advance(frames)` after each batch. Whatever ends it, finished records are committed."""
        start = time.monotonic()
        summary = Summary(frames=plan.frames, cached=plan.frames - plan.todo)
        try:
            for part in plan.episodes:
                self._episode(part, summary, advance)
        finally:
            self.knowledge.cache.commit()
        summary.seconds = time.monotonic() - start
        return summary

    def _episode(self, part: EpisodePlan, summary: Summary, advance: Callable[[int], None]) -> None:
        summary.phrases.update(
            phrase for row, text in enumerate(part.texts) if not part.describe[row] for phrase in phrases_of(text)
        )
        rows = part.rows
        if not len(rows):
            return
        arrays = part.episode.read(*FRAME_SOURCES)
        whole = FrameBatch(*(arrays[source] for source in FRAME_SOURCES))
        for begin in range(0, len(rows), self.batch):
            chosen = rows[begin : begin + self.batch]
            batch = whole.take(chosen)
            texts = self._describe(batch, [part.texts[row] for row in chosen], part.describe[chosen], summary)
            self._segment(batch, texts, summary)
            acted = part.judge[chosen]
            self._judge(batch.take(acted), [part.words[row] for row in chosen[acted]], summary)
            advance(len(chosen))

    def _describe(
        self, batch: FrameBatch, texts: list[Text | None], wanted: NDArray[np.bool_], summary: Summary
    ) -> list[Text | None]:
        level, identity = self.knowledge.cache.texts, self.producers.describer.identity
        keys = record_keys("texts", identity, batch.frames, batch.states)
        rows = np.flatnonzero(wanted)
        rows = rows[level.missing(keys[rows], self.retry_failed)]

        def call(part: list[int]) -> list[Text]:
            summary.calls["texts"] += 1
            return _checked_texts(self.producers.describer.describe(batch.take(part)), len(part))

        answers = _bisected(rows.tolist(), call, lambda _, reason: Text((), Status.FAILED, reason))
        level.add(
            identity,
            keys[rows],
            batch.frames[rows],
            [answer.status for answer in answers],
            [answer.encode() for answer in answers],
        )
        for row, answer in zip(rows.tolist(), answers, strict=True):
            texts[row] = answer
            summary.count("texts", answer.status, answer.reason)
        repeated = [row for row in np.flatnonzero(wanted).tolist() if texts[row] is None]  # equal frames, one answer
        for row, stored in zip(repeated, level.notes(keys[repeated]), strict=True):
            texts[row] = None if stored is None else Text.decode(stored)
        summary.phrases.update(phrase for row in np.flatnonzero(wanted) for phrase in phrases_of(texts[row]))
        return texts

    def _segment(self, batch: FrameBatch, texts: Sequence[Text | None], summary: Summary) -> None:
        level, identity = self.knowledge.cache.masks, self.producers.segmenter.identity
        named = [phrases_of(text) for text in texts]
        owners = np.repeat(np.arange(len(batch)), [len(phrases) for phrases in named])
        flat = [phrase for phrases in named for phrase in phrases]
        keys = record_keys("masks", identity, batch.frames[owners], batch.states[owners], flat)
        absent = np.flatnonzero(level.missing(keys, self.retry_failed))
        if not len(absent):
            return
        keys, owners, flat = keys[absent], owners[absent], [flat[index] for index in absent.tolist()]
        asked: dict[int, list[str]] = {}
        for owner, phrase in zip(owners.tolist(), flat, strict=True):
            asked.setdefault(owner, []).append(phrase)
        shape = batch.rgb.shape[1:3]

        def call(part: list[int]) -> list[FrameMasks]:
            summary.calls["masks"] += 1
            counts = [len(asked[row]) for row in part]
            masks = self.producers.segmenter.segment(batch.take(part), [asked[row] for row in part])
            if masks.shape != (sum(counts), *shape) or masks.dtype != np.uint8:
                raise ValueError(f"the segmenter gave {masks.dtype} {masks.shape}, expected {(sum(counts), *shape)}")
            return [FrameMasks(own) for own in np.split(masks, np.cumsum(counts)[:-1])]

        def failed(row: int, reason: str) -> FrameMasks:
            return FrameMasks(np.zeros((len(asked[row]), *shape), np.uint8), Status.FAILED, reason)

        answers = _bisected(list(asked), call, failed)
        statuses = [answer.status for answer in answers for _ in answer.masks]
        reasons = [answer.reason for answer in answers for _ in answer.masks]
        masks = np.concatenate([answer.masks for answer in answers])
        notes = [note(phrase=phrase, reason=reason) for phrase, reason in zip(flat, reasons, strict=True)]
        level.add(identity, keys, batch.frames[owners], statuses, notes, masks)
        summary.mask_pixels += float(masks.sum(dtype=np.uint64)) / (255 * shape[0] * shape[1])
        for status, reason in zip(statuses, reasons, strict=True):
            summary.count("masks", status, reason)

    def _judge(self, batch: FrameBatch, words: Sequence[str], summary: Summary) -> None:
        level, judge = self.knowledge.cache.verdicts, self.producers.judge
        if judge is None or not len(batch):
            return
        keys = record_keys("verdicts", judge.identity, batch.frames, batch.states, words)
        rows = np.flatnonzero(level.missing(keys, self.retry_failed))

        def call(part: list[int]) -> list[Verdict]:
            summary.calls["verdicts"] += 1
            return _checked_verdicts(judge.judge(batch.take(part), [words[row] for row in part]), len(part))

        answers = _bisected(rows.tolist(), call, lambda _, reason: Verdict.invalid(reason, Status.FAILED))
        notes = [
            note(action=words[row], reason=answer.reason) for row, answer in zip(rows.tolist(), answers, strict=True)
        ]
        values = np.array([answer.value for answer in answers], np.uint8)
        level.add(judge.identity, keys[rows], batch.frames[rows], [answer.status for answer in answers], notes, values)
        summary.reasonable += int((values == 1).sum())
        for answer in answers:
            summary.count("verdicts", answer.status, answer.reason)


def make_annotator(
    cache: KnowledgeCache,
    name: str,
    producers: Producers,
    merge: Merge = "max",
    batch: int = 256,
    retry_failed: bool = True,
) -> Annotator:
    """An Annotator filling the knowledge set `name`, made if there is none; SemoreError when it differs."""
    judge = producers.judge.identity if producers.judge is not None else None
    manifest = SetManifest(producers.describer.identity, producers.segmenter.identity, judge, merge)
    return Annotator(ensure_set(cache, name, manifest), producers, batch, retry_failed)


def annotator_for(knowledge: KnowledgeSet, batch: int = 256) -> Annotator:
    """An Annotator with the producers an existing set was made with; SemoreError when this code's differ."""
    manifest = knowledge.manifest
    kinds = [str(part["kind"]) if part else "none" for part in (manifest.describer, manifest.segmenter, manifest.judge)]
    return make_annotator(knowledge.cache, knowledge.name, make_producers(*kinds), manifest.merge, batch)


def annotate_rollouts(
    folders: Sequence[Path],
    cache: KnowledgeCache,
    name: str,
    producers: Producers,
    merge: Merge = "max",
    batch: int = 256,
    retry_failed: bool = True,
    quiet: bool = False,
) -> Summary:
    """Annotate every complete episode of the rollouts folders into the knowledge set `name` of the open `cache`.

    Says first what it will cost, shows progress, and prints a summary, unless `quiet`.
    """
    annotator = make_annotator(cache, name, producers, merge, batch, retry_failed)
    plan = annotator.plan([episode for folder in folders for episode in Rollouts(folder).episodes()])
    if quiet:
        return annotator.run(plan)
    console, manifest = Console(), annotator.knowledge.manifest
    console.print(forecast(plan, manifest, cache), highlight=False, soft_wrap=True)
    if plan.todo:
        with meter("annotate", plan.todo, "frames") as progress:
            summary = annotator.run(plan, progress.advance)
        remember_rate(cache, manifest, summary)
    else:
        summary = annotator.run(plan)
    summary.show(console)
    return summary


def _bisected(rows: list[int], call: Callable[[list[int]], list[T]], failed: Callable[[int, str], T]) -> list[T]:
    """`call(rows)`; when it raises, halve until the rows that cause it stand alone, and answer `failed` for those.

    SemoreError goes through: it is the user's to mend, not a frame's fault.
    """
    if not rows:
        return []
    try:
        return call(rows)
    except SemoreError:
        raise
    except Exception as error:
        if len(rows) == 1:
            reason = f"{type(error).__name__}: {error}".encode(errors="replace").decode()
            return [failed(rows[0], reason[:REASON_LENGTH])]
        middle = len(rows) // 2
        return _bisected(rows[:middle], call, failed) + _bisected(rows[middle:], call, failed)


def _checked_texts(answers: Sequence[Text], count: int) -> list[Text]:
    if len(answers) != count:
        raise ValueError(f"the describer gave {len(answers)} answers for {count} frames")
    for answer in answers:
        answer.encode().encode()  # raises on text that no file can hold
        if len(answer.phrases) > MAX_PHRASES or len(set(answer.phrases)) < len(answer.phrases) or "" in answer.phrases:
            raise ValueError(f"phrases {answer.phrases!r} are more than {MAX_PHRASES}, repeated or empty")
    return list(answers)


def _checked_verdicts(answers: Sequence[Verdict], count: int) -> list[Verdict]:
    if len(answers) != count:
        raise ValueError(f"the judge gave {len(answers)} answers for {count} frames")
    for answer in answers:
        if answer.value not in (0, 1, INVALID) or (answer.value == INVALID) == (answer.status == Status.OK):
            raise ValueError(f"{answer} is neither 0, 1 with status OK nor {INVALID} with another")
    return list(answers)
