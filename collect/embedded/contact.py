"""Contact between the ego and anything else: oriented boxes, the side that met first, the impulse that follows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from collect.embedded.dynamics import EGO_KIND, EgoState
from collect.embedded.jit import kernel
from collect.embedded.road import Road
from datasets.schema import DT

Floats = NDArray[np.float64]

BOX_FIELDS = ("x", "y", "half length", "half width", "cos", "sin")
"""An oriented box on the ground, m; the last two give its heading."""


@kernel
def overlap(a: Floats, b: Floats, rvx: float, rvy: float, dt: float) -> tuple[float, float, float]:
    """Penetration depth (m) of two boxes (BOX_FIELDS) and the unit normal from `a` to `b`; depth ≤ 0: they are apart.

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
def touching(ego: Floats, boxes: Floats) -> NDArray[np.int64]:
    """Indices of the `boxes` (n, 6) that overlap the box `ego` (6,), ascending."""
    found = np.empty(boxes.shape[0], np.int64)
    n = 0
    for i in range(boxes.shape[0]):
        reach = ego[2] + ego[3] + boxes[i, 2] + boxes[i, 3]
        if abs(boxes[i, 0] - ego[0]) <= reach and abs(boxes[i, 1] - ego[1]) <= reach:
            depth, _, _ = overlap(ego, boxes[i], 0.0, 0.0, 0.0)
            if depth > 0.0:
                found[n] = i
                n += 1
    return found[:n].copy()


def impulse(mass: float, other: float, closing: float, restitution: float = 0.0) -> float:
    """J = m₁·m₂/(m₁+m₂)·(1+e)·closing speed in N·s, 0 when the bodies part; an infinite `other` is immovable."""
    if closing <= 0.0:
        return 0.0
    reduced = mass if math.isinf(other) else mass * other / (mass + other)
    return reduced * (1.0 + restitution) * closing


@dataclass(frozen=True)
class Bump:
    """Outcome of one contact: impulse (N·s), the ego after it, and the other body's change of velocity (dvx, dvy) m/s
    and displacement (dx, dy) m."""

    impulse: float
    ego: EgoState
    dvx: float
    dvy: float
    dx: float
    dy: float


def ego_box(ego: EgoState) -> Floats:
    """(6,) BOX_FIELDS of the ego."""
    half = (EGO_KIND.length / 2, EGO_KIND.width / 2)
    return np.array([ego.x, ego.y, *half, math.cos(ego.yaw), math.sin(ego.yaw)])


def bump(ego: EgoState, box: Floats, mass: float, vx: float, vy: float) -> Bump | None:
    """The ego against a body of `mass` kg (inf = scenery) with `box` (6,) and velocity (vx, vy); None: apart."""
    evx, evy = ego.velocity
    depth, nx, ny = overlap(ego_box(ego), box, evx - vx, evy - vy, DT)
    return strike(ego, depth, nx, ny, mass, vx, vy) if depth > 0.0 else None


def strike(ego: EgoState, depth: float, nx: float, ny: float, mass: float, vx: float, vy: float) -> Bump:
    """The ego `depth` m inside a body that lies in direction (nx, ny) of it, with mass and velocity as in `bump`.

    Perfectly inelastic along the normal and frictionless across it; momentum is conserved. The bodies are then moved
    apart, the lighter one farther, so that a lasting contact presses instead of exploding. No spin."""
    evx, evy = ego.velocity
    strength = impulse(EGO_KIND.mass, mass, (evx - vx) * nx + (evy - vy) * ny)
    share = 0.0 if math.isinf(mass) else EGO_KIND.mass / (EGO_KIND.mass + mass)
    slowed = ego.with_velocity(evx - strength / EGO_KIND.mass * nx, evy - strength / EGO_KIND.mass * ny)
    back, forth = depth * (1.0 - share), depth * share
    moved = replace(slowed, x=ego.x - back * nx, y=ego.y - back * ny)
    return Bump(strength, moved, strength / mass * nx, strength / mass * ny, forth * nx, forth * ny)


def bump_fence(ego: EgoState, road: Road, t: float, side: int) -> Bump | None:
    """The ego against an endless immovable fence along `road` at offset `t`, right of the ego for side +1, left for −1;
    its deepest corner counts, and the normal is the road's there. None: it stands clear."""
    box = ego_box(ego)
    deepest, at = 0.0, 0.0
    for along in (-box[2], box[2]):
        for across in (-box[3], box[3]):
            s, reached = road.locate(ego.x + along * box[4] - across * box[5], ego.y + along * box[5] + across * box[4])
            if (reached - t) * side > deepest:
                deepest, at = (reached - t) * side, s
    if deepest <= 0.0:
        return None
    heading = road.pose(at, t)[2]
    return strike(ego, deepest, -math.sin(heading) * side, math.cos(heading) * side, math.inf, 0.0, 0.0)
