"""The policy drives: online refresh (records, annotates, grows the pool) and validation on held-out seeds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from semore.annotate.audit.truth import true_grids
from semore.collect.env import DrivingEnv
from semore.collect.network_policy import NetworkPolicy
from semore.collect.recorder import record
from semore.collect.rollout import drive
from semore.collect.simulator import simulator_identity
from semore.collect.simulators import at_once, make_simulator
from semore.datasets.action_text import action_words
from semore.datasets.frame_pool import FramePool, rows_of
from semore.datasets.knowledge.cache import KnowledgeSet
from semore.datasets.knowledge.records import Digests
from semore.datasets.rollouts.remedy import REFRESH
from semore.datasets.rollouts.schema import RECORDING_SIZE, SEED_SPLITS
from semore.datasets.rollouts.store import Episode, Rollouts
from semore.train.async_annotation import AsyncAnnotation, Group, grouped
from semore.train.health import MaskQuality, mask_quality
from semore.train.learner import Learner
from semore.train.replay import SelectiveReplay
from semore.train.settings import TrainSettings

REFRESH_SEEDS: Final = SEED_SPLITS["train"].start + 500_000
"""Refresh episodes start here, beyond what `collect` records."""
VALIDATION_SEEDS: Final = SEED_SPLITS["validation"].start + 1_000
"""Validation drives start here, beyond the recorded validation episodes."""


def make_envs(settings: TrainSettings, count: int) -> list[DrivingEnv]:
    """Environments showing what the network sees."""
    return [
        DrivingEnv(
            settings.scenario, settings.weather, make_simulator(settings.simulator, RECORDING_SIZE, settings.carla),
            settings.agent.encoder.size, frame_skip=settings.frame_skip, reward=settings.reward,
        )
        for _ in range(count)
    ]  # fmt: skip


class EnvPool:
    """The environments of a run, made when they are first needed; refresh and validation take turns with them."""

    def __init__(self, settings: TrainSettings) -> None:
        self._settings = settings
        self._envs: list[DrivingEnv] = []

    def envs(self, count: int) -> list[DrivingEnv]:
        """`count` environments, or fewer where the world has no room for so many."""
        count = at_once(self._settings.simulator, count, self._settings.carla)
        if len(self._envs) < count:
            self._envs += make_envs(self._settings, count - len(self._envs))
        return self._envs[:count]

    def world(self) -> dict[str, str]:
        """Name and versions of the world they drive in."""
        return simulator_identity(self.envs(1)[0].simulator)

    def close(self) -> None:
        """Give servers back."""
        for env in self._envs:
            env.close()


def acting(agent: Learner, settings: TrainSettings, spread: float = 0.0) -> NetworkPolicy:
    """The agent as a policy of `collect`, with `spread` times its σ of noise; observations go to the agent's device."""
    device = agent.device
    return NetworkPolicy(lambda observation: agent(observation.to(device)), policy_view(settings), spread)


def policy_view(settings: TrainSettings) -> dict[str, object]:
    """What an exported policy must be shown, and what it was trained for."""
    return {
        "size": settings.agent.encoder.size, "stack": 3, "frame_skip": settings.frame_skip,
        "scenario": settings.scenario, "weather": settings.weather, "reward": settings.reward,
        "simulator": settings.simulator, "grey": settings.grey,
    }  # fmt: skip


