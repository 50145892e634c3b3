"""Shadows on the ground: sharp ones in sunlight, and a soft dark patch under everything that stands on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semore.collect.embedded.jit import kernel
from semore.collect.embedded.render.ray_intersect import GROUND, Eye, Owners, Rays, screen_bounds
from semore.collect.embedded.render.shapes import WEDGE
from semore.collect.embedded.render.texture import Singles

Floats = NDArray[np.float64]


@kernel
def sun_shadow(
    part: Singles, to_sun: tuple[float, float, float], eye: Eye, rays: Rays, owner: Owners, keep: float,
    shadow: Singles,
) -> None:  # fmt: skip
    """Lower `shadow` (H, W) to `keep` wherever `part`, taken as a box, stands between the ground and the sun.

    A ground point p lies in its shadow when p + m·to_sun passes through the box: a slab test towards the sun."""
    size = shadow.shape[0]
    hx, hy, hz, cos, sin = part[3], part[4], part[5], part[6], part[7]
    shift, x0, x1 = 0.0, -hx, hx
    if part[8] == WEDGE:  # a leaning limb as the box around its middle, a cabin as its middle cut
        shift = (part[10] - part[9]) / 2.0
        narrow = (part[9] + part[10]) / 4.0
        x0, x1 = -hx + shift / 2 + narrow, hx + shift / 2 - narrow
        hy = hy - part[11] / 2.0
    lean = shift / (2.0 * hz)  # the axis of a leaning limb moves this far per metre of height
    low, high = part[2] - hz, part[2] + hz
    run_x = (to_sun[0] * cos + to_sun[1] * sin) / to_sun[2]  # the sun's way per metre of height, in the part's axes
    run_y = (to_sun[1] * cos - to_sun[0] * sin) / to_sun[2]
    bx, by = part[0] - eye.x, part[1] - eye.y
    ends_x, ends_y = (-run_x * low, -run_x * high), (-run_y * low, -run_y * high)
    left, right = min(ends_x[0], ends_x[1]) + x0, max(ends_x[0], ends_x[1]) + x1
    back, front = min(ends_y[0], ends_y[1]) - hy, max(ends_y[0], ends_y[1]) + hy
    mx, my = (left + right) / 2, (back + front) / 2
    px, py = bx + mx * cos - my * sin, by + mx * sin + my * cos
    half = (right - left) / 2 + abs(shift)
    u0, u1, v0, v1 = screen_bounds(
        px, py, -eye.z - 0.01, -eye.z + 0.01, -half, half, (front - back) / 2, cos, sin, eye, size
    )
    rx, ry = np.float32(run_x - lean), np.float32(run_y)
    ix = np.float32(1.0) / (rx if abs(rx) > 1e-4 else np.float32(1e-4))
    iy = np.float32(1.0) / (ry if abs(ry) > 1e-4 else np.float32(1e-4))
    floor, top, dark = np.float32(low), np.float32(high), np.float32(keep)
    ox, oy = np.float32(bx * cos + by * sin - lean * part[2]), np.float32(by * cos - bx * sin)
    for v in range(v0, v1):
        if rays.slope[v] >= -1e-6:
            continue
        far = -eye.z / rays.slope[v]
        fc, fs = np.float32(far * cos), np.float32(far * sin)
        for u in range(u0, u1):
            lx = fc * rays.plan_x[u] + fs * rays.plan_y[u] - ox
            ly = fc * rays.plan_y[u] - fs * rays.plan_x[u] - oy
            ax, cx = (np.float32(x0) - lx) * ix, (np.float32(x1) - lx) * ix
            ay, cy = (np.float32(-hy) - ly) * iy, (np.float32(hy) - ly) * iy
            enter = max(max(min(ax, cx), min(ay, cy)), floor)
            leave = min(min(max(ax, cx), max(ay, cy)), top)
            hit = (enter <= leave) & (owner[v, u] == GROUND)
            shadow[v, u] = min(shadow[v, u], dark) if hit else shadow[v, u]


@kernel
def contact_shadow(blob: Floats, eye: Eye, rays: Rays, owner: Owners, shadow: Singles) -> None:
    """Darken the ground in the soft ellipse `blob` (x, y, half length, half width, cos, sin, strength)."""
    size = shadow.shape[0]
    bx, by = blob[0] - eye.x, blob[1] - eye.y
    u0, u1, v0, v1 = screen_bounds(
        bx, by, -eye.z - 0.01, -eye.z + 0.01, -blob[2], blob[2], blob[3], blob[4], blob[5], eye, size
    )
    for v in range(v0, v1):
        if rays.slope[v] >= -1e-6:
            continue
        far = -eye.z / rays.slope[v]
        for u in range(u0, u1):
            if owner[v, u] == GROUND:
                px, py = far * rays.plan_x[u] - bx, far * rays.plan_y[u] - by
                lx, ly = (px * blob[4] + py * blob[5]) / blob[2], (py * blob[4] - px * blob[5]) / blob[3]
                inside = 1.0 - lx * lx - ly * ly
                if inside > 0.0:
                    shadow[v, u] *= 1.0 - blob[6] * min(1.0, 1.6 * inside)
