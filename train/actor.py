"""Who drives for a run: a share of a refresh, which is recorded and annotated, or a share of a validation."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semore.annotate.episodes import EpisodeAnnotator, chosen_rows
from semore.annotate.settings import ExecutorSettings
from semore.collect.env import DrivingEnv
from semore.collect.policies import Action, Info
from semore.collect.recorder import episode_name, record
from semore.collect.rollout import drive
from semore.datasets.knowledge.cache import KnowledgeSet, open_set
from semore.datasets.rollouts.store import Rollouts
from semore.train.agent import make_agent
from semore.train.agent_settings import AgentSettings
from semore.train.learner import Learner, PolicyNetwork
from semore.train.online import EnvPool, World

TOGETHER: Final = 16
"""Validation episodes driven in lockstep at most."""

T = TypeVar("T")

Ends = list[Mapping[str, Any]]
"""The metrics of each episode driven (collect.env.EpisodeMetrics), and `steers`, the steering at each of its decisions
in [−1, 1]."""


@dataclass(frozen=True)
class Brief:
    """What is the same in all that a run's actors do; it travels to their processes."""

    world: World
    agent: AgentSettings
    spread: float
    """How much of σ the policy's noise has when it refreshes."""
    rollouts: Path
    """Where refreshed episodes lie."""
    knowledge: tuple[Path, str] | None
    """Cache and name of the knowledge set that they are annotated into; None: nothing reads it."""
    executor: ExecutorSettings
    shares: int
    """In how many shares episodes are driven: CARLA's servers are dealt out to them."""
    memory: float = 0.0
    """Correlation of that noise from one decision to the next."""


@dataclass(frozen=True)
class Job:
    """Episodes that one actor drives in lockstep: it says all that their outcome depends on, whoever the actor is."""

    weights: Mapping[str, Tensor]
    """Of the acting network, on the CPU."""
    seeds: tuple[int, ...]
    records: bool
    """Whether it is of a refresh: the policy is noisy, and the episodes are kept and annotated."""
    frames: int = 0
    """How many of their frames are annotated (0: every decision)."""


class Actor:
    """Does one job after another. The same job has the same outcome in any process and on any number of threads."""

    def __init__(
        self, brief: Brief, threads: int = 1, fleet: EnvPool | None = None, knowledge: KnowledgeSet | None = None
    ) -> None:
        """Environments step on so many threads. It opens them and the knowledge set for itself, unless it is given
        them. SemoreError when the set's producers can't be made."""
        self._brief, self._threads, self._stack = brief, threads, ExitStack()
        self._fleet = fleet or EnvPool(brief.world, brief.shares)
        if fleet is None:
            self._stack.callback(self._fleet.close)
        with torch.random.fork_rng(devices=()):  # its first weights are not those of the run
            self._network = PolicyNetwork.of(make_agent(brief.agent))
        self._annotate: EpisodeAnnotator | None = None
        if brief.knowledge is not None:
            self._annotate = EpisodeAnnotator(knowledge or open_set(*brief.knowledge), brief.executor)
            self._stack.callback(self._annotate.close)
        self._rollouts = Rollouts(brief.rollouts)

    def work(self, job: Job) -> Ends:
        """Do it; what of it is on disk as a whole is not done again. SemoreError for what the user must mend."""
        self._network.load_state_dict(dict(job.weights))
        with one_thread():
            return self._refresh(job) if job.records else self._validate(job)

    def close(self) -> None:
        """Give back what it has opened."""
        self._stack.close()

    def _refresh(self, job: Job) -> Ends:
        world, path = self._brief.world, self._rollouts.path
        names = [episode_name(world.scenario, seed) for seed in job.seeds]
        there = [name for name in names if (path / name).is_dir()]
        if len(there) < len(names):
            # Who is driven beside whom decides how sums are rounded: a share is driven as a whole.
            for name in there:
                shutil.rmtree(path / name)
            about = {"policy": "trained", "action_repeat": world.frame_skip, "reward": world.reward}
            policy = world.policy(self._network, self._brief.spread, self._brief.memory)
            record(self._rollouts, self._fleet.envs(len(names)), policy, job.seeds, about, threads=self._threads)
        if self._annotate is not None:
            episodes = [self._rollouts.episode(name) for name in names]
            # A segmenter that loads its weights draws random numbers, and whether it has to depends on what is cached.
            with torch.random.fork_rng(devices=()):
                self._annotate(episodes, chosen_rows(episodes, job.frames))
        return []

    def _validate(self, job: Job) -> Ends:
        envs, policy = self._fleet.envs(min(len(job.seeds), TOGETHER)), self._brief.world.policy(self._network)
        steers: dict[int, list[float]] = {}

        def begin(seed: int, env: DrivingEnv) -> None:
            steers[seed] = []  # anew, too, when an episode was lost and is driven again

        def watch(seed: int, observation: NDArray[np.uint8], action: Action | None, info: Info) -> None:
            if action is not None:
                steers[seed].append(float(action[0]))

        ends = drive(envs, policy, job.seeds, begin, watch, self._threads)
        return [{**info["metrics"], "steers": steers[seed]} for seed, info in ends]


def snapshot(agent: Learner) -> dict[str, Tensor]:
    """A copy of the weights that act, on the CPU: actors act there, wherever the agent learns."""
    return {name: value.detach().cpu().clone() for name, value in PolicyNetwork.of(agent).state_dict().items()}


def in_shares(episodes: Sequence[T], frames: int, shares: int) -> list[tuple[Sequence[T], int]]:
    """Episodes in so many shares, in order, and how many frames of each are annotated of `frames` in all (0: all); none
    is empty."""
    first = [len(episodes) * number // shares for number in range(shares + 1)]
    least = [frames * number // shares for number in range(shares + 1)]
    return [
        (episodes[begin:end], more - less)
        for begin, end, less, more in zip(first, first[1:], least, least[1:], strict=False)
        if begin < end
    ]


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch compute on one thread meanwhile: how sums are rounded depends on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
