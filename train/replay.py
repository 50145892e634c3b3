"""The selective replay buffer: what is admitted, by verdict and decay δ, and the sampler (method.md §6)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.errors import SemoreError
from datasets.frame_pool import UNJUDGED, Batch, FramePool, Transitions, frames_of
from datasets.knowledge import KnowledgeSet
from datasets.rollouts import Episode

ADMISSIONS = ("recommended", "literal", "off")


@dataclass(frozen=True)
class ReplaySettings:
    """The filter and the pool."""

    admission: str = "recommended"
    """recommended (strict early, lax late), literal (the public code's intended rule), or off."""
    filter_steps: int = 10_000
    """T_f: decisions until δ has fallen to 0.5 and everything is admitted."""
    random_steps: int = 1_000
    """First decisions of random behaviours, always admitted (the method's initial random steps)."""
    pool_frames: int = 40_000
    """Frames the pool can hold; the oldest episodes go first."""


def admitted(
    verdict: NDArray[np.uint8],
    terminal: NDArray[np.bool_],
    initial: NDArray[np.bool_],
    delta: NDArray[np.float64],
    draw: NDArray[np.float64],
    rule: str,
) -> NDArray[np.bool_]:
    """Which of T transitions enter the buffer (method.md §6.2, §6.4); all arguments (T,), draw uniform in [0, 1).

    recommended: while δ > 0.5, with probability δ a verdict of 1 is required. literal: while δ > 0.5, verdict 1 and
    draw < δ. After that, and always for initial, terminal and unjudged transitions: admitted.
    """
    if rule == "off":
        return np.ones(len(verdict), np.bool_)
    if rule == "recommended":
        passes: NDArray[np.bool_] = (verdict == 1) | (draw >= delta)
    elif rule == "literal":
        passes = (verdict == 1) & (draw < delta)
    else:
        raise SemoreError(f"unknown admission {rule!r}; choose one of {', '.join(ADMISSIONS)}")
    exempt: NDArray[np.bool_] = initial | terminal | (verdict == UNJUDGED) | (delta <= 0.5)
    return passes | exempt


class SelectiveReplay:
    """Admitted transitions over a FramePool, sampled uniformly without replacement within a batch."""

    def __init__(self, pool: FramePool, settings: ReplaySettings, seed: int) -> None:
        self.pool, self.settings = pool, settings
        self._generator = np.random.default_rng([seed, 0x5E1])
        self._index = np.zeros(0, np.int64)
        self.offered = 0
        self._random_offered = 0
        self._offered_by: Counter[str] = Counter()
        self._admitted_by: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def delta(self) -> float:
        """δ_t = max(0, 1 − d·t) with d = 0.5/T_f after t offered decisions."""
        return float(self._delta(np.array(self.offered)))

    def add(self, episode: Episode, knowledge: KnowledgeSet) -> None:
        """Take an episode into the pool and offer its transitions to the filter, in order."""
        dropped = self.pool.forget(frames_of(episode, self.pool.view.frame_skip))
        if dropped:
            self._index = self._index[self._index >= dropped] - dropped
        self._offer(self.pool.add(episode, knowledge))

    def sample(self, batch: int) -> Batch:
        """`batch` admitted transitions; SemoreError when the buffer holds fewer."""
        if batch > len(self._index):
            raise SemoreError(
                f"the replay buffer holds {len(self._index)} transitions, fewer than a batch of {batch}; record more "
                "episodes (--episodes) or soften the filter (--replay.filter_steps, --replay.admission off)"
            )
        chosen = self._index[self._generator.choice(len(self._index), batch, replace=False, shuffle=False)]
        return self.pool.gather(torch.from_numpy(chosen))

    def latest(self, batch: int) -> Tensor:
        """Pool indices of the newest `batch` admitted transitions, for pictures and checks."""
        return torch.from_numpy(self._index[-batch:])

    def composition(self) -> dict[str, float]:
        """δ, sizes, admit rates by behaviour and the share of sampled frames that have knowledge, for the log."""
        known = self.pool.mask_valid[torch.from_numpy(self._index)].float().mean().item() if len(self) else 0.0
        rates = {f"replay/admit_rate_{name}": self._admitted_by[name] / n for name, n in self._offered_by.items()}
        total = max(sum(self._offered_by.values()), 1)
        return {
            "replay/delta": self.delta,
            "replay/transitions": float(len(self)),
            "replay/frames": float(self.pool.size),
            "replay/admit_rate": sum(self._admitted_by.values()) / total,
            "replay/dropped": float(total - sum(self._admitted_by.values())),
            "replay/known_share": known,
            **rates,
        }

    def state(self) -> dict[str, Any]:
        """Everything but the frames, which resume reads again from the rollouts."""
        return {
            "generator": self._generator.bit_generator.state,
            "index": torch.from_numpy(self._index.copy()),
            "offered": self.offered,
            "random_offered": self._random_offered,
            "offered_by": dict(self._offered_by),
            "admitted_by": dict(self._admitted_by),
            "episodes": list(self.pool.episodes),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Undo what re-adding the episodes did to filter and sampler; SemoreError when the pool holds other ones."""
        if [tuple(entry) for entry in state["episodes"]] != self.pool.episodes:
            raise SemoreError("the rollouts have changed since the checkpoint; start a new run with --run NAME")
        self._generator.bit_generator.state = state["generator"]
        self._index = state["index"].numpy().copy()
        self.offered, self._random_offered = state["offered"], state["random_offered"]
        self._offered_by, self._admitted_by = Counter(state["offered_by"]), Counter(state["admitted_by"])

    def _offer(self, new: Transitions) -> None:
        count = len(new.verdict)
        initial = np.zeros(count, np.bool_)
        if new.initial:
            initial[: max(0, self.settings.random_steps - self._random_offered)] = True
            self._random_offered += count
        delta = self._delta(self.offered + np.arange(count))
        draw = self._generator.random(count)
        accepted = admitted(new.verdict, new.terminal, initial, delta, draw, self.settings.admission)
        self._index = np.concatenate([self._index, new.first + np.flatnonzero(accepted)])
        self.offered += count
        self._offered_by[new.policy] += count
        self._admitted_by[new.policy] += int(accepted.sum())

    def _delta(self, step: NDArray[Any]) -> NDArray[np.float64]:
        return np.maximum(0.0, 1.0 - 0.5 / max(self.settings.filter_steps, 1) * step)
