"""Online refresh: every so often the current policy drives, and what it drove is annotated and grows the pool."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from semore.annotate.episodes import EpisodeAnnotator, chosen_rows
from semore.datasets.knowledge.cache import KnowledgeSet
from semore.datasets.knowledge.records import Digests
from semore.datasets.rollouts.schema import SEED_SPLITS
from semore.datasets.rollouts.store import Episode, Rollouts
from semore.train.actor import Actor
from semore.train.course import AfterUpdate, Entry
from semore.train.learner import Learner
from semore.train.pins import records_used
from semore.train.replay import SelectiveReplay
from semore.train.settings import ScheduleSettings

REFRESH_SEEDS: Final = SEED_SPLITS["train"].start + 500_000
"""Refresh episodes start here, beyond what `collect` records."""

Rows = NDArray[np.int64]


class Refreshed:
    """The episodes that the run's policies have driven so far, and which of their rows count as annotated."""

    def __init__(self, path: Path, schedule: ScheduleSettings, annotates: bool) -> None:
        """`annotates` is whether anything reads their knowledge: plain rivals have no frame annotated."""
        self._schedule, self._annotates = schedule, annotates
        self.rollouts = Rollouts(path)
        self.rollouts.create()
        self.rollouts.sweep()
        self.names: list[str] = []
        """Of the episodes, in the order in which they were driven."""

    def restore(self, names: Sequence[str]) -> Iterator[tuple[Episode, Rows]]:
        """Keep the named episodes and delete later ones: their part of the run is done again."""
        for name in set(self.rollouts.names()) - set(names):
            shutil.rmtree(self.rollouts.path / name)
        self.names = list(names)
        size = self._schedule.refresh_episodes
        for first in range(0, len(names), size):
            yield from self.read(names[first : first + size])

    def read(self, names: Sequence[str]) -> list[tuple[Episode, Rows]]:
        """The episodes of one refresh."""
        episodes = [self.rollouts.episode(name) for name in names]
        if not self._annotates:
            return [(episode, np.empty(0, np.int64)) for episode in episodes]
        return list(zip(episodes, chosen_rows(episodes, self._schedule.refresh_frames), strict=True))


class Refresh(AfterUpdate):
    """Drive, annotate, grow the pool."""

    def __init__(
        self,
        agent: Learner,
        replay: SelectiveReplay,
        knowledge: KnowledgeSet,
        driven: Refreshed,
        schedule: ScheduleSettings,
        actor: Actor,
        annotate: EpisodeAnnotator,
        keep: Callable[[Sequence[Digests]], None],
    ) -> None:
        """`keep` takes the digests of cache records that the run has come to rest on."""
        super().__init__(agent)
        self._replay, self._knowledge, self._driven, self._schedule = replay, knowledge, driven, schedule
        self._actor, self._annotate, self._keep = actor, annotate, keep

    def after(self, update: int) -> Iterable[Entry]:
        if not self._schedule.refreshes(update):
            return
        count, first = self._schedule.refresh_episodes, REFRESH_SEEDS + len(self._driven.names)
        seeds, spread = range(first, first + count), self._schedule.refresh_spread
        names = self._actor.record(self.agent, spread, seeds, self._driven.rollouts)
        self._driven.names += names
        grown = self._driven.read(names)
        episodes, rows = [episode for episode, _ in grown], [own for _, own in grown]
        # A segmenter that loads its weights draws random numbers, and whether it has to depends on what is cached.
        with torch.random.fork_rng(devices=()):
            self._annotate(episodes, rows)
        self._knowledge.cache.refresh()
        for episode, own in grown:
            self._replay.add(episode, self._knowledge, own, update)
        self._keep([records_used(episode, self._knowledge, own) for episode, own in grown])
        yield Entry(update, {
            "refresh/reward": float(np.mean([episode.attributes["total_reward"] for episode in episodes])),
            "refresh/steps": float(np.mean([episode.steps for episode in episodes])),
            "refresh/annotated": float(sum(map(len, rows))),
        })  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return {"recorded": self._driven.names}
