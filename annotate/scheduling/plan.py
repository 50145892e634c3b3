"""What is left to annotate: recorded frames without a text, a mask or a verdict, each distinct frame once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semore.datasets.knowledge.cache import KnowledgeSet
from semore.datasets.knowledge.questions import FrameKeys, missing
from semore.datasets.knowledge.records import Text
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
    asked = FrameKeys.of(episodes, rows)
    lacks, words = missing(knowledge.cache, knowledge.manifest, asked, retry_failed), asked.spoken
    busy, parts = lacks.busy, []
    for episode, own, (begin, end) in zip(episodes, rows, pairwise(np.cumsum([0, *map(len, rows)])), strict=True):
        span = slice(begin, end)
        if busy[span].any():
            whole = Part(
                episode, own, tuple(lacks.texts[span]), tuple(words[span]), lacks.describe[span], lacks.judge[span]
            )
            parts.append(whole.take(np.flatnonzero(busy[span])))
    return Plan(tuple(parts), len(busy), int(lacks.segment.sum()), Counter(lacks.phrases.flat), lacks.known)
