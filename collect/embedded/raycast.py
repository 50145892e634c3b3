"""The ray-caster: which surface each pixel sees and how far away. One pass gives rgb, semantic, instance and depth.

The camera never pitches or rolls, so a ray's plan direction depends on the column only and its slope on the row only;
every intersection below is split along that line, which leaves a few comparisons per pixel."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from collect.embedded.jit import kernel
from collect.embedded.shading import GROUND, SKY, add_glare, cast_shadow, shade
from collect.embedded.shapes import ELLIPSOID
from collect.embedded.sky import Atmosphere

RENDERER_VERSION: Final = "1"
"""Goes into every recording; raise it with any change that alters a picture."""

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
_NEAR: Final = 0.05
_SKY_DEPTH: Final = 1e6


class Eye(NamedTuple):
    """Camera position (m), cosine and sine of its heading, and tan of half its (square) field of view."""

    x: float
    y: float
    z: float
    cos: float
    sin: float
    tan: float


class Ground(NamedTuple):
    """The road under everything: road.Road.segments (n, 8), town.Town.strips (k, 5) and marks (m, 7)."""

    segments: Floats
    strips: Floats
    marks: Floats


@kernel
def _screen_bounds(
    bx: float, by: float, bz: float, hx: float, hy: float, hz: float, cos: float, sin: float, eye: Eye, size: int
) -> tuple[int, int, int, int]:
    """First and past-the-last column and row a box (centre relative to the eye) can touch, clipped to the picture.

    Works on the four plan corners, with edges cut at the near plane, so that a long wall beside the camera stays
    tight. Nothing to see: (0, 0, 0, 0)."""
    low_u, high_u, low_v, high_v = 1e9, -1e9, 1e9, -1e9
    for k in range(4):
        ends = np.empty(4)
        for e in range(2):
            q = (k + e) % 4
            lx = hx if q == 0 or q == 3 else -hx
            ly = hy if q < 2 else -hy
            px, py = bx + lx * cos - ly * sin, by + lx * sin + ly * cos
            ends[2 * e], ends[2 * e + 1] = px * eye.cos + py * eye.sin, py * eye.cos - px * eye.sin
        if ends[0] < _NEAR and ends[2] < _NEAR:
            continue
        for e in range(2):
            depth, right = ends[2 * e], ends[2 * e + 1]
            if depth < _NEAR:
                part = (_NEAR - depth) / (ends[2 - 2 * e] - depth)
                right += part * (ends[3 - 2 * e] - right)
                depth = _NEAR
            scale = 1.0 / (depth * eye.tan)
            low_u, high_u = min(low_u, right * scale), max(high_u, right * scale)
            low_v, high_v = min(low_v, -(bz + hz) * scale), max(high_v, -(bz - hz) * scale)
    if low_u >= 1.0 or high_u <= -1.0 or low_v >= 1.0 or high_v <= -1.0:
        return 0, 0, 0, 0
    half = size / 2
    first_u, last_u = int(half + max(-1.0, low_u) * half), int(half + min(1.0, high_u) * half) + 1
    first_v, last_v = int(half + max(-1.0, low_v) * half), int(half + min(1.0, high_v) * half) + 1
    return first_u, min(size, last_u), first_v, min(size, last_v)


@kernel
def _cast_box(
    part: Singles, index: int, eye: Eye, plan: Singles, slope: Singles, scratch: Singles,
    depth: Singles, owner: NDArray[np.int16],
) -> None:  # fmt: skip
    """Slab test of one box against every ray in its screen bounds; `plan` (2, W) and `slope` (H,) are the rays."""
    bx, by, bz = part[0] - eye.x, part[1] - eye.y, part[2] - eye.z
    hx, hy, hz, cos, sin = part[3], part[4], part[5], part[6], part[7]
    u0, u1, v0, v1 = _screen_bounds(bx, by, bz, hx, hy, hz, cos, sin, eye, depth.shape[1])
    if u0 >= u1 or v0 >= v1:
        return
    ox, oy = bx * cos + by * sin, by * cos - bx * sin  # the box's centre in its own axes, seen from the eye
    for u in range(u0, u1):
        dx, dy = plan[0, u] * cos + plan[1, u] * sin, plan[1, u] * cos - plan[0, u] * sin
        ix, iy = 1.0 / (dx if abs(dx) > 1e-6 else 1e-6), 1.0 / (dy if abs(dy) > 1e-6 else 1e-6)
        ax, bx_, ay, by_ = (ox - hx) * ix, (ox + hx) * ix, (oy - hy) * iy, (oy + hy) * iy
        scratch[0, u] = max(min(ax, bx_), min(ay, by_))
        scratch[1, u] = min(max(ax, bx_), max(ay, by_))
    number = np.int16(index)
    for v in range(v0, v1):
        dz = slope[v]
        iz = np.float32(1.0 / (dz if abs(dz) > 1e-6 else 1e-6))
        az, bz_ = np.float32(bz - hz) * iz, np.float32(bz + hz) * iz
        near, far = max(min(az, bz_), np.float32(_NEAR)), max(az, bz_)
        for u in range(u0, u1):
            enter, leave = max(scratch[0, u], near), min(scratch[1, u], far)
            hit = (enter <= leave) & (enter < depth[v, u])
            depth[v, u] = enter if hit else depth[v, u]
            owner[v, u] = number if hit else owner[v, u]


@kernel
def _cast_ellipsoid(
    part: Singles, index: int, eye: Eye, plan: Singles, slope: Singles, scratch: Singles,
    depth: Singles, owner: NDArray[np.int16],
) -> None:  # fmt: skip
    """The nearer root of |(t·d − o)/h|² = 1 for every ray in the ellipsoid's screen bounds."""
    bx, by, bz = part[0] - eye.x, part[1] - eye.y, part[2] - eye.z
    hx, hy, hz, cos, sin = part[3], part[4], part[5], part[6], part[7]
    u0, u1, v0, v1 = _screen_bounds(bx, by, bz, hx, hy, hz, cos, sin, eye, depth.shape[1])
    if u0 >= u1 or v0 >= v1:
        return
    ox, oy, oz = (bx * cos + by * sin) / hx, (by * cos - bx * sin) / hy, bz / hz
    outside = ox * ox + oy * oy + oz * oz - 1.0
    for u in range(u0, u1):
        dx = (plan[0, u] * cos + plan[1, u] * sin) / hx
        dy = (plan[1, u] * cos - plan[0, u] * sin) / hy
        scratch[0, u] = dx * dx + dy * dy
        scratch[1, u] = dx * ox + dy * oy
    for v in range(v0, v1):
        dz = slope[v] / hz
        for u in range(u0, u1):
            a, b = scratch[0, u] + dz * dz, scratch[1, u] + dz * oz
            root = b * b - a * outside
            if root > 0.0:
                t = (b - math.sqrt(root)) / a
                if _NEAR < t < depth[v, u]:
                    depth[v, u] = t
                    owner[v, u] = index


