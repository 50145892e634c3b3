"""Ray intersection: the nearest box, wedge, ellipsoid or tube along each ray inside their screen bounds.

The camera never pitches or rolls, so a ray's plan direction depends on its column only and its slope on its row only;
every test below is split along that line, and its inner loop runs along a row without branches."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semore.collect.embedded.jit import kernel
from semore.collect.embedded.render.shapes import BOX, ELLIPSOID, WEDGE

Singles = NDArray[np.float32]
Owners = NDArray[np.int32]

GROUND: Final = -1
SKY: Final = -2
FACES: Final = 8
"""`owner` holds GROUND, SKY or FACES · part + face; faces 0–5: front, rear, right, left, top, bottom; 6: curved."""
CURVED: Final = 6

_NEAR: Final = 0.05
_SPECK: Final = 0.3  # pixels: a part smaller than this in every direction is left out


class Eye(NamedTuple):
    """Camera position (m), cosine and sine of its heading, and tan of half its (square) field of view."""

    x: float
    y: float
    z: float
    cos: float
    sin: float
    tan: float


class Rays(NamedTuple):
    """Per column the plan direction, (W,) each, and per row the slope (H,): a ray is (plan_x, plan_y, slope), and its
    distance along the view direction is its parameter."""

    plan_x: Singles
    plan_y: Singles
    slope: Singles


@kernel
def make_rays(size: int, eye: Eye) -> Rays:
    """The rays through the middles of `size`² pixels."""
    plan_x, plan_y, slope = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    for i in range(size):
        across = ((2 * i + 1) / size - 1.0) * eye.tan
        plan_x[i], plan_y[i] = eye.cos - across * eye.sin, eye.sin + across * eye.cos
        slope[i] = -across
    return Rays(plan_x, plan_y, slope)


@kernel
def _widen(a: float, b: float, c: float, d: float, eye: Eye, low: float, high: float) -> tuple[float, float, float]:
    """The edge from (depth a, right b) to (c, d), cut at the near plane: new bounds of right/depth, largest 1/depth."""
    if a < _NEAR and c < _NEAR:
        return low, high, 0.0
    if a < _NEAR:
        a, b = _NEAR, b + (_NEAR - a) / (c - a) * (d - b)
    elif c < _NEAR:
        c, d = _NEAR, d + (_NEAR - c) / (a - c) * (b - d)
    p, q = b / a, d / c
    return min(low, p, q), max(high, p, q), 1.0 / min(a, c)


@kernel
def screen_bounds(
    bx: float, by: float, low_z: float, high_z: float, x0: float, x1: float, hy: float, cos: float, sin: float,
    eye: Eye, size: int,
) -> tuple[int, int, int, int]:  # fmt: skip
    """First and past-the-last column and row touched by the box x0 ≤ x ≤ x1, |y| ≤ hy in axes turned by (cos, sin)
    about the point (bx, by) relative to the eye, between the heights low_z and high_z over the eye; all 0 for none."""
    ahead, right = bx * eye.cos + by * eye.sin, by * eye.cos - bx * eye.sin
    c, s = cos * eye.cos + sin * eye.sin, sin * eye.cos - cos * eye.sin  # the box's x axis seen by the eye
    reach = max(-x0, x1) + hy
    if ahead + reach < _NEAR or abs(right) - reach > (ahead + reach) * eye.tan:
        return 0, 0, 0, 0
    a0, r0 = ahead + x1 * c - hy * s, right + x1 * s + hy * c
    a1, r1 = ahead + x0 * c - hy * s, right + x0 * s + hy * c
    a2, r2 = ahead + x0 * c + hy * s, right + x0 * s - hy * c
    a3, r3 = ahead + x1 * c + hy * s, right + x1 * s - hy * c
    low, high, n0 = _widen(a0, r0, a1, r1, eye, 1e9, -1e9)
    low, high, n1 = _widen(a1, r1, a2, r2, eye, low, high)
    low, high, n2 = _widen(a2, r2, a3, r3, eye, low, high)
    low, high, n3 = _widen(a3, r3, a0, r0, eye, low, high)
    near, far = max(n0, n1, n2, n3), 1.0 / max(_NEAR, a0, a1, a2, a3)
    if near == 0.0:
        return 0, 0, 0, 0
    top, bottom = high_z * (near if high_z > 0.0 else far), low_z * (near if low_z < 0.0 else far)
    half, tan = size / 2, eye.tan
    if low >= tan or high <= -tan or top <= -tan or bottom >= tan:
        return 0, 0, 0, 0
    if max(high - low, top - bottom) * half < _SPECK * tan:
        return 0, 0, 0, 0
    scale = half / tan
    u0, u1 = int(max(0.0, half + low * scale)), int(half + high * scale) + 1
    v0, v1 = int(max(0.0, half - top * scale)), int(half - bottom * scale) + 1
    return u0, min(size, u1), v0, min(size, v1)


@kernel
def _cast_box(
    part: Singles, number: int, bx: float, by: float, bz: float, bounds: tuple[int, int, int, int], rays: Rays,
    scratch: Singles, faces: Owners, depth: Singles, owner: Owners,
) -> None:  # fmt: skip
    """Slab test: the four upright faces once per column, top and bottom once per row."""
    hx, hy, hz, cos, sin = part[3], part[4], part[5], part[6], part[7]
    u0, u1, v0, v1 = bounds
    ox, oy = bx * cos + by * sin, by * cos - bx * sin  # the box's centre in its own axes, seen from the eye
    for u in range(u0, u1):
        dx = rays.plan_x[u] * cos + rays.plan_y[u] * sin
        dy = rays.plan_y[u] * cos - rays.plan_x[u] * sin
        ix, iy = 1.0 / (dx if abs(dx) > 1e-6 else 1e-6), 1.0 / (dy if abs(dy) > 1e-6 else 1e-6)
        ax, cx, ay, cy = (ox - hx) * ix, (ox + hx) * ix, (oy - hy) * iy, (oy + hy) * iy
        near_x, near_y = min(ax, cx), min(ay, cy)
        scratch[0, u], scratch[1, u] = max(near_x, near_y), min(max(ax, cx), max(ay, cy))
        faces[u] = number + ((1 if dx > 0.0 else 0) if near_x > near_y else (3 if dy > 0.0 else 2))
    enters, leaves = scratch[0], scratch[1]
    for v in range(v0, v1):
        dz = rays.slope[v]
        iz = 1.0 / (dz if abs(dz) > 1e-6 else 1e-6)
        az, cz = (bz - hz) * iz, (bz + hz) * iz
        near, far = np.float32(max(min(az, cz), _NEAR)), np.float32(max(az, cz))
        lid = np.int32(number + (4 if dz < 0.0 else 5))
        depths, owners = depth[v], owner[v]
        for u in range(u0, u1):
            level = near > enters[u]
            enter = near if level else enters[u]
            leave = min(leaves[u], far)
            hit = (enter <= leave) & (enter < depths[u])
            depths[u] = enter if hit else depths[u]
            owners[u] = (lid if level else faces[u]) if hit else owners[u]


@kernel
def _cast_wedge(
    part: Singles, number: int, bx: float, by: float, bz: float, bounds: tuple[int, int, int, int], rays: Rays,
    scratch: Singles, depth: Singles, owner: Owners,
) -> None:  # fmt: skip
    """Six planes: a ray is inside from the last one it enters to the first one it leaves."""
    hx, hy, hz, cos, sin = part[3], part[4], part[5], part[6], part[7]
    front, rear, side = part[9] / (2.0 * hz), part[10] / (2.0 * hz), part[11] / (2.0 * hz)
    u0, u1, v0, v1 = bounds
    ox, oy, foot = bx * cos + by * sin, by * cos - bx * sin, bz - hz
    # Plane i is passed at constant / (direction + lean · slope).
    c0, c1 = np.float32(hx + ox + front * foot), np.float32(hx - ox + rear * foot)
    c2, c3 = np.float32(hy + oy + side * foot), np.float32(hy - oy + side * foot)
    tiny, never, zero = np.float32(1e-6), np.float32(1e9), np.float32(0.0)
    for u in range(u0, u1):
        scratch[0, u] = rays.plan_x[u] * cos + rays.plan_y[u] * sin
        scratch[1, u] = rays.plan_y[u] * cos - rays.plan_x[u] * sin
    along, across = scratch[0], scratch[1]
    f0, f1, f2 = np.int32(number), np.int32(number + 1), np.int32(number + 2)
    f3 = np.int32(number + 3)
    for v in range(v0, v1):
        dz = rays.slope[v]
        iz = 1.0 / (dz if abs(dz) > 1e-6 else 1e-6)
        az, cz = foot * iz, (bz + hz) * iz
        near, far = np.float32(max(min(az, cz), _NEAR)), np.float32(max(az, cz))
        lid = np.int32(number + (4 if dz < 0.0 else 5))
        lean0, lean1, lean2 = np.float32(front * dz), np.float32(rear * dz), np.float32(side * dz)
        depths, owners = depth[v], owner[v]
        for u in range(u0, u1):
            d0, d1, d2, d3 = along[u] + lean0, lean1 - along[u], across[u] + lean2, lean2 - across[u]
            t0 = c0 / (d0 if abs(d0) > tiny else tiny)
            t1 = c1 / (d1 if abs(d1) > tiny else tiny)
            t2 = c2 / (d2 if abs(d2) > tiny else tiny)
            t3 = c3 / (d3 if abs(d3) > tiny else tiny)
            e0, e1 = (t0 if d0 < zero else -never), (t1 if d1 < zero else -never)
            e2, e3 = (t2 if d2 < zero else -never), (t3 if d3 < zero else -never)
            ex, ey = max(e0, e1), max(e2, e3)
            fx, fy = (f0 if e0 > e1 else f1), (f2 if e2 > e3 else f3)
            enter, face = (ex if ex > ey else ey), (fx if ex > ey else fy)
            face = lid if near > enter else face
            enter = near if near > enter else enter
            l0, l1 = (never if d0 < zero else t0), (never if d1 < zero else t1)
            l2, l3 = (never if d2 < zero else t2), (never if d3 < zero else t3)
            leave = min(min(min(l0, l1), min(l2, l3)), far)
            hit = (enter <= leave) & (enter < depths[u])
            depths[u] = enter if hit else depths[u]
            owners[u] = face if hit else owners[u]


@kernel
def _cast_ellipsoid(
    part: Singles, number: int, bx: float, by: float, bz: float, bounds: tuple[int, int, int, int], rays: Rays,
    depth: Singles, owner: Owners,
) -> None:  # fmt: skip
    """The nearer root of |(t·d − o)/h|² = 1."""
    hx, hy, hz, cos, sin = part[3], part[4], part[5], part[6], part[7]
    u0, u1, v0, v1 = bounds
    ox, oy, oz = (bx * cos + by * sin) / hx, (by * cos - bx * sin) / hy, bz / hz
    outside = ox * ox + oy * oy + oz * oz - 1.0
    for u in range(u0, u1):
        dx = (rays.plan_x[u] * cos + rays.plan_y[u] * sin) / hx
        dy = (rays.plan_y[u] * cos - rays.plan_x[u] * sin) / hy
        flat, toward = dx * dx + dy * dy, dx * ox + dy * oy
        for v in range(v0, v1):
            dz = rays.slope[v] / hz
            a, b = flat + dz * dz, toward + dz * oz
            root = b * b - a * outside
            if root > 0.0:
                t = (b - math.sqrt(root)) / a
                if _NEAR < t < depth[v, u]:
                    depth[v, u] = t
                    owner[v, u] = number + CURVED


@kernel
def _cast_tube(
    part: Singles, number: int, bx: float, by: float, bz: float, bounds: tuple[int, int, int, int], rays: Rays,
    depth: Singles, owner: Owners,
) -> None:  # fmt: skip
    """A wheel: a cylinder about y of radius hz and half width hy with a hole of radius `front`; with `rear` > 0 it lies
    on its side, a cylinder about z of radius hx and half height hz."""
    cos, sin, hole, lies = part[6], part[7], part[9], part[10] > 0.0
    radius, half = (part[3], part[5]) if lies else (part[5], part[4])
    u0, u1, v0, v1 = bounds
    ox, oy = bx * cos + by * sin, by * cos - bx * sin
    p, q = (oy, bz) if lies else (bz, oy)
    outside, inside = ox * ox + p * p - radius * radius, ox * ox + p * p - hole * hole
    for u in range(u0, u1):
        dx = rays.plan_x[u] * cos + rays.plan_y[u] * sin
        dy = rays.plan_y[u] * cos - rays.plan_x[u] * sin
        for v in range(v0, v1):
            e, w = (dy, rays.slope[v]) if lies else (rays.slope[v], dy)
            a, b = dx * dx + e * e, dx * ox + e * p
            root = b * b - a * outside
            if root <= 0.0:
                continue
            w = w if abs(w) > 1e-6 else 1e-6
            root = math.sqrt(root)
            rim, cap = (b - root) / a, min((q - half) / w, (q + half) / w)
            t, end = max(rim, cap), min((b + root) / a, max((q - half) / w, (q + half) / w))
            if t > end or t <= _NEAR:
                continue
            face = CURVED
            if cap > rim:
                face = (4 if w < 0.0 else 5) if lies else (3 if w > 0.0 else 2)
                if (t * dx - ox) ** 2 + (t * e - p) ** 2 < hole * hole:  # through the hole, onto its inner wall
                    t = (b + math.sqrt(max(0.0, b * b - a * inside))) / a
                    if t > end:
                        continue
            if t < depth[v, u]:
                depth[v, u] = t
                owner[v, u] = number + face


@kernel
def cast_parts(parts: Singles, eye: Eye, rays: Rays, depth: Singles, owner: Owners) -> None:
    """Lower `depth` (H, W; m along the view direction) and set `owner` wherever one of `parts` is nearer."""
    size = depth.shape[1]
    scratch = np.empty((2, size), np.float32)
    faces = np.empty(size, np.int32)
    for k in range(parts.shape[0]):
        part = parts[k]
        bx, by, bz = part[0] - eye.x, part[1] - eye.y, part[2] - eye.z
        hx, hz, shape = part[3], part[5], part[8]
        x0, x1, hy = -hx, hx, part[4]
        if shape == WEDGE:
            x0, x1, hy = min(x0, x0 + part[10]), max(x1, x1 - part[9]), max(hy, hy - part[11])
        bounds = screen_bounds(bx, by, bz - hz, bz + hz, x0, x1, hy, part[6], part[7], eye, size)
        if bounds[0] >= bounds[1] or bounds[2] >= bounds[3]:
            continue
        if shape == BOX:
            _cast_box(part, k * FACES, bx, by, bz, bounds, rays, scratch, faces, depth, owner)
        elif shape == WEDGE:
            _cast_wedge(part, k * FACES, bx, by, bz, bounds, rays, scratch, depth, owner)
        elif shape == ELLIPSOID:
            _cast_ellipsoid(part, k * FACES, bx, by, bz, bounds, rays, depth, owner)
        else:
            _cast_tube(part, k * FACES, bx, by, bz, bounds, rays, depth, owner)
