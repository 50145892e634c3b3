"""What is left to annotate: recorded frames without a text, a mask or a verdict, each distinct frame once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semore.datasets.action_text import action_words
from semore.datasets.knowledge.cache import KnowledgeSet
from semore.datasets.knowledge.records import Digests, Status, Text, record_keys
from semore.datasets.rollouts.store import Episode

Wanted = Callable[[Episode], NDArray[np.int64]]
"""The rows of an episode that knowledge is wanted for, ascending."""


@dataclass(frozen=True)
class Part:
    """n frames of one episode that lack knowledge.

    `rows` (n,) are the episode's rows, ascending. `texts` are the n cached texts, None where there is none; `words` the
    n actions in words, empty for a last frame. `describe` and `judge` (n,) bool say what a frame lacks. Every frame is
    segmented as far as its phrases' masks are missing."""

    episode: Episode
    rows: NDArray[np.int64]
    texts: tuple[Text | None, ...]
    words: tuple[str, ...]
    describe: NDArray[np.bool_]
    judge: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: NDArray[np.int64] | slice) -> Part:
        """The frames at `places` (of 0 … n − 1)."""
        chosen = np.arange(len(self))[places].tolist()
        return Part(
            self.episode,
            self.rows[places],
            tuple(self.texts[place] for place in chosen),
            tuple(self.words[place] for place in chosen),
            self.describe[places],
            self.judge[places],
        )


@dataclass(frozen=True)
class Plan:
    """The work on a set of episodes. A frame that equals another one of the plan is in no part: one answer serves both.

    `phrases` counts those already known; `masks` the missing masks of frames whose text is known; `frames` are all that
    knowledge is wanted for.
    """

    parts: tuple[Part, ...]
    frames: int = 0
    masks: int = 0
    phrases: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    """By level: records of these frames that are answers already, not failures."""

    @property
    def todo(self) -> int:
        """Frames with anything to do."""
        return sum(map(len, self.parts))

    @property
    def texts(self) -> int:
        """Frames to describe."""
        return sum(int(part.describe.sum()) for part in self.parts)

    @property
    def verdicts(self) -> int:
        """Frames to judge."""
        return sum(int(part.judge.sum()) for part in self.parts)

    def within(self, chosen: Mapping[Path, NDArray[np.int64]]) -> Plan:
        """The plan cut down to the chosen rows, by the path of their episode."""
        none = np.empty(0, np.int64)
        kept = (np.isin(part.rows, chosen.get(part.episode.path, none)) for part in self.parts)
        cut = [part.take(np.flatnonzero(places)) for part, places in zip(self.parts, kept, strict=True)]
        return replace(self, parts=tuple(part for part in cut if len(part)))


def phrases_of(text: Text | None) -> tuple[str, ...]:
    """The phrases to segment: none unless the describer gave a usable answer."""
    return text.phrases if text is not None and text.status == Status.OK else ()


def all_frames(episode: Episode) -> NDArray[np.int64]:
    """Every row of an episode: 0 … T."""
    return np.arange(episode.steps + 1)


def decision_frames(episode: Episode) -> NDArray[np.int64]:
    """The rows at which an action was chosen, and the last one: all that a policy sees which decides as often."""
    return episode.decision_rows


def make_plan(
    knowledge: KnowledgeSet,
    episodes: Sequence[Episode],
    retry_failed: bool = True,
    wanted: Wanted = decision_frames,
) -> Plan:
    """Look the `wanted` rows of the episodes up in the cache; with `retry_failed` a failed record counts as missing."""
    if not episodes:
        return Plan(())
    rows = [wanted(episode) for episode in episodes]
    frames, states, words = _keyed(episodes, rows)
    cache, manifest = knowledge.cache, knowledge.manifest

    texts = knowledge.texts(frames, states)
    describe = cache.texts.missing(record_keys("texts", manifest.describer, frames, states), retry_failed)
    named = [() if again else phrases_of(text) for text, again in zip(texts, describe, strict=True)]
    owners = np.repeat(np.arange(len(texts)), [len(phrases) for phrases in named])
    flat = [phrase for phrases in named for phrase in phrases]
    mask_keys = record_keys("masks", manifest.segmenter, frames[owners], states[owners], flat)
    no_mask = cache.masks.missing(mask_keys, retry_failed)
    known = Counter(texts=sum(text is not None and text.status != Status.FAILED for text in texts))
    known["masks"] = cache.masks.answered(mask_keys)
    segment = np.zeros(len(texts), np.bool_)
    segment[owners[no_mask]] = True

    judge = np.zeros(len(texts), np.bool_)
    if manifest.judge is not None:
        (acted,) = np.nonzero([bool(said) for said in words])
        spoken = [words[place] for place in acted.tolist()]
        keys = record_keys("verdicts", manifest.judge, frames[acted], states[acted], spoken)
        judge[acted] = cache.verdicts.missing(keys, retry_failed)

        known["verdicts"] = cache.verdicts.answered(keys)

    busy = describe | segment | judge
    parts = []
    for episode, own, (begin, end) in zip(episodes, rows, pairwise(np.cumsum([0, *map(len, rows)])), strict=True):
        whole = Part(
            episode, own, tuple(texts[begin:end]), tuple(words[begin:end]), describe[begin:end], judge[begin:end]
        )
        if busy[begin:end].any():
            parts.append(whole.take(np.flatnonzero(busy[begin:end])))
    return Plan(tuple(parts), len(texts), int(no_mask.sum()), Counter(flat), known)


def _keyed(episodes: Sequence[Episode], rows: Sequence[NDArray[np.int64]]) -> tuple[Digests, Digests, list[str]]:
    """Frame and state digests (N, 16) of the episodes' rows, and the actions taken there in words (none at an end)."""
    frames, states, words = [], [], []
    for episode, own in zip(episodes, rows, strict=True):
        stored = episode.read("digest", "state_digest", "action")
        frames.append(stored["digest"][own])
        states.append(stored["state_digest"][own])
        said = [*action_words(stored["action"]), ""]
        words += [said[row] for row in own.tolist()]
    return np.concatenate(frames), np.concatenate(states), words
