"""The pedestrians' crossing rule (method.md §2.2), as orders to the server."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

DECISION_STEPS: Final = 20
"""A waiting walker tosses its coin every so many steps."""


class Axis(NamedTuple):
    """Where a walker crosses: a point of the road's reference line (m) and the yaw (rad) pointing right of it."""

    x: float
    y: float
    yaw: float


class Walking(NamedTuple):
    """The observed place (m) and velocity (m/s) of a walker."""

    x: float
    y: float
    vx: float
    vy: float


class Order(NamedTuple):
    """An order to walk towards `yaw` (rad) at `speed` m/s."""

    yaw: float
    speed: float


class PedestrianRules:
    """Gives the orders of an episode's walkers by the crossing rule.

    Beyond `band` m from the reference line a walker keeps its last order; every DECISION_STEPS steps a random number
    below 0.5 sends it towards the road. Within the band it keeps its direction, which is left when it has none. `left`
    and `right` are the crossing speeds (m/s) of all walkers."""

    def __init__(self, axes: Sequence[Axis], band: float, left: float, right: float, rng: np.random.Generator) -> None:
        self._axes, self._band, self._left, self._right, self._rng = axes, band, left, right, rng
        self._sides = [0] * len(axes)  # −1 left, +1 right, 0 no order yet

    def orders(self, tick: int, walkers: Sequence[Walking]) -> list[Order | None]:
        """What each walker is told at the beginning of step `tick` (0, 1, …); None for one that has no order yet."""
        decide = tick % DECISION_STEPS == 0
        coins = self._rng.random(len(self._axes)) if decide and self._axes else np.ones(len(self._axes))
        found: list[Order | None] = []
        for number, (axis, walker, coin) in enumerate(zip(self._axes, walkers, coins, strict=True)):
            side = self._sides[number] = self._side(axis, walker, self._sides[number], bool(coin < 0.5))
            if side == 0:
                found.append(None)
            else:
                found.append(Order(axis.yaw, self._right) if side > 0 else Order(axis.yaw + math.pi, self._left))
        return found

    def _side(self, axis: Axis, walker: Walking, told: int, heads: bool) -> int:
        cos, sin = math.cos(axis.yaw), math.sin(axis.yaw)
        off = (walker.x - axis.x) * cos + (walker.y - axis.y) * sin
        if abs(off) > self._band:
            return (-1 if off > 0.0 else 1) if heads else told
        return 1 if walker.vx * cos + walker.vy * sin > 0.0 else -1
