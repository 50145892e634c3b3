"""Contact between bodies: oriented boxes, the side that met first, and the impulse that follows.

Hits are perfectly inelastic along the normal n, with Coulomb friction across it. Each pair's linear and angular
momentum is conserved; scenery has infinite mass. The impulse is the textbook one for two rigid bodies meeting at a
point p: J = closing speed at p / (1/m₁ + 1/m₂ + (r₁×n)²/I₁ + (r₂×n)²/I₂), in N·s, and across n the same form, at most
FRICTION·J."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.embedded.jit import kernel
from semore.collect.embedded.maps.road import locate_at, pose_at
from semore.datasets.rollouts.schema import Kind, SemanticClass

Floats = NDArray[np.float64]

BODY_FIELDS: Final = (
    "x", "y", "half length", "half width", "cos", "sin", "vx", "vy", "spin", "1/mass", "1/inertia",
)  # fmt: skip
"""Columns of `bodies`: an oriented box on the ground (the first six; m, heading), its velocity (m/s) and spin (rad/s,
clockwise seen from above), and its inverse mass (1/kg) and moment of inertia (1/(kg·m²)), both 0 for scenery."""


FRICTION: Final = 0.5
"""Coefficient of friction between bodies: a body hit by a bumper sticks to it rather than slipping off sideways."""


def build(kind: Kind) -> tuple[float, float, float, float]:
    """Half length, half width (m), 1/mass, 1/inertia of a kind; people are pushed, not spun."""
    inertia = kind.mass * (kind.length**2 + kind.width**2) / 12  # of a box about its vertical axis
    spins = kind.semantic is not SemanticClass.PEDESTRIAN
    return kind.length / 2, kind.width / 2, 1 / kind.mass, 1 / inertia if spins else 0.0


@kernel
def overlap(a: Floats, b: Floats, rvx: float, rvy: float, dt: float) -> tuple[float, float, float]:
    """Penetration depth (m) of two boxes (BODY_FIELDS) and the unit normal from `a` to `b`; depth ≤ 0: they are apart.

    Separating axis test over the four side directions. The normal is the axis on which they came to overlap last,
    going back along the velocity of `a` relative to `b`, (rvx, rvy) m/s, by at most `dt`; for bodies that have been
    overlapping longer it is the axis of least penetration. So a fast hit near a corner stays a frontal hit."""
    least, least_x, least_y = 1e9, 1.0, 0.0
    latest, depth_then, then_x, then_y = dt, 0.0, 0.0, 0.0
    dx, dy = b[0] - a[0], b[1] - a[1]
    for k in range(4):
        box = a if k < 2 else b
        nx, ny = (box[4], box[5]) if k % 2 == 0 else (-box[5], box[4])
        reach = 0.0
        for q in range(2):
            it = a if q == 0 else b
            reach += it[2] * abs(nx * it[4] + ny * it[5]) + it[3] * abs(ny * it[4] - nx * it[5])
        away = dx * nx + dy * ny
        side = 1.0 if away >= 0.0 else -1.0
        depth = reach - abs(away)
        if depth <= 0.0:
            return depth, nx * side, ny * side
        if depth < least:
            least, least_x, least_y = depth, nx * side, ny * side
        closing = (rvx * nx + rvy * ny) * side
        if closing > 0.0 and depth <= latest * closing:
            latest, depth_then, then_x, then_y = depth / closing, depth, nx * side, ny * side
    if depth_then > 0.0:
        return depth_then, then_x, then_y
    return least, least_x, least_y


@kernel
def _inside(box: Floats, x: float, y: float) -> bool:
    px, py = x - box[0], y - box[1]
    return bool(abs(px * box[4] + py * box[5]) <= box[2] and abs(py * box[4] - px * box[5]) <= box[3])


@kernel
def _meeting_point(a: Floats, b: Floats) -> tuple[float, float]:
    """Where two overlapping boxes push on each other: the mean of the corners that lie in the other box; for boxes that
    cross without one, the point of `a` nearest to the middle of `b`."""
    sx, sy, n = 0.0, 0.0, 0
    for q in range(2):
        own, other = (a, b) if q == 0 else (b, a)
        for k in range(4):
            along, across = own[2] if k % 2 == 0 else -own[2], own[3] if k < 2 else -own[3]
            x, y = own[0] + along * own[4] - across * own[5], own[1] + along * own[5] + across * own[4]
            if _inside(other, x, y):
                sx, sy, n = sx + x, sy + y, n + 1
    if n > 0:
        return sx / n, sy / n
    px, py = b[0] - a[0], b[1] - a[1]
    along, across = px * a[4] + py * a[5], py * a[4] - px * a[5]
    along, across = min(a[2], max(-a[2], along)), min(a[3], max(-a[3], across))
    return a[0] + along * a[4] - across * a[5], a[1] + along * a[5] + across * a[4]


@kernel
def _stop(a: Floats, b: Floats, nx: float, ny: float, px: float, py: float, most: float) -> float:
    """End the approach of `a` to `b` along (nx, ny) at the point (px, py) with an impulse (N·s, returned) of at most
    `most`; 0 when they part."""
    turn_a, turn_b = (px - a[0]) * ny - (py - a[1]) * nx, (px - b[0]) * ny - (py - b[1]) * nx
    closing = (a[6] - b[6]) * nx + (a[7] - b[7]) * ny + a[8] * turn_a - b[8] * turn_b
    if closing <= 0.0:
        return 0.0
    strength = float(min(most, closing / (a[9] + b[9] + turn_a * turn_a * a[10] + turn_b * turn_b * b[10])))
    a[6] -= strength * a[9] * nx
    a[7] -= strength * a[9] * ny
    a[8] -= strength * a[10] * turn_a
    b[6] += strength * b[9] * nx
    b[7] += strength * b[9] * ny
    b[8] += strength * b[10] * turn_b
    return strength


@kernel
def strike(a: Floats, b: Floats, depth: float, nx: float, ny: float, px: float, py: float) -> float:
    """Magnitude of the impulse (N·s) between bodies `a` and `b`, `depth` m inside one another along the unit normal
    from `a` to `b`, meeting at (px, py); both rows are changed in place.

    The bodies are then moved apart, the lighter one farther, so that a lasting contact presses instead of exploding;
    bodies that part already are only moved."""
    normal = _stop(a, b, nx, ny, px, py, np.inf)
    across = 0.0
    if normal > 0.0:
        across = _stop(a, b, -ny, nx, px, py, FRICTION * normal) + _stop(a, b, ny, -nx, px, py, FRICTION * normal)
    back = depth * a[9] / (a[9] + b[9])
    a[0] -= back * nx
    a[1] -= back * ny
    b[0] += (depth - back) * nx
    b[1] += (depth - back) * ny
    return math.hypot(normal, across)


@kernel
def collide(bodies: Floats, movable: int, people: int, dt: float) -> Floats:
    """Resolve every contact among `bodies` (n, 11), of which the first `movable` can move; changed in place.

    The movable rows from `people` on are walkers: they slip past one another, as pedestrians do. Returns (k, 5): the
    two rows, the impulse (N·s) and the unit normal from the first to the second of each contact, pairs in ascending
    order. `dt` is the step that led here, s."""
    hits = np.empty((4 * movable + 4, 5))
    n = 0
    for i in range(movable):
        for j in range(i + 1, bodies.shape[0]):
            if i >= people and j < movable:
                continue
            a, b = bodies[i], bodies[j]
            reach = a[2] + a[3] + b[2] + b[3]
            if abs(b[0] - a[0]) > reach or abs(b[1] - a[1]) > reach:
                continue
            depth, nx, ny = overlap(a, b, a[6] - b[6], a[7] - b[7], dt)
            if depth > 0.0 and n < hits.shape[0]:
                px, py = _meeting_point(a, b)
                hits[n, 0], hits[n, 1], hits[n, 2] = i, j, strike(a, b, depth, nx, ny, px, py)
                hits[n, 3], hits[n, 4] = nx, ny
                n += 1
    return hits[:n].copy()


@kernel
def lean(body: Floats, segments: Floats, t: float, side: int) -> float:
    """Impulse (N·s) of `body` (11,), changed in place, against an endless immovable fence along the road at offset `t`
    (m), to the right of the body for side +1, to the left for −1; 0 when it stands clear.

    Its deepest corner counts, and the normal is the road's there."""
    deepest, at, px, py = 0.0, 0.0, 0.0, 0.0
    for k in range(4):
        along, across = body[2] if k % 2 == 0 else -body[2], body[3] if k < 2 else -body[3]
        x, y = body[0] + along * body[4] - across * body[5], body[1] + along * body[5] + across * body[4]
        s, reached, _ = locate_at(segments, x, y, 0)
        if (reached - t) * side > deepest:
            deepest, at, px, py = (reached - t) * side, s, x, y
    if deepest <= 0.0:
        return 0.0
    heading = pose_at(segments, at, t)[2]
    return strike(body, np.zeros(11), deepest, -math.sin(heading) * side, math.cos(heading) * side, px, py)
