"""The questions that recorded frames put to a knowledge set's producers, and which of them the cache cannot answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semore.datasets.action_text import action_words
from semore.datasets.knowledge.cache import KnowledgeCache, KnowledgeSet, SetManifest
from semore.datasets.knowledge.records import Digests, Phrases, Status, Text, mask_keys, record_keys
from semore.datasets.rollouts.store import Episode


@dataclass(frozen=True)
class FrameKeys:
    """What identifies F frames in the cache: their frame and state digests (F, 16), whether an action follows each (F,)
    bool, and those actions in words."""

    frames: Digests
    states: Digests
    acted: NDArray[np.bool_]
    words: list[str]

    @staticmethod
    def of(episodes: Sequence[Episode], rows: Sequence[NDArray[np.int64]] | None = None) -> FrameKeys:
        """Read from episodes; `rows` of each, ascending, default the episode's `decision_rows`."""
        chosen = [episode.decision_rows for episode in episodes] if rows is None else rows
        return FrameKeys.joined([_of_one(episode, own) for episode, own in zip(episodes, chosen, strict=True)])

    @staticmethod
    def joined(parts: Sequence[FrameKeys]) -> FrameKeys:
        """The frames of all parts."""
        none = np.zeros((0, 16), np.uint8)
        return FrameKeys(
            np.concatenate([none, *(part.frames for part in parts)]),
            np.concatenate([none, *(part.states for part in parts)]),
            np.concatenate([np.zeros(0, np.bool_), *(part.acted for part in parts)]),
            [word for part in parts for word in part.words],
        )

    @property
    def spoken(self) -> list[str]:
        """The action that follows each of the F frames in words, "" where none does."""
        words = iter(self.words)
        return [next(words) if acted else "" for acted in self.acted.tolist()]


def _of_one(episode: Episode, rows: NDArray[np.int64]) -> FrameKeys:
    stored = episode.read("digest", "state_digest", "action")
    acted = rows < episode.steps
    words = list(action_words(stored["action"][rows[acted]]))
    return FrameKeys(stored["digest"][rows], stored["state_digest"][rows], acted, words)


@dataclass(frozen=True)
class Missing:
    """What the producers of a set have yet to answer about F frames, of equal questions the first: (F,) bool `describe`
    and `judge`, (M,) bool `segment` for the M phrases of the `texts` that are known. `known` counts the answers there
    are, by level."""

    texts: list[Text | None]
    phrases: Phrases
    describe: NDArray[np.bool_]
    segment: NDArray[np.bool_]
    judge: NDArray[np.bool_]
    known: Counter[str]

    @property
    def busy(self) -> NDArray[np.bool_]:
        """(F,) bool: anything of the frame is missing."""
        busy = self.describe | self.judge
        busy[self.phrases.owners[self.segment]] = True
        return busy


def missing(cache: KnowledgeCache, manifest: SetManifest, asked: FrameKeys, retry_failed: bool = True) -> Missing:
    """Look the frames up; with `retry_failed` a failed record counts as missing. Calls no model and writes nothing."""
    frames, states, acted = asked.frames, asked.states, asked.acted
    texts = KnowledgeSet(cache, "", manifest).texts(frames, states)
    describe = cache.texts.missing(record_keys("texts", manifest.describer, frames, states), retry_failed)
    phrases = Phrases.of([None if again else text for text, again in zip(texts, describe, strict=True)])
    keys = mask_keys(manifest.segmenter, frames, states, phrases)
    segment = cache.masks.missing(keys, retry_failed)
    known = Counter(texts=sum(text is not None and text.status != Status.FAILED for text in texts))
    known["masks"] = cache.masks.answered(keys)
    judge = np.zeros(len(frames), np.bool_)
    if manifest.judge is not None:
        keys = record_keys("verdicts", manifest.judge, frames[acted], states[acted], asked.words)
        judge[acted] = cache.verdicts.missing(keys, retry_failed)
        known["verdicts"] = cache.verdicts.answered(keys)
    return Missing(texts, phrases, describe, segment, judge, known)
