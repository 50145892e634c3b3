"""Walkers: they cross by the rule of method.md §2.2 and are solid.

A soft hit makes a walker freeze or step back, and a hard one knocks it over. It stays in the way in both cases."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.embedded.jit import kernel
from semore.collect.embedded.maps.road import locate_at, pose_at

Floats = NDArray[np.float64]

(S, T, X, Y, VX, VY, ORDER, FACING, DOWN, DAZE, RETREAT) = range(11)
"""Columns of `walkers` (W, 11): road position, world position (m) and velocity (m/s), standing order −1 (left), 0 or
+1 (right), the side it faces, 1 once knocked over, seconds it still stands dazed after a hit, and the side it then
steps back to (0: none, it just stood frozen)."""

WALKER_COLUMNS: Final = 11
DECISION_STEPS: Final = 20
"""Steps between two random decisions of a waiting walker."""
FALL: Final = 4.0
"""Velocity change in m/s from which a hit knocks a walker over."""
FREEZE: Final = 4.0
"""Seconds that a walker stands frozen after a softer hit."""
STEP_BACK: Final = 1.0
"""Seconds after which a walker that does not freeze steps back."""

_FRICTION = 6.9  # m/s², 0.7 g
_REELING = 0.3  # m/s above which somebody who was hit has no foothold
_WALL = 9.4  # m from the reference line: nobody walks into the houses


def walker_row(s: float, t: float, x: float, y: float, facing: float) -> Floats:
    """The row (11,) of a walker that stands at (s, t), which is (x, y) m, and faces the road's side `facing` (±1)."""
    row = np.zeros(WALKER_COLUMNS)
    row[[S, T, X, Y, FACING]] = s, t, x, y, facing
    return row


@kernel
def walk(
    walkers: Floats, segments: Floats, decide: bool, coins: Floats, band: float, left: float, right: float, dt: float
) -> Floats:
    """The walkers one step later, (W, 11).

    Beyond the band (|t| > `band` m) a walker waits or goes on as ordered; when `decide`, a coin below 0.5 sends it
    towards the road. Inside it keeps the direction it has, left when it has none. `left` and `right` are the crossing
    speeds, m/s. Somebody knocked over or dazed slides to rest at 6.9 m/s² and walks nowhere."""
    after = walkers.copy()
    for i in range(walkers.shape[0]):
        s, t, vx, vy = walkers[i, S], walkers[i, T], walkers[i, VX], walkers[i, VY]
        if walkers[i, DOWN] > 0.0 or walkers[i, DAZE] > 0.0:
            _slide(after[i], segments, dt)
            continue
        heading = pose_at(segments, s, 0.0)[2]
        across = vy * math.cos(heading) - vx * math.sin(heading)
        order = walkers[i, ORDER]
        if t > band:
            if decide and coins[i] < 0.5:
                order = -1.0
        elif t > -band:
            order = 1.0 if across > 0.0 else -1.0
        elif decide and coins[i] < 0.5:
            order = 1.0
        aim = t + (right if order > 0.0 else -left if order < 0.0 else 0.0) * dt
        aim = max(-_WALL, min(_WALL, aim))
        speed = (aim - t) / dt
        if speed != 0.0:
            after[i, FACING] = 1.0 if speed > 0.0 else -1.0
        x, y, _, _ = pose_at(segments, s, aim)
        after[i, T], after[i, X], after[i, Y], after[i, ORDER] = aim, x, y, order
        after[i, VX], after[i, VY] = -speed * math.sin(heading), speed * math.cos(heading)
    return after


@kernel
def stroll(walkers: Floats, segments: Floats, wishes: Floats, dt: float) -> Floats:
    """The walkers one step later, (W, 11), when somebody else decides where they go: `wishes` (W, 2) m/s. The houses
    stop them; somebody knocked over or dazed slides to rest and obeys nobody."""
    after = walkers.copy()
    for i in range(walkers.shape[0]):
        if walkers[i, DOWN] > 0.0 or walkers[i, DAZE] > 0.0:
            _slide(after[i], segments, dt)
            continue
        x, y = walkers[i, X] + wishes[i, 0] * dt, walkers[i, Y] + wishes[i, 1] * dt
        s, t, _ = locate_at(segments, x, y, 0)
        if abs(t) > _WALL:
            t = math.copysign(_WALL, t)
            x, y, _, _ = pose_at(segments, s, t)
        if t != walkers[i, T]:
            after[i, FACING] = 1.0 if t > walkers[i, T] else -1.0
        after[i, S], after[i, T], after[i, X], after[i, Y] = s, t, x, y
        after[i, VX], after[i, VY] = (x - walkers[i, X]) / dt, (y - walkers[i, Y]) / dt
    return after


@kernel
def _slide(walker: Floats, segments: Floats, dt: float) -> None:
    """Somebody hit, one step later, in place: friction, then the daze wears off and an order to step back is given."""
    speed = math.hypot(walker[VX], walker[VY])
    keep = max(0.0, speed - _FRICTION * dt) / speed if speed > 0.0 else 0.0
    walker[VX] *= keep
    walker[VY] *= keep
    walker[X] += walker[VX] * dt
    walker[Y] += walker[VY] * dt
    walker[S], walker[T], _ = locate_at(segments, walker[X], walker[Y], 0)
    if speed > _REELING or walker[DOWN] > 0.0:
        return
    walker[DAZE] = max(0.0, walker[DAZE] - dt)
    if walker[DAZE] == 0.0 and walker[RETREAT] != 0.0:
        # The rule lets whoever is on the road go on the way they move: a first small step decides it.
        heading = pose_at(segments, walker[S], 0.0)[2]
        walker[ORDER] = walker[FACING] = walker[RETREAT]
        walker[VX], walker[VY] = -0.1 * walker[RETREAT] * math.sin(heading), 0.1 * walker[RETREAT] * math.cos(heading)
        walker[RETREAT] = 0.0


def knock(walker: Floats, dvx: float, dvy: float, dx: float, dy: float, coin: float) -> Floats:
    """The row `walker` (11,) after a hit that changes its velocity by (dvx, dvy) m/s and moves it by (dx, dy) m.

    A first soft hit makes it freeze, or with `coin` below 0.5 step back to the side it came from; it stays as it was
    when it is merely pushed on."""
    after = walker.copy()
    after[X] += dx
    after[Y] += dy
    after[VX] += dvx
    after[VY] += dvy
    if math.hypot(dvx, dvy) > FALL:
        after[DOWN] = 1.0
    if walker[DAZE] == 0.0:
        back = coin < 0.5
        after[DAZE] = STEP_BACK if back else FREEZE
        after[RETREAT] = -walker[FACING] if back else 0.0
    return after
