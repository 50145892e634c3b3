"""Recorded frames in memory for training: single uint8 frames; stacks and residuals by indexing (design.md §4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from semore.datasets.action_text import action_words
from semore.datasets.actions import ACTION, finite
from semore.datasets.errors import SemoreError
from semore.datasets.frame_view import View
from semore.datasets.knowledge.cache import KnowledgeSet
from semore.datasets.knowledge.records import INVALID
from semore.datasets.mask_variants import frame_generators, replaced
from semore.datasets.resize import GREY, shrink
from semore.datasets.returns import n_step_returns
from semore.datasets.reward import driving_reward
from semore.datasets.rollouts.store import Episode

UNJUDGED: Final = INVALID
SHRINK_BATCH: Final = 128
CPU: Final = torch.device("cpu")
DRIVERS: Final = ("driver", "noisy_driver")
"""Behaviours worth imitating."""
RANDOM: Final = ("random", "wander")
"""Behaviours that count as the method's initial random steps (method.md §4)."""


COLUMNS: Final = (2, 1, 1, 1, 1, 1, 2)
"""Widths of action, reward, not_done, returns, discount, driver and advice."""
NOTHING_DONE: Final = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
"""FramePool.outcome of a frame on which nobody decided."""
NEWEST: Final = {4: [2, 3], 7: [2, 3, 6]}
"""Of a window's frames those that s, the next one and s' are newest in; where two are one, once."""


class Batch(NamedTuple):
    """B transitions. frames holds the window f1, f2, f3 = s and f4 = the next newest frame, oldest first; with returns
    of several decisions, F = 7, also the three that end in s'. The newest frame of s' is the last one in any case."""

    frames: Tensor  # (B, F, 3, S, S) uint8, F = 4 or 7
    mask: Tensor  # (B, M, s, s) float32 in [0, 1]: H_ka of s, of the next frame, and where it is another one of s'
    mask_valid: Tensor  # (B, M) bool: whether there is knowledge of that frame
    action: Tensor  # (B, 2) float32
    reward: Tensor  # (B, 1) float32
    not_done: Tensor  # (B, 1) float32: 0 after a terminal step, 1 after a time-out (bootstraps through)
    returns: Tensor  # (B, 1) float32: Σ γ^k·reward from s up to s'
    discount: Tensor  # (B, 1) float32: what the value of s' counts, γ^m after m decisions; 0 after a terminal one
    driver: Tensor  # (B, 1) float32: weight of imitating `advice`; 0 where it is no rule-based driver's
    advice: Tensor  # (B, 2) float32: the action to imitate; the one that was taken, unless advice was given


@dataclass(frozen=True)
class Transitions:
    """One episode's decisions as the replay's filter sees them; they begin at the pool index `first`. `initial`: a
    random policy acted, which counts as the method's initial random steps."""

    first: int
    count: int
    policy: str
    initial: bool


