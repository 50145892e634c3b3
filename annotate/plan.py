"""What is still to do for recorded episodes: the frames that miss a text, a mask or a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from datasets.action_words import action_words
from datasets.knowledge import KnowledgeSet
from datasets.knowledge_records import Digests, Status, Text, record_keys
from datasets.rollouts import Episode


@dataclass(frozen=True)
class EpisodePlan:
    """An episode of F = T + 1 frames: digests (F, 16), the T actions in words, the F texts that are known, and (F,)
    bool each: the text, a mask, the verdict is missing. A frame without a text counts as missing its masks too."""

    episode: Episode
    frames: Digests
    states: Digests
    words: list[str]
    texts: list[Text | None]
    describe: NDArray[np.bool_]
    segment: NDArray[np.bool_]
    judge: NDArray[np.bool_]

    @property
    def rows(self) -> NDArray[np.int64]:
        """The frames with anything to do."""
        return np.flatnonzero(self.describe | self.segment | self.judge)


@dataclass(frozen=True)
class Plan:
    """The work on a set of episodes; `masks` counts the missing masks of frames whose text is known."""

    episodes: tuple[EpisodePlan, ...]
    masks: int

    @property
    def frames(self) -> int:
        """All frames."""
        return sum(len(plan.frames) for plan in self.episodes)

    @property
    def todo(self) -> int:
        """Frames with anything to do."""
        return sum(len(plan.rows) for plan in self.episodes)

    def missing(self, what: str) -> int:
        """Frames whose `describe`, `segment` or `judge` is to be done."""
        return sum(int(getattr(plan, what).sum()) for plan in self.episodes)


def phrases_of(text: Text | None) -> tuple[str, ...]:
    """The phrases to segment: none unless the describer gave a usable answer."""
    return text.phrases if text is not None and text.status == Status.OK else ()


def make_plan(knowledge: KnowledgeSet, episodes: Sequence[Episode], retry_failed: bool = True) -> Plan:
    """Look every frame of the episodes up in the cache; with `retry_failed` a failed record counts as missing."""
    if not episodes:
        return Plan((), 0)
    stored = [episode.read("digest", "state_digest", "action") for episode in episodes]
    sizes = [len(arrays["digest"]) for arrays in stored]
    frames = np.concatenate([arrays["digest"] for arrays in stored])
    states = np.concatenate([arrays["state_digest"] for arrays in stored])
    words = [action_words(arrays["action"]) for arrays in stored]
    cache, manifest = knowledge.cache, knowledge.manifest

    texts = knowledge.texts(frames, states)
    describe = np.array([text is None or (retry_failed and text.status == Status.FAILED) for text in texts])
    phrases = [phrases_of(text) for text in texts]
    owners = np.repeat(np.arange(len(texts)), [len(named) for named in phrases])
    flat = [phrase for named in phrases for phrase in named]
    keys = record_keys("masks", manifest.segmenter, frames[owners], states[owners], flat)
    no_mask = cache.masks.missing(keys, retry_failed)
    segment = describe.copy()
    segment[owners[no_mask]] = True

    judge = np.zeros(len(texts), np.bool_)
    if manifest.judge is not None:
        acted = np.concatenate([np.arange(size) < size - 1 for size in sizes])
        said = [word for spoken in words for word in spoken]
        verdict_keys = record_keys("verdicts", manifest.judge, frames[acted], states[acted], said)
        judge[acted] = cache.verdicts.missing(verdict_keys, retry_failed)

    bounds = pairwise(np.cumsum([0, *sizes]).tolist())
    return Plan(
        tuple(
            EpisodePlan(
                episode,
                frames[begin:end],
                states[begin:end],
                spoken,
                texts[begin:end],
                describe[begin:end],
                segment[begin:end],
                judge[begin:end],
            )
            for episode, spoken, (begin, end) in zip(episodes, words, bounds, strict=True)
        ),
        int(no_mask.sum()),
    )