class Refresh:
    """Every so often the current policy drives; its episodes enter the pool, and their knowledge when it is there."""

    def __init__(
        self, settings: TrainSettings, fleet: EnvPool, backlog: AsyncAnnotation, knowledge: KnowledgeSet
    ) -> None:
        self._settings, self._fleet, self._knowledge = settings, fleet, knowledge
        self.backlog = backlog
        self.rollouts = Rollouts(settings.folder / REFRESH)
        self.rollouts.create()
        self.rollouts.sweep()
        self.recorded: list[str] = []
        """Names of the episodes recorded so far, in order."""

    def restore(self, names: Sequence[str], pending: Sequence[int]) -> Iterator[tuple[Episode, NDArray[np.int64]]]:
        """Keep the named episodes, delete later ones (their part of the run is done again), and hand the `pending`
        groups in again; the kept ones with the rows whose knowledge counts so far."""
        for name in set(self.rollouts.names()) - set(names):
            shutil.rmtree(self.rollouts.path / name)
        self.recorded = list(names)
        size = self._settings.schedule.refresh_episodes
        for number, first in enumerate(range(0, len(names), size)):
            group = self._group(number, names[first : first + size])
            if number in pending:
                self.backlog.submit(group)
            for episode, rows in zip(group.episodes, group.rows, strict=True):
                yield episode, rows if number not in pending else rows[:0]

    def drive(self, agent: Learner, replay: SelectiveReplay) -> dict[str, float]:
        """Drive, grow the pool, hand in for annotation; returns means over the new episodes for the log."""
        settings = self._settings
        count = settings.schedule.refresh_episodes
        envs = self._fleet.envs(count)
        first = REFRESH_SEEDS + len(self.recorded)
        about = {"policy": "trained", "action_repeat": settings.frame_skip, "reward": settings.reward}
        policy = acting(agent, settings, settings.schedule.refresh_spread)
        names = record(self.rollouts, envs, policy, range(first, first + count), about, threads=settings.threads)
        group = self._group(len(self.recorded) // count, names)
        self.backlog.submit(group)
        for episode in group.episodes:
            replay.add(episode, self._knowledge, visible=group.rows[0][:0], update=agent.updates)
        self.recorded += names
        return {
            "refresh/reward": float(np.mean([episode.attributes["total_reward"] for episode in group.episodes])),
            "refresh/steps": float(np.mean([episode.steps for episode in group.episodes])),
            "refresh/annotated": float(sum(map(len, group.rows))),
        }

    def learn(self, update: int, replay: SelectiveReplay) -> list[Digests]:
        """Make visible what has been annotated meanwhile; digests of the records that serve it."""
        groups = self.backlog.due(update)
        if groups:
            self._knowledge.cache.refresh()
        used = []
        for group in groups:
            for episode, rows in zip(group.episodes, group.rows, strict=True):
                replay.learn(episode, self._knowledge, rows)
                used.append(records_used(episode, self._knowledge, rows))
        return used

    def _group(self, number: int, names: Sequence[str]) -> Group:
        episodes = [self.rollouts.episode(name) for name in names]
        if not self._settings.uses_knowledge:  # plain rivals are not made to wait for masks that nothing reads
            return Group(number, tuple(episodes), tuple(np.empty(0, np.int64) for _ in episodes))
        return grouped(number, episodes, self._settings.schedule.refresh_frames)


def records_used(episode: Episode, knowledge: KnowledgeSet, rows: NDArray[np.int64]) -> Digests:
    """(M, 16) digests of the cache records that serve these rows of an episode."""
    arrays = episode.read("digest", "state_digest", "action")
    texts = knowledge.record_digests_used(arrays["digest"][rows], arrays["state_digest"][rows])
    acted = rows[rows < episode.steps]
    words = action_words(arrays["action"][acted])
    judged = knowledge.record_digests_used(arrays["digest"][acted], arrays["state_digest"][acted], words)
    return np.unique(np.concatenate([texts, judged]), axis=0)


class HeldOut(NamedTuple):
    """Recorded validation episodes: their frames and, whatever the knowledge set says, the simulator's own masks,
    (frames, g, g) uint8."""

    pool: FramePool
    truth: NDArray[np.uint8]

    @staticmethod
    def of(settings: TrainSettings, episodes: Sequence[Episode], knowledge: KnowledgeSet) -> HeldOut:
        """Read them."""
        rows = [rows_of(episode, settings.frame_skip) for episode in episodes]
        pool = FramePool(settings.view, max(sum(map(len, rows)), 1))
        for episode in episodes:
            pool.add(episode, knowledge)
        grid = settings.view.grid
        masks = [true_grids(episode, own, grid) for episode, own in zip(episodes, rows, strict=True)]
        return HeldOut(pool, np.concatenate([np.zeros((0, grid, grid), np.uint8), *masks]))


class Validation:
    """Deterministic drives on validation seeds, and the student's mask on recorded validation episodes."""

    def __init__(self, settings: TrainSettings, fleet: EnvPool, held_out: HeldOut) -> None:
        self._settings, self._fleet, self._held_out = settings, fleet, held_out

    def drive(self, agent: Learner) -> dict[str, float]:
        """Mean reward, distance (m) and crash intensity (N·s) over the validation seeds."""
        schedule = self._settings.schedule
        envs = self._fleet.envs(min(schedule.validate_episodes, 16))
        seeds = range(VALIDATION_SEEDS, VALIDATION_SEEDS + schedule.validate_episodes)
        policy = acting(agent, self._settings)
        ends = [info["metrics"] for _, info in drive(envs, policy, seeds, threads=self._settings.threads)]
        keys = ("reward", "distance", "crash_intensity", "steer", "brake")
        return {f"validation/{key}": float(np.mean([end[key] for end in ends])) for key in keys}

    def mask(self, agent: Learner, constant_gg: NDArray[np.float32], resamples: int) -> MaskQuality | None:
        """The student's mask against the simulator's truth, beside the constant map of training means; None without any
        object to find. The interval comes from `resamples` bootstrap draws (0: none)."""
        pool, truth = self._held_out
        device = agent.device
        with torch.inference_mode():
            parts = [agent(pool.observation(part).to(device))[2].cpu() for part in torch.arange(pool.size).split(256)]
        student = torch.cat(parts).numpy() if parts else truth.astype(np.float32)
        return mask_quality(
            student, truth.astype(np.float32) / 255.0, constant_gg, pool.start[: pool.size].numpy(), resamples=resamples
        )