@kernel
def render(
    size: int, eye: Eye, ground: Ground, air: Atmosphere, parts: Singles, tags: NDArray[np.int32],
    shadows: Floats, lights: Floats, glares: Floats, tick: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint16], Singles]:  # fmt: skip
    """A picture of `size`² pixels: rgb (H,W,3), semantic (H,W), instance (H,W), depth (H,W) in m along the ray.

    parts (P ≤ 32,000, 13) as shapes.PART_FIELDS with tags (P, 2) instance and class; shadows, lights and glares as
    view.py lists them; `tick` only moves the rain. Same arguments, same bytes."""
    depth = np.empty((size, size), np.float32)
    owner = np.empty((size, size), np.int16)
    plan = np.empty((2, size), np.float32)
    slope = np.empty(size, np.float32)
    scratch = np.empty((2, size), np.float32)
    for i in range(size):
        across = ((2 * i + 1) / size - 1.0) * eye.tan
        plan[0, i], plan[1, i] = eye.cos - across * eye.sin, eye.sin + across * eye.cos
        slope[i] = -across
    for v in range(size):
        down = slope[v] < -1e-6
        depth[v, :] = -eye.z / slope[v] if down else _SKY_DEPTH
        owner[v, :] = GROUND if down else SKY
    for k in range(parts.shape[0]):
        if parts[k, 8] == ELLIPSOID:
            _cast_ellipsoid(parts[k], k, eye, plan, slope, scratch, depth, owner)
        else:
            _cast_box(parts[k], k, eye, plan, slope, scratch, depth, owner)

    shade_map = np.ones((size, size), np.float32)
    for k in range(shadows.shape[0]):
        cast_shadow(shadows[k], eye, plan, slope, owner, shade_map)
    rgb = np.empty((size, size, 3), np.uint8)
    semantic = np.empty((size, size), np.uint8)
    instance = np.empty((size, size), np.uint16)
    shade(eye, ground, air, parts, tags, lights, tick, plan, slope, depth, owner, shade_map, rgb, semantic, instance)
    for k in range(glares.shape[0]):
        add_glare(glares[k], eye, depth, instance, rgb)
    for v in range(size):
        for u in range(size):
            if owner[v, u] != SKY:
                across = plan[0, u] * plan[0, u] + plan[1, u] * plan[1, u]
                depth[v, u] *= math.sqrt(across + slope[v] * slope[v])
    return rgb, semantic, instance, depth
