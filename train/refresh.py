"""Online refresh: every so often the current policy drives; what it drove is annotated, and grows the pool in time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from semore.annotate.episodes import chosen_rows
from semore.collect.recorder import episode_name
from semore.datasets.knowledge.cache import KnowledgeSet
from semore.datasets.knowledge.records import Digests
from semore.datasets.rollouts.schema import SEED_SPLITS
from semore.datasets.rollouts.store import Episode, Rollouts
from semore.train.actor import Job, in_shares, snapshot
from semore.train.course import AfterUpdate, Entry
from semore.train.crew import Crew
from semore.train.errands import Errands
from semore.train.learner import Learner
from semore.train.pins import records_used
from semore.train.replay import SelectiveReplay
from semore.train.schedule import ScheduleSettings

REFRESH_SEEDS: Final = SEED_SPLITS["train"].start + 500_000
"""Refresh episodes start here, beyond what `collect` records."""

NEWEST: Final = 8
"""Episodes by whose mean length the next ones are reckoned."""

Rows = NDArray[np.int64]


class Refreshed:
    """The episodes that the run's policies have driven so far, and which of their rows count as annotated."""

    def __init__(self, path: Path, scenario: str, schedule: ScheduleSettings, annotates: bool) -> None:
        """`annotates` is whether anything reads their knowledge: plain rivals have no frame annotated."""
        self._scenario, self._schedule, self._annotates = scenario, schedule, annotates
        self.rollouts = Rollouts(path)
        self.rollouts.create()
        self.rollouts.sweep()
        self.refreshes: list[list[str]] = []
        """Names of the episodes of each refresh that counts, in the order in which they were driven."""

    def restore(self, state: Mapping[str, Any]) -> Iterator[tuple[Episode, Rows]]:
        """Keep the episodes that counted at a checkpoint, the state of a Refresh, and of those that were being driven
        then what there is: the same weights are driving them. Later ones are deleted: their part of the run is done
        again."""
        names, each = list(state["recorded"]), self._schedule.refresh_episodes
        sizes = state.get("sizes", [each] * (len(names) // each))  # an earlier version drove as many at each
        ends = np.cumsum(sizes, dtype=np.int64).tolist()
        self.refreshes = [names[end - size : end] for size, end in zip(sizes, ends, strict=True)]
        driving = [self.named(job["seeds"]) for errand in state["pending"] for job in errand["jobs"]]
        for name in set(self.rollouts.names()) - set(names).union(*driving):
            shutil.rmtree(self.rollouts.path / name)
        for refresh in self.refreshes:
            yield from self.read(refresh)

    def read(self, names: Sequence[str]) -> list[tuple[Episode, Rows]]:
        """The episodes of one refresh."""
        found: list[tuple[Episode, Rows]] = []
        for share, frames in in_shares(names, self._schedule.refresh_frames, self._schedule.shares):
            episodes = [self.rollouts.episode(name) for name in share]
            rows = chosen_rows(episodes, frames) if self._annotates else [np.empty(0, np.int64) for _ in episodes]
            found += zip(episodes, rows, strict=True)
        return found

    def named(self, seeds: Sequence[int]) -> list[str]:
        """The names of episodes."""
        return [episode_name(self._scenario, seed) for seed in seeds]


class Refresh(AfterUpdate):
    """Have the policy drive, and grow the pool with what has been driven and annotated."""

    def __init__(
        self,
        agent: Learner,
        replay: SelectiveReplay,
        knowledge: KnowledgeSet,
        driven: Refreshed,
        schedule: ScheduleSettings,
        crew: Crew,
        keep: Callable[[Sequence[Digests]], None],
    ) -> None:
        """`keep` takes the digests of cache records that the run has come to rest on."""
        super().__init__(agent)
        self._replay, self._knowledge, self._driven, self._schedule = replay, knowledge, driven, schedule
        self._errands, self._keep = Errands(crew, schedule), keep
        self._sent = 0

    def after(self, update: int) -> Iterable[Entry]:
        schedule = self._schedule
        if schedule.refreshes(update):
            first = REFRESH_SEEDS + self._sent
            seeds, weights = range(first, first + self._episodes()), snapshot(self.agent)
            shares = in_shares(seeds, schedule.refresh_frames, schedule.shares)
            jobs = [Job(weights, tuple(share), records=True, frames=frames) for share, frames in shares]
            self._errands.send(update, jobs, {})
            self._sent += len(seeds)
        for errand, _ in self._errands.home(update):
            names = self._driven.named([seed for job in errand.jobs for seed in job.seeds])
            yield Entry(errand.update, self._grow(names, errand.update))

    def state_dict(self) -> dict[str, Any]:
        refreshes = self._driven.refreshes
        names, sizes = [name for refresh in refreshes for name in refresh], [len(refresh) for refresh in refreshes]
        return {"recorded": names, "sizes": sizes, "pending": self._errands.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._errands.restore(state_dict["pending"])
        pending = sum(len(job["seeds"]) for errand in state_dict["pending"] for job in errand["jobs"])
        self._sent = len(state_dict["recorded"]) + pending

    def _episodes(self) -> int:
        """How many episodes to drive now."""
        most, decisions = self._schedule.refresh_episodes, self._schedule.refresh_decisions
        newest = [frames - 1 for _, frames in self._replay.pool.episodes[-NEWEST:]]
        if not (decisions and newest):
            return most
        return min(max(round(decisions / max(float(np.mean(newest)), 1.0)), 1), most)

    def _grow(self, names: Sequence[str], update: int) -> dict[str, float]:
        """Take the episodes that the policy of that update has driven; returns means over them for the log."""
        grown = self._driven.read(names)
        self._driven.refreshes.append(list(names))
        self._knowledge.cache.refresh()
        for episode, rows in grown:
            self._replay.add(episode, self._knowledge, rows, update)
        self._keep([records_used(episode, self._knowledge, rows) for episode, rows in grown])
        return {
            "refresh/reward": float(np.mean([episode.attributes["total_reward"] for episode, _ in grown])),
            "refresh/steps": float(np.mean([episode.steps for episode, _ in grown])),
            "refresh/annotated": float(sum(len(rows) for _, rows in grown)),
        }
