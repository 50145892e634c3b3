"""The order of frames when there is no time for all: every prefix is spread over what happens.

A frame's place on its episode's clock is the change of picture seen so far, plus a little for time itself. Halving that
clock again and again (the van der Corput sequence) visits scene changes and long quiet stretches alike, and comes to
near-copies last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.annotate.scheduling.plan import Plan
from semore.datasets.rollouts.store import Episode

THUMBNAIL: Final = 16
"""Side of the grey pictures whose change is measured."""
TIME_SHARE: Final = 0.25
"""Share of the clock that runs with time rather than with change."""


@dataclass(frozen=True)
class Order:
    """Frames, best first: numbers (n,) of their episodes among `paths`, and rows (n,) in them."""

    paths: tuple[Path, ...]
    numbers: NDArray[np.int64]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, span: slice) -> Order:
        return Order(self.paths, self.numbers[span], self.rows[span])

    def by_path(self) -> dict[Path, NDArray[np.int64]]:
        """The rows of each episode, ascending."""
        return {self.paths[number]: np.sort(self.rows[self.numbers == number]) for number in np.unique(self.numbers)}

    def of(self, plan: Plan) -> Order:
        """Those frames on which the plan has work."""
        busy = {part.episode.path: part.rows for part in plan.parts}
        none = np.empty(0, np.int64)
        kept = np.zeros(len(self), np.bool_)
        for number, path in enumerate(self.paths):
            (own,) = np.nonzero(self.numbers == number)
            kept[own] = np.isin(self.rows[own], busy.get(path, none))
        return Order(self.paths, self.numbers[kept], self.rows[kept])


def frame_order(episodes: Sequence[Episode], rows: Sequence[NDArray[np.int64]], count: int | None = None) -> Order:
    """The first `count` (default all) of the episodes' rows: each episode's first choice, then each one's second, …,
    the episodes themselves in a spread order.

    Pictures are read only as far as they matter: a few frames of many episodes cost little.
    """
    turns = visiting_order(np.linspace(0, 1, len(episodes)))[:count]
    chosen = [
        rows[number][visiting_order(change_clock(episodes[number].read("rgb")["rgb"])[rows[number]])]
        for number in turns.tolist()
    ]
    sizes = [len(own) for own in chosen]
    ranks = np.concatenate([np.empty(0, np.int64), *map(np.arange, sizes)])
    best = np.lexsort((np.repeat(np.arange(len(turns)), sizes), ranks))[:count]
    flat = np.concatenate([np.empty(0, np.int64), *chosen])
    return Order(tuple(episode.path for episode in episodes), np.repeat(turns, sizes)[best], flat[best])


def change_clock(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N,) ascending in [0, 1]: where each of the pictures (N, H, W, 3) stands on the episode's clock."""
    height, width = (max(side // THUMBNAIL, 1) for side in rgb.shape[1:3])
    small = rgb[:, height // 2 :: height, width // 2 :: width].astype(np.float32).mean(3)
    change = np.abs(np.diff(small, axis=0)).mean((1, 2)).astype(np.float64)
    steps = np.maximum(len(rgb) - 1, 1)
    total = change.sum()
    moved = change / total if total > 0 else np.full(len(change), 1 / steps)
    return np.concatenate([[0.0], np.cumsum((1 - TIME_SHARE) * moved + TIME_SHARE / steps)])


def visiting_order(clock: NDArray[np.float64]) -> NDArray[np.int64]:
    """(N,) a permutation of the frames at the ascending places `clock`, best first."""
    left = np.ones(len(clock), np.bool_)
    order: list[int] = []
    for target in _van_der_corput():
        if len(order) == len(clock):
            break
        nearest = int(np.argmin(np.where(left, np.abs(clock - target), np.inf)))
        left[nearest] = False
        order.append(nearest)
    return np.array(order, np.int64)


def _van_der_corput() -> Iterator[float]:
    """1/2, 1/4, 3/4, 1/8, 5/8, 3/8, 7/8, …: each as far as can be from those before."""
    number = 1
    while True:
        value, denominator, rest = 0.0, 1.0, number
        while rest:
            rest, digit = divmod(rest, 2)
            denominator *= 2
            value += digit / denominator
        yield value
        number += 1