class FramePool:
    """Frames of fixed capacity with everything that a transition needs, indexed by frame.

    Decision i of an episode lies at the index of its frame; the next frame is at index + 1. `forget` drops the oldest
    episodes when a new one would not fit, and returns how far the indices have moved."""

    def __init__(self, view: View, capacity: int, home: torch.device = CPU) -> None:
        """`home` is where the frames lie, which are nearly all of it; the rest is in this machine's memory."""
        self.view, self.capacity = view, capacity
        need = forecast_bytes(view, capacity) - (frame_bytes(view, capacity) if home != CPU else 0)
        free = psutil.virtual_memory().available
        if need > 0.9 * free:
            raise SemoreError(
                f"a pool of {capacity} frames at {view.size} pixels needs {need / 2**30:.1f} GiB, {free / 2**30:.1f} "
                "are free; choose a smaller --replay.pool_frames or --agent.encoder.size"
            )
        self.frames = torch.zeros(capacity, 3, view.size, view.size, dtype=torch.uint8, device=home)
        self.masks = torch.zeros(capacity, view.mask_side, view.mask_side, dtype=torch.uint8)
        self.mask_valid = torch.zeros(capacity, dtype=torch.bool)
        self.start = torch.zeros(capacity, dtype=torch.int64)
        self.window = torch.zeros(capacity, view.window, dtype=torch.int64)
        """Pool indices of the frames of a transition, oldest first; an episode's first frame repeats."""
        self.outcome = torch.zeros(capacity, sum(COLUMNS))
        """What a decision did, in one piece so that a batch is gathered in one go; the next seven are its columns."""
        self.action, self.reward, self.not_done, self.returns, self.discount, self.driver, self.advice = (
            self.outcome.split(COLUMNS, dim=1)
        )
        self.verdict = torch.full((capacity,), UNJUDGED, dtype=torch.uint8)
        self.size = 0
        self.episodes: list[tuple[str, int]] = []
        """Names and frame counts of the episodes held, oldest first."""

    def forget(self, incoming: int) -> int:
        """Make room for `incoming` frames by dropping the oldest episodes; returns by how much indices shrank.

        SemoreError when the episode alone exceeds the capacity.
        """
        if incoming > self.capacity:
            raise SemoreError(
                f"an episode of {incoming} frames exceeds the pool of {self.capacity}; raise --replay.pool_frames"
            )
        dropped = 0
        # Dropping a tenth at a time keeps the cost of closing the gap small.
        spare = max(incoming, self.capacity // 10) if self.size + incoming > self.capacity else 0
        while self.episodes and self.size - dropped + spare > self.capacity:
            dropped += self.episodes.pop(0)[1]
        if dropped:
            for store in self._stores():
                for first in range(0, self.size - dropped, dropped):  # no part overlaps with where it goes
                    moved = store[first + dropped : min(first + 2 * dropped, self.size)]
                    store[first : first + len(moved)] = moved
            self.size -= dropped
            self.start[: self.size] -= dropped
            self.window[: self.size] -= dropped
        return dropped

    def add(
        self,
        episode: Episode,
        knowledge: KnowledgeSet,
        visible: NDArray[np.int64] | None = None,
        advice: NDArray[np.float32] | None = None,
    ) -> Transitions:
        """Append an episode (call `forget` first) with its masks and verdicts from the knowledge set: of all frames, or
        of the `visible` rows of the episode only. `advice` (decisions, 3) is what a rule-based driver would have done
        at each decision, and what imitating it weighs; without it, only what one did counts, and weighs 1."""
        arrays = episode.read("rgb", "action", "progress", "impulse", "terminated")
        rows, decisions = self._rows(episode, arrays["action"])
        frames = arrays["rgb"][rows].transpose(0, 3, 1, 2)
        for first in range(0, len(rows), SHRINK_BATCH):
            part = frames[first : first + SHRINK_BATCH]
            place = slice(self.size + first, self.size + first + len(part))
            self.frames[place] = GREY if self.view.grey else torch.from_numpy(shrink(part, self.view.size))
        held = slice(self.size, self.size + len(rows))
        self.start[held] = self.size
        newest = torch.arange(held.start, held.stop)
        places = [newest - 2, newest - 1, newest, newest + 1]
        if self.view.window > len(places):
            last = (newest + self.view.n_step).clamp_max(held.stop - 1)
            places += [last - 2, last - 1, last]
        self.window[held] = torch.stack(places, 1).clamp_min(self.size)
        self.outcome[held] = NOTHING_DONE
        acts = slice(self.size, self.size + decisions)
        ends = np.add.reduceat(arrays["terminated"], rows[:-1]) > 0
        self.action[acts] = torch.from_numpy(arrays["action"][rows[:-1]])
        self.reward[acts, 0] = torch.from_numpy(self._rewards(arrays, rows))
        self.not_done[acts, 0] = 1.0 - torch.from_numpy(ends.astype(np.float32))
        returns, discount = n_step_returns(
            self.reward[acts, 0].numpy(), self.not_done[acts, 0].numpy(), self.view.n_step, self.view.discount
        )
        self.returns[acts, 0], self.discount[acts, 0] = torch.from_numpy(returns), torch.from_numpy(discount)
        policy = str(episode.attributes["policy"])
        if advice is None:
            self.advice[acts], self.driver[acts] = self.action[acts], float(policy in DRIVERS)
        else:
            self.advice[acts], self.driver[acts] = torch.from_numpy(advice).split((2, 1), dim=1)
        transitions = Transitions(self.size, decisions, policy, policy in RANDOM)
        self.size += len(rows)
        self.episodes.append((episode.name, len(rows)))
        self.learn(episode, knowledge, visible)
        return transitions

    def learn(self, episode: Episode, knowledge: KnowledgeSet, visible: NDArray[np.int64] | None = None) -> bool:
        """Read the masks and verdicts of an episode of the pool (anew); False when it is no longer held."""
        names = [name for name, _ in self.episodes]
        if episode.name not in names:
            return False
        first = sum(count for _, count in self.episodes[: names.index(episode.name)])
        arrays = episode.read("action", "digest", "state_digest")
        rows = rows_of(episode, self.view.frame_skip)
        seen = np.ones(len(rows), np.bool_) if visible is None else np.isin(rows, visible)
        digests, states = arrays["digest"][rows], arrays["state_digest"][rows]
        masks, valid = knowledge.h_ka(digests[seen], states[seen], grid=self.view.mask_side)
        masks = replaced(masks, self.view.masks, frame_generators(digests[seen], self.view.mask_seed))
        masks[~valid] = 0
        places = first + torch.from_numpy(np.flatnonzero(seen))
        self.masks[first : first + len(rows)] = 0
        self.mask_valid[first : first + len(rows)] = False
        self.masks[places], self.mask_valid[places] = torch.from_numpy(masks), torch.from_numpy(valid)
        acted = rows[:-1][seen[:-1]]
        said = action_words(arrays["action"][acted])
        judged = knowledge.verdicts(arrays["digest"][acted], arrays["state_digest"][acted], said)
        self.verdict[first : first + len(rows)] = UNJUDGED
        self.verdict[first + torch.from_numpy(np.flatnonzero(seen[:-1]))] = torch.from_numpy(judged)
        return True

    def gather(self, index: Tensor, frames: Tensor | None = None) -> Batch:
        """The transitions at the pool indices `index` (B,) int64, the frames where the pool's are; fresh tensors, but
        for the frames where a buffer (F·B, 3, S, S) uint8 for them is given: fresh memory of that size costs more than
        filling it."""
        window, outcome = self.window.index_select(0, index), self.outcome.index_select(0, index)
        shown = window[:, NEWEST[self.view.window]]
        known, side, cells = shown.flatten(), self.view.size, self.view.mask_side
        return Batch(
            torch.index_select(self.frames, 0, self._at_home(window), out=frames).view(len(index), -1, 3, side, side),
            self.masks.index_select(0, known).view(*shown.shape, cells, cells) / 255.0,
            self.mask_valid.index_select(0, known).view(shown.shape),
            *outcome.split(COLUMNS, dim=1),
        )

    def observation(self, index: Tensor) -> Tensor:
        """Stacks (B,9,S,S) uint8, oldest first, whose newest frame is at `index`: what the environment would show."""
        shown = self._at_home(self.window[index, :3])
        return self.frames.index_select(0, shown).view(-1, 9, self.view.size, self.view.size)

    def _at_home(self, index: Tensor) -> Tensor:
        """Flat, where the frames are."""
        return index.flatten().to(self.frames.device)

    def _rows(self, episode: Episode, action: NDArray[np.float32]) -> tuple[NDArray[np.int64], int]:
        """Rows of the decision frames and the last frame; SemoreError when actions change within a decision."""
        skip, rows = self.view.frame_skip, rows_of(episode, self.view.frame_skip)
        finite(action, (episode.steps, 2), f"{episode.path}: {ACTION}")
        held = np.repeat(action[rows[:-1]], np.diff(rows), axis=0)
        if not np.array_equal(held, action):
            raise SemoreError(
                f"{episode.path}: actions were held for {episode.attributes.get('action_repeat')} steps and cannot be "
                f"viewed with frame_skip {skip}; record with --action_repeat {skip} or train with another --frame_skip"
            )
        return rows, len(rows) - 1

    def _rewards(self, arrays: dict[str, NDArray[Any]], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Mean reward of each decision's simulator steps, of the view's reward."""
        steer, pedal = arrays["action"].T
        reward = driving_reward(arrays["progress"], arrays["impulse"], steer, np.maximum(-pedal, 0.0), self.view.reward)
        return (np.add.reduceat(reward, rows[:-1]) / np.diff(rows)).astype(np.float32)

    def _stores(self) -> tuple[Tensor, ...]:
        return (
            self.frames, self.masks, self.mask_valid, self.start, self.window, self.outcome, self.verdict,
        )  # fmt: skip


def rows_of(episode: Episode, frame_skip: int) -> NDArray[np.int64]:
    """The rows of an episode that a pool takes: one per decision, and the last."""
    return np.append(np.arange(0, episode.steps, frame_skip), episode.steps)


def frames_of(episode: Episode, frame_skip: int) -> int:
    """The number of rows that a pool takes of an episode."""
    return len(rows_of(episode, frame_skip))


def forecast_bytes(view: View, capacity: int) -> int:
    """The memory in bytes that a pool of `capacity` frames takes."""
    return frame_bytes(view, capacity) + capacity * (view.mask_side**2 + 2 + 8 * (1 + view.window) + 4 * sum(COLUMNS))


def frame_bytes(view: View, capacity: int) -> int:
    """What of it the frames themselves take."""
    return capacity * 3 * view.size**2
