"""The annotator: it describes, segments and judges what the cache lacks; a bad answer never stops a batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from semore.annotate.frame_loader import Reader, ahead
from semore.annotate.interfaces import MAX_PHRASES, FrameBatch, Judge, Producers, Verdict
from semore.annotate.scheduling.chunks import WorkChunk, WorkerDied
from semore.annotate.scheduling.plan import Part, Plan, Wanted, decision_frames, make_plan
from semore.annotate.summary import Summary
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.cache import KnowledgeSet
from semore.datasets.knowledge.records import INVALID, Identity, Phrases, Status, Text, mask_keys, note, record_keys
from semore.datasets.rollouts.store import Episode

REASON_LENGTH: Final = 300

T = TypeVar("T")


class FrameMasks(NamedTuple):
    """The phrase masks (k, H, W) uint8 of a frame, with their common status and reason."""

    masks: NDArray[np.uint8]
    status: Status = Status.OK
    reason: str = ""


def nobody(amount: int) -> None:
    """A progress callback that shows nothing."""


@dataclass(frozen=True)
class Annotator:
    """Fills a knowledge set with what `producers` say about episodes; cheap to call again and again.

    Nothing that is cached is produced anew, except failed records when `retry_failed`. Two annotators may work on one
    cache at once: at worst both answer the same frame.
    """

    knowledge: KnowledgeSet
    producers: Producers
    batch: int = 64
    """Frames handed to a producer at once."""
    retry_failed: bool = True
    """Whether failed records are tried again."""
    _reader: Reader = field(default_factory=Reader, repr=False, compare=False)

    def __call__(self, episodes: Sequence[Episode]) -> Summary:
        """Annotate the episodes' decision frames without printing anything, and commit."""
        plan = self.plan(episodes)
        return Summary.of(plan).merge(self.work(WorkChunk(plan.parts)))

    def plan(self, episodes: Sequence[Episode], wanted: Wanted = decision_frames) -> Plan:
        """What is to do on the `wanted` rows of the episodes; other annotators' commits are seen."""
        self.knowledge.cache.refresh()
        return make_plan(self.knowledge, episodes, self.retry_failed, wanted)

    def work(self, chunk: WorkChunk, advance: Callable[[int], None] = nobody) -> Summary:
        """Annotate a chunk's frames, calling `advance(frames)` after each batch, and commit. What is finished is kept,
        also when an exception ends the work, and with the first answer the set's name."""
        self.producers.load()  # not counted: it happens once
        start, summary = time.monotonic(), Summary()
        try:
            for parts, batch in ahead(self._reader.read(chunk, self.batch, self.producers.privileged)):
                self._annotate(parts, batch, summary)
                advance(len(batch))
                if chunk.deaths:  # a worker died over it: what goes well this time is not to be lost again
                    self._commit(summary)
        finally:
            self._commit(summary)
        summary.done, summary.seconds = len(chunk), time.monotonic() - start
        return summary

    def give_up(self, chunk: WorkChunk, reason: str) -> Summary:
        """Record what the chunk's frames lack as failed, without asking a producer; a later run tries them again."""
        return replace(self, producers=_refusing(self.producers, reason)).work(chunk)

    def _commit(self, summary: Summary) -> None:
        self.knowledge.cache.commit()
        if summary.answered:
            self.knowledge.keep()

    def _annotate(self, parts: tuple[Part, ...], batch: FrameBatch, summary: Summary) -> None:
        texts = [text for part in parts for text in part.texts]
        words = [said for part in parts for said in part.words]
        describe = np.concatenate([part.describe for part in parts])
        (judge,) = np.nonzero(np.concatenate([part.judge for part in parts]))
        texts = self._describe(batch, texts, describe, summary)
        self._segment(batch, texts, summary)
        if self.producers.judge is not None and len(judge):
            self._judge(self.producers.judge, batch.take(judge), [words[place] for place in judge.tolist()], summary)

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
        elsewhere = [row for row in np.flatnonzero(wanted).tolist() if texts[row] is None]  # answered meanwhile
        for row, stored in zip(elsewhere, level.notes(keys[elsewhere]), strict=True):
            texts[row] = None if stored is None else Text.decode(stored)
        summary.phrases.update(Phrases.of([texts[row] for row in np.flatnonzero(wanted)]).flat)
        return texts

    def _segment(self, batch: FrameBatch, texts: Sequence[Text | None], summary: Summary) -> None:
        level, identity = self.knowledge.cache.masks, self.producers.segmenter.identity
        phrases = Phrases.of(texts)
        keys = mask_keys(identity, batch.frames, batch.states, phrases)
        absent = np.flatnonzero(level.missing(keys, self.retry_failed))
        if not len(absent):
            return
        keys, owners, flat = keys[absent], phrases.owners[absent], [phrases.flat[index] for index in absent.tolist()]
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
        said = {pair: note(phrase=pair[0], reason=pair[1]) for pair in set(zip(flat, reasons, strict=True))}
        notes = [said[pair] for pair in zip(flat, reasons, strict=True)]
        level.add(identity, keys, batch.frames[owners], statuses, notes, masks)
        summary.mask_pixels += float(masks.sum(dtype=np.uint64)) / (255 * shape[0] * shape[1])
        for status, reason in zip(statuses, reasons, strict=True):
            summary.count("masks", status, reason)

    def _judge(self, judge: Judge, batch: FrameBatch, words: Sequence[str], summary: Summary) -> None:
        level = self.knowledge.cache.verdicts
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


@dataclass(frozen=True)
class _Refusal:
    """Stands for any producer, under its identity, and answers nothing."""

    identity: Identity
    reason: str

    def load(self) -> None:
        """Nothing to load."""

    def describe(self, batch: FrameBatch) -> Sequence[Text]:
        raise WorkerDied(self.reason)

    def segment(self, batch: FrameBatch, phrases: Sequence[Sequence[str]]) -> NDArray[np.uint8]:
        raise WorkerDied(self.reason)

    def judge(self, batch: FrameBatch, actions: Sequence[str]) -> Sequence[Verdict]:
        raise WorkerDied(self.reason)


def _refusing(producers: Producers, reason: str) -> Producers:
    judge = producers.judge
    return Producers(
        _Refusal(producers.describer.identity, reason),
        _Refusal(producers.segmenter.identity, reason),
        None if judge is None else _Refusal(judge.identity, reason),
    )


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
        "".join((*answer.phrases, answer.reason)).encode()  # raises on text that no file can hold
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
