"""The selective replay buffer: admission by verdict and decay δ, and the sampler (method.md §6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semore.datasets.atomic_io import digest16
from semore.datasets.errors import SemoreError
from semore.datasets.frame_pool import UNJUDGED, Batch, FramePool, Transitions, frames_of
from semore.datasets.knowledge.cache import KnowledgeSet
from semore.datasets.rollouts.store import Episode
from semore.train.admission import ReplaySettings, admitted, decay, draw_weights

Advise = Callable[[Episode], NDArray[np.float32]]

NEWEST: Final = 1_000
"""Decisions over which the newest admit rate is taken."""
NO_DECISION: Final = -1
"""The step of a frame at which nothing was decided: an episode's last one."""


class SelectiveReplay:
    """Admitted transitions over a FramePool, sampled without replacement within a batch: uniformly, or by weight.

    What is admitted follows from what stands beside each pool frame (its decision's number and draw) and from its
    verdict, so that a verdict that comes later judges it again.
    """

    def __init__(self, pool: FramePool, settings: ReplaySettings, seed: int, advise: Advise | None = None) -> None:
        """`advise` tells, for an episode, what its driving is to be imitated by (FramePool.add's `advice`)."""
        self.pool, self.settings, self._advise = pool, settings, advise
        self._generator = np.random.default_rng([seed, 0x5E1])
        self._index = np.zeros(0, np.int64)
        self._chance: NDArray[np.float64] | None = None
        """With rule weights, how probably each admitted transition is drawn; None: all alike."""
        self._step = np.full(pool.capacity, NO_DECISION)
        self._draw = np.zeros(pool.capacity)
        self._initial = np.zeros(pool.capacity, np.bool_)
        self._recorded_at: list[int] = []
        self._policies: list[str] = []
        self.offered = 0
        self._random_offered = 0

    def __len__(self) -> int:
        return len(self._index)

    @property
    def delta(self) -> float:
        """δ_t = max(0, 1 − d·t) with d = 0.5/T_f after t offered decisions."""
        return float(self._delta(np.array(self.offered)))

    def add(
        self,
        episode: Episode,
        knowledge: KnowledgeSet,
        visible: NDArray[np.int64] | None = None,
        update: int = 0,
    ) -> None:
        """Take an episode, recorded after so many updates, into the pool and offer its transitions to the filter, in
        order. Only the knowledge of its `visible` rows counts (None: of all); the oldest episodes make room."""
        held, size = len(self.pool.episodes), self.pool.size
        dropped = self.pool.forget(frames_of(episode, self.pool.view.frame_skip))
        gone = held - len(self.pool.episodes)
        self._recorded_at, self._policies = self._recorded_at[gone:], self._policies[gone:]
        for store in (self._step, self._draw, self._initial):
            store[: size - dropped] = store[dropped:size].copy()
            store[size - dropped : size] = NO_DECISION if store is self._step else 0
        new = self.pool.add(episode, knowledge, visible, self._advise(episode) if self._advise else None)
        self._offer(new)
        self._recorded_at.append(update)
        self._policies.append(new.policy)
        self.judge()

    def learn(self, episode: Episode, knowledge: KnowledgeSet, visible: NDArray[np.int64] | None = None) -> None:
        """Read an episode's knowledge anew, and judge the buffer again; nothing when it has made room for others."""
        if self.pool.learn(episode, knowledge, visible):
            self.judge()

    def judge(self) -> None:
        """Admit by the verdicts as they stand now, each transition with the δ and the draw of its own time."""
        (decisions,) = np.nonzero(self._step[: self.pool.size] != NO_DECISION)
        verdict = self.pool.verdict.numpy()[decisions]
        terminal = self.pool.not_done.numpy()[decisions, 0] == 0.0
        delta, draw = self._delta(self._step[decisions]), self._draw[decisions]
        accepted = admitted(verdict, terminal, self._initial[decisions], delta, draw, self.settings.admission)
        self._index = decisions[accepted]
        if self.settings.admission == "weights":
            weights = draw_weights(verdict, terminal, self._initial[decisions], delta)
            self._chance = weights / weights.sum() if len(weights) else None

    def sample(self, batch: int, frames: Tensor | None = None) -> Batch:
        """`batch` admitted transitions, their frames in the given buffer (`FramePool.gather`); SemoreError when the
        replay holds fewer."""
        if batch > len(self._index):
            raise SemoreError(
                f"the replay buffer holds {len(self._index)} transitions, fewer than a batch of {batch}; record more "
                "episodes (--episodes) or soften the filter (--replay.filter_steps, --replay.admission off)"
            )
        chosen = self._index[
            self._generator.choice(len(self._index), batch, replace=False, p=self._chance, shuffle=False)
        ]
        return self.pool.gather(torch.from_numpy(chosen), frames)

    def latest(self, batch: int) -> Tensor:
        """Pool indices of the newest `batch` admitted transitions, for pictures and checks."""
        return torch.from_numpy(self._index[-batch:])

    def composition(self, update: int, student_share: float) -> dict[str, float]:
        """For the log: δ, sizes, admit rates (of all decisions held, by behaviour, and of the newest thousand), what
        the buffer consists of, how old its transitions are (updates), and how often the student's mask stands in when
        it replaces a cached one with the probability `student_share`."""
        decided = self._step[: self.pool.size] != NO_DECISION
        within = np.zeros(self.pool.size, np.bool_)
        within[self._index] = True
        sizes = [count for _, count in self.pool.episodes]
        policy = np.repeat(np.array(self._policies, np.str_), sizes)
        age = update - np.repeat(np.array(self._recorded_at, np.int64), sizes)
        known = self.pool.mask_valid.numpy()[: self.pool.size][within]
        verdict = self.pool.verdict.numpy()[: self.pool.size]
        entry = {
            "replay/delta": self.delta,
            "replay/offered": float(self.offered),
            "replay/transitions": float(len(self)),
            "replay/frames": float(self.pool.size),
            "replay/admit_rate": _mean(within[decided]),
            "replay/admit_rate_newest": _mean(within[decided][-NEWEST:]),
            "replay/dropped": float(decided.sum() - len(self)),
            "replay/known_share": _mean(known),
            "replay/student_share": 1.0 - _mean(known) * (1.0 - student_share),
            "replay/staleness": _mean(age[within]),
            "replay/unjudged_share": _mean(verdict[within] == UNJUDGED),
            "replay/reasonable_share": _mean(verdict[within] == 1),
            "replay/terminal_share": _mean(self.pool.not_done.numpy()[: self.pool.size, 0][within] == 0.0),
        }
        for name in sorted(set(self._policies)):
            entry[f"replay/admit_rate_{name}"] = _mean(within[decided & (policy == name)])
            entry[f"replay/share_{name}"] = _mean(policy[within] == name)
        return entry

    def state(self) -> dict[str, Any]:
        """Everything but frames and masks, which resume reads again from rollouts and cache."""
        size = self.pool.size
        return {
            "generator": self._generator.bit_generator.state,
            "step": torch.from_numpy(self._step[:size].copy()),
            "draw": torch.from_numpy(self._draw[:size].copy()),
            "initial": torch.from_numpy(self._initial[:size].copy()),
            "verdict": self.pool.verdict[:size].clone(),
            "mask_valid": self.pool.mask_valid[:size].clone(),
            "contents": self._contents(),
            "recorded_at": self._recorded_at,
            "policies": self._policies,
            "offered": self.offered,
            "random_offered": self._random_offered,
            "episodes": list(self.pool.episodes),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Bring the filter, the sampler and what was known back to `state`; the pool holds the episodes already.
        SemoreError when they are others, or when the cache now answers otherwise."""
        if [tuple(entry) for entry in state["episodes"]] != self.pool.episodes:
            raise SemoreError("the rollouts have changed since the checkpoint; start a new run with --run NAME")
        size = self.pool.size
        self._generator.bit_generator.state = state["generator"]
        for store, saved in ((self._step, "step"), (self._draw, "draw"), (self._initial, "initial")):
            store[:size] = state[saved].numpy()
        self.pool.verdict[:size] = state["verdict"]
        self.pool.mask_valid[:size] &= state["mask_valid"]
        self.pool.masks[:size][~self.pool.mask_valid[:size]] = 0
        self._recorded_at, self._policies = list(state["recorded_at"]), list(state["policies"])
        self.offered, self._random_offered = state["offered"], state["random_offered"]
        if self._contents() != state["contents"]:
            raise SemoreError(
                "the cached masks are no longer those of the checkpoint (was knowledge removed or made anew since?); "
                "start a new run with --run NAME"
            )
        self.judge()

    def _contents(self) -> str:
        """Digest of what the pool shows: frames through their count, masks through their bytes."""
        size = self.pool.size
        valid = self.pool.mask_valid[:size]
        parts = (self.pool.masks[:size][valid], valid, self.pool.reward[:size], self.pool.action[:size])
        return digest16(*(part.numpy().tobytes() for part in parts)).hex()

    def _offer(self, new: Transitions) -> None:
        span = slice(new.first, new.first + new.count)
        if new.initial:
            left = max(0, self.settings.random_steps - self._random_offered)
            self._initial[new.first : new.first + min(left, new.count)] = True
            self._random_offered += new.count
        self._step[span] = self.offered + np.arange(new.count)
        self._draw[span] = self._generator.random(new.count)
        self.offered += new.count

    def _delta(self, step: NDArray[Any]) -> NDArray[np.float64]:
        return decay(step, self.settings.filter_steps)


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else 0.0
