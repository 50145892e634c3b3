"""The ground along one row of the picture: road coordinates, paving, painted lines, lamp light, reflections."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semore.collect.embedded.jit import kernel
from semore.collect.embedded.render.ray_intersect import GROUND, Eye, Owners, Rays
from semore.collect.embedded.render.scanline import (
    BEHIND,
    BLUE,
    BROAD,
    FINE,
    GREEN,
    LABEL,
    LIGHT,
    PLAN_X,
    PLAN_Y,
    RED,
    ROAD_S,
    ROAD_T,
    SUNLIT,
)  # fmt: skip
from semore.collect.embedded.render.sky import Atmosphere
from semore.collect.embedded.render.texture import Singles, grain
from semore.datasets.rollouts.schema import SemanticClass

Floats = NDArray[np.float64]

_MARKING: Final = np.float32(SemanticClass.LANE_MARKING)
_F0: Final = np.float32(0.0)
_F1: Final = np.float32(1.0)
_HALF: Final = np.float32(0.5)
_FINE: Final = np.float32(9.0)  # cells of grain per metre
_BROAD: Final = np.float32(3.0)
_SEAM: Final = np.float32(0.05)  # m between slabs


class Ground(NamedTuple):
    """The road under everything: road.Road.segments (n, 8), town.Town.strips (k, 7) and marks (m, 7)."""

    segments: Floats
    strips: Floats
    marks: Floats


@kernel
def _locate_row(segments: Floats, eye: Eye, rays: Rays, far: float, line: Singles, size: int) -> None:
    """Fill row.s and row.t for the ground `far` m ahead: as road.locate_at, segment by segment for a whole row."""
    last = segments.shape[0] - 1
    for u in range(size):
        line[ROAD_S + u], line[ROAD_T + u] = _F0, np.float32(1e6)
    for i in range(last + 1):
        dx, dy = eye.x - segments[i, 0], eye.y - segments[i, 1]
        cos, sin, length, bend = segments[i, 6], segments[i, 7], segments[i, 3], segments[i, 4]
        ax, ay = dx * cos + dy * sin, dy * cos - dx * sin
        reach = far * (1.0 + eye.tan) + 5.0
        if (i > 0 and ax < -reach) or (i < last and ax - length > reach):
            continue  # the whole row lies before or beyond it
        start, tail = np.float32(segments[i, 5]), np.float32(length if i < last else 1e9)
        cx, cy = np.float32(far * cos), np.float32(far * sin)
        fx, fy = np.float32(ax), np.float32(ay)
        head = np.float32(0.0 if i > 0 else -1e9)
        if bend == 0.0:
            for u in range(size):
                along = fx + cx * line[PLAN_X + u] + cy * line[PLAN_Y + u]
                inside = (along >= head) & (along < tail)
                line[ROAD_S + u] = start + along if inside else line[ROAD_S + u]
                line[ROAD_T + u] = fy + cx * line[PLAN_Y + u] - cy * line[PLAN_X + u] if inside else line[ROAD_T + u]
        else:
            side, radius = np.float32(1.0 if bend > 0.0 else -1.0), np.float32(1.0 / bend)
            for u in range(size):
                ahead = fx + cx * line[PLAN_X + u] + cy * line[PLAN_Y + u]
                inward = (radius - (fy + cx * line[PLAN_Y + u] - cy * line[PLAN_X + u])) * side
                # atan by its series: bends turn by less than half a radian
                q = ahead / max(inward, _F1)
                q = min(_F1, max(-_F1, q))
                p = q * q
                angle = q * (_F1 - p * (np.float32(0.33333) - p * (np.float32(0.19934) - p * (
                    np.float32(0.1371) - p * (np.float32(0.0812) - p * np.float32(0.0265))))))  # fmt: skip
                along = angle * side * radius
                inside = (along >= head) & (along < tail)
                line[ROAD_S + u] = start + along if inside else line[ROAD_S + u]
                off = radius - side * np.sqrt(ahead * ahead + inward * inward)
                line[ROAD_T + u] = off if inside else line[ROAD_T + u]


@kernel
def _pave(ground: Ground, line: Singles, size: int, far: float, pixel: float) -> None:
    """Albedo and class of the ground `far` m ahead, where a pixel covers pixel · far m across."""
    strips = ground.strips
    left, middle, right = line[ROAD_T + 0], line[ROAD_T + size // 2], line[ROAD_T + size - 1]
    low, high = min(left, middle, right) - 2.0, max(left, middle, right) + 2.0
    for u in range(size):
        s, t = line[ROAD_S + u], line[ROAD_T + u]
        line[FINE + u], line[BROAD + u] = grain(s * _FINE, t * _FINE) - _HALF, grain(s, t * _BROAD) - _HALF
    first = True
    near = min(1.0, 14.0 / far)
    deep = min(1.0, 90.0 / far)
    joint = np.float32(0.30 * min(1.0, max(0.0, 1.4 - far / 16.0)))
    for k in range(strips.shape[0]):
        edge = np.float32(-1e9 if first else strips[k - 1, 0])
        if edge > high or strips[k, 0] < low:
            continue
        first = False
        label = np.float32(strips[k, 1])
        r, g, b = np.float32(strips[k, 2]), np.float32(strips[k, 3]), np.float32(strips[k, 4])
        fine, broad = np.float32(strips[k, 5] * near), np.float32(0.55 * strips[k, 5] * deep)
        slabs = np.float32(joint * strips[k, 6])
        for u in range(size):
            s, t = line[ROAD_S + u], line[ROAD_T + u]
            shade = _F1 + fine * line[FINE + u] + broad * line[BROAD + u]
            if slabs > _F0:
                seam = (s - np.floor(s) < _SEAM) | (t - np.floor(t) < _SEAM)
                shade *= _F1 - slabs if seam else _F1
            here = t >= edge
            line[RED + u] = r * shade if here else line[RED + u]
            line[GREEN + u] = g * shade if here else line[GREEN + u]
            line[BLUE + u] = b * shade if here else line[BLUE + u]
            line[LABEL + u] = label if here else line[LABEL + u]
    deep_pixel = np.float32(max(1e-3, far * far * pixel / 1.5))
    for m in range(ground.marks.shape[0]):
        mark = ground.marks[m]
        if mark[0] > high or mark[0] < low:
            continue
        at, half, dash = np.float32(mark[0]), np.float32(mark[1]), np.float32(mark[2])
        # A line to one side also moves by its offset's share of the ground that a row covers.
        wide = np.float32(far * pixel * max(1.0, abs(mark[0] - middle) / 1.5))
        period = np.float32(mark[2] + mark[3])
        r, g, b = np.float32(mark[4]), np.float32(mark[5]), np.float32(mark[6])
        share = dash / period if period > _F0 else _F1
        blur = max(deep_pixel, np.float32(0.02))
        clear = max(_F0, min(_F1, (np.float32(2.0) * period - blur) / (period + _HALF)))  # dashes told apart
        for u in range(size):
            away = abs(line[ROAD_T + u] - at)
            cover = min(away + wide * _HALF, half) - max(away - wide * _HALF, -half)
            cover = max(_F0, min(_F1, cover / wide))
            if period > _F0:
                into = line[ROAD_S + u] - np.floor(line[ROAD_S + u] / period) * period
                dashed = min(_F1, max(_F0, (dash * _HALF - abs(into - dash * _HALF)) / blur + _HALF))
                cover *= share + (dashed - share) * clear
            line[RED + u] += (r - line[RED + u]) * cover
            line[GREEN + u] += (g - line[GREEN + u]) * cover
            line[BLUE + u] += (b - line[BLUE + u]) * cover
            line[LABEL + u] = _MARKING if cover > np.float32(0.3) else line[LABEL + u]


@kernel
def _light_pools(lights: Floats, eye: Eye, rays: Rays, far: float, line: Singles, size: int) -> None:
    """Add what every spot light throws on the ground `far` m ahead to row.light."""
    for i in range(lights.shape[0]):
        ex, ey, ez = eye.x - lights[i, 0], eye.y - lights[i, 1], np.float32(-lights[i, 2])
        fx, fy, f = np.float32(ex), np.float32(ey), np.float32(far)
        if lights[i, 8] <= 0.0:
            continue
        dx, dy, dz = np.float32(lights[i, 3]), np.float32(lights[i, 4]), np.float32(lights[i, 5])
        outer, scale = np.float32(lights[i, 7]), np.float32(1.0 / (lights[i, 6] - lights[i, 7]))
        power = np.float32(lights[i, 8])
        for u in range(size):
            x, y = fx + f * line[PLAN_X + u], fy + f * line[PLAN_Y + u]
            square = x * x + y * y + ez * ez
            inverse = _F1 / np.sqrt(square)
            edge = min(_F1, max(_F0, ((x * dx + y * dy + ez * dz) * inverse - outer) * scale))
            facing = np.float32(0.30) - np.float32(0.55) * ez * inverse
            line[LIGHT + u] += power * edge * edge * facing * np.float32(260.0) / (np.float32(260.0) + square)


@kernel
def _mirror(
    air: Atmosphere, eye: Eye, rays: Rays, v: int, far: float, line: Singles, size: int, strength: float,
    depth: Singles, owner: Owners, rgb: NDArray[np.uint8],
) -> None:  # fmt: skip
    """Mix what wet ground mirrors into its colour: the thing standing beyond it, or else the sky.

    The mirror image of a point at height h and distance d appears at slope −(h + eye)/d, so the thing last seen further
    up the column is looked up where that point itself was drawn."""
    slope = -rays.slope[v]
    opposite = size - 1 - v
    for u in range(size):
        if owner[v, u] != GROUND:
            continue
        s, t = line[ROAD_S + u], line[ROAD_T + u]
        puddle = float(grain(s * np.float32(0.8), t * np.float32(2.2)))
        pool = min(1.0, max(0.0, (puddle - 1.0 + 0.60 * air.puddles) * 5.0))
        share = min(0.90, strength * (0.85 + 1.1 * pool))
        ripple = grain(s * np.float32(5.0), t * np.float32(11.0)) - 0.5
        column = min(size - 1, max(0, int(u + ripple * size * 0.02)))
        upright, d = opposite, line[BEHIND + column]
        if d > far:
            seen = slope - 2.0 * eye.z / d
            upper = int((1.0 - seen / eye.tan) * size / 2.0 + ripple * size * 0.012)
            if 0 <= upper < v and owner[upper, column] >= 0 and abs(depth[upper, column] - d) < 1.0 + 0.2 * d:
                upright = upper
        if 0 <= upright < v:
            r, g, b = rgb[upright, column, 0] / 255.0, rgb[upright, column, 1] / 255.0, rgb[upright, column, 2] / 255.0
        else:
            r, g, b = air.horizon
        line[RED + u] += (r - line[RED + u]) * share
        line[GREEN + u] += (g - line[GREEN + u]) * share
        line[BLUE + u] += (b - line[BLUE + u]) * share


@kernel
def draw_ground(
    air: Atmosphere, ground: Ground, eye: Eye, rays: Rays, v: int, lights: Floats, shadow: Singles, line: Singles,
    size: int, depth: Singles, owner: Owners, rgb: NDArray[np.uint8],
) -> None:  # fmt: skip
    """Colours and classes of row v wherever it meets the ground; `shadow` (W,) is the share of sun and of open sky."""
    far = eye.z / -rays.slope[v]
    _locate_row(ground.segments, eye, rays, far, line, size)
    _pave(ground, line, size, far, 2.0 * eye.tan / size)
    for u in range(size):
        line[LIGHT + u], line[SUNLIT + u] = _F0, shadow[u]
    _light_pools(lights, eye, rays, far, line, size)
    steep = min(1.0, -rays.slope[v] * 1.3)
    grazing = (1.0 - steep) ** 2
    damp = np.float32(1.0 - 0.30 * air.wet - 0.12 * air.puddles)
    sun = air.to_sun[2]
    sr, sg, sb = np.float32(air.sun[0] * sun), np.float32(air.sun[1] * sun), np.float32(air.sun[2] * sun)
    ar, ag, ab = np.float32(air.ambient[0]), np.float32(air.ambient[1]), np.float32(air.ambient[2])
    green, blue = np.float32(0.96), np.float32(0.82)
    for u in range(size):
        lamp, open_sky = line[LIGHT + u], _HALF + _HALF * line[SUNLIT + u]
        line[RED + u] *= damp * (ar * open_sky + sr * line[SUNLIT + u] + lamp)
        line[GREEN + u] *= damp * (ag * open_sky + sg * line[SUNLIT + u] + lamp * green)
        line[BLUE + u] *= damp * (ab * open_sky + sb * line[SUNLIT + u] + lamp * blue)
    if air.puddles > 0.0:
        strength = air.wet * (0.35 + 1.1 * grazing)
        _mirror(air, eye, rays, v, far, line, size, strength, depth, owner, rgb)
    elif air.wet > 0.0:
        sheen = np.float32(air.wet * (0.03 + 0.20 * grazing))
        hr, hg, hb = np.float32(air.horizon[0]), np.float32(air.horizon[1]), np.float32(air.horizon[2])
        for u in range(size):
            line[RED + u] += (hr - line[RED + u]) * sheen
            line[GREEN + u] += (hg - line[GREEN + u]) * sheen
            line[BLUE + u] += (hb - line[BLUE + u]) * sheen
