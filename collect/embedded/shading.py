"""The colour and class of what a ray met: paved ground, painted lines, lit boxes, fog, rain, and headlight glare."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from collect.embedded.jit import kernel
from collect.embedded.road import locate_at
from collect.embedded.sky import Atmosphere, Colour
from datasets.schema import SemanticClass

if TYPE_CHECKING:
    from collect.embedded.raycast import Eye, Ground

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

GROUND: Final = -1
SKY: Final = -2

_MARKING: Final = int(SemanticClass.LANE_MARKING)
_ROAD: Final = int(SemanticClass.ROAD)
_SIDEWALK: Final = int(SemanticClass.SIDEWALK)
_BUILDING: Final = int(SemanticClass.BUILDING)
_SKY_CLASS: Final = int(SemanticClass.SKY)


@kernel
def _noise(i: int, j: int) -> float:
    """A fixed pseudo-random number in [0, 1] for a cell of the plane."""
    n = (i * 374761393 + j * 668265263) & 0xFFFFFFFF
    n = ((n ^ (n >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((n ^ (n >> 16)) & 0xFFFF) / 65535.0


@kernel
def _paint(marks: Floats, s: float, t: float, footprint: float) -> tuple[float, int]:
    """How much of a pixel `footprint` m wide at (s, t) is covered by a painted line, and by which."""
    for m in range(marks.shape[0]):
        away = abs(t - marks[m, 0])
        if away > marks[m, 1] + footprint / 2:
            continue
        period = marks[m, 2] + marks[m, 3]
        if period > 0.0 and s - math.floor(s / period) * period > marks[m, 2]:
            continue
        inside = min(away + footprint / 2, marks[m, 1]) - max(away - footprint / 2, -marks[m, 1])
        return inside / footprint, m
    return 0.0, 0


@kernel
def _surface(
    strips: Floats, marks: Floats, s: float, t: float, far: float, pixel: float
) -> tuple[float, float, float, int]:
    """Albedo and class of the ground at (s, t), `far` m ahead, where a pixel at 1 m covers `pixel` m."""
    k = 0
    while t >= strips[k, 0]:
        k += 1
    semantic = int(strips[k, 1])
    r, g, b = strips[k, 2], strips[k, 3], strips[k, 4]
    grain = min(1.0, 12.0 / far)
    if semantic == _ROAD:
        light = 1.0 + grain * 0.14 * (_noise(int(s * 6 + 65536), int(t * 6 + 65536)) - 0.5)
        covered, m = _paint(marks, s, t, far * pixel)
        if covered > 0.0:
            r += (marks[m, 4] - r) * covered
            g += (marks[m, 5] - g) * covered
            b += (marks[m, 6] - b) * covered
            if covered > 0.3:
                semantic = _MARKING
    elif semantic == _SIDEWALK:
        light = 1.0 + grain * 0.16 * (_noise(int(s + 65536), int(t + 65536)) - 0.5)
        if far < 25.0 and s - math.floor(s) < 0.06:
            light *= 0.8
    else:
        coarse = _noise(int(s * 0.25 + 65536), int(t * 0.25 + 65536)) - 0.5
        light = 1.0 + 0.18 * coarse + grain * 0.5 * (_noise(int(s * 3 + 65536), int(t * 3 + 65536)) - 0.5)
    return r * light, g * light, b * light, semantic


@kernel
def _lamps(lights: Floats, x: float, y: float, z: float, nx: float, ny: float, nz: float) -> float:
    """Light of all spot lights on a surface at (x, y, z) with the given normal."""
    total = 0.0
    for i in range(lights.shape[0]):
        ex, ey, ez = x - lights[i, 0], y - lights[i, 1], z - lights[i, 2]
        ahead = ex * lights[i, 3] + ey * lights[i, 4] + ez * lights[i, 5]
        square = ex * ex + ey * ey + ez * ez + 0.01
        if ahead <= 0.0 or ahead * ahead < square * lights[i, 7] * lights[i, 7]:
            continue
        away = math.sqrt(square)
        facing = -(nx * ex + ny * ey + nz * ez) / away
        if facing > 0.0:
            edge = min(1.0, (ahead / away - lights[i, 7]) / (lights[i, 6] - lights[i, 7]))
            total += lights[i, 8] * edge * edge * (0.35 + 0.35 * facing) * 240.0 / (240.0 + square)
    return total


@kernel
def _lit(albedo: Colour, sun: float, lamp: float, glow: float, air: Atmosphere) -> Colour:
    """Reflected and emitted light: `sun` and `lamp` are cosine-weighted amounts, headlamps are a little warm."""
    return (
        albedo[0] * (air.ambient[0] + air.sun[0] * sun + lamp + glow),
        albedo[1] * (air.ambient[1] + air.sun[1] * sun + lamp * 0.96 + glow),
        albedo[2] * (air.ambient[2] + air.sun[2] * sun + lamp * 0.84 + glow),
    )


@kernel
def _mix(a: Colour, b: Colour, weight: float) -> Colour:
    return (a[0] + (b[0] - a[0]) * weight, a[1] + (b[1] - a[1]) * weight, a[2] + (b[2] - a[2]) * weight)


@kernel
def _part_colour(
    parts: Singles, k: int, semantic: int, x: float, y: float, z: float, lights: Floats, air: Atmosphere
) -> Colour:
    """Colour of the point (x, y, z) on a box or ellipsoid; house fronts get windows, some of them lit at night."""
    px, py, pz = x - parts[k, 0], y - parts[k, 1], z - parts[k, 2]
    lx, ly = (px * parts[k, 6] + py * parts[k, 7]) / parts[k, 3], (py * parts[k, 6] - px * parts[k, 7]) / parts[k, 4]
    lz = pz / parts[k, 5]
    albedo, glow = (float(parts[k, 9]), float(parts[k, 10]), float(parts[k, 11])), float(parts[k, 12])
    nz = 0.0
    if parts[k, 8] == 1.0:
        lx, ly, nz = lx / parts[k, 3], ly / parts[k, 4], lz / parts[k, 5]
        size = 1.0 / math.sqrt(lx * lx + ly * ly + nz * nz)
        lx, ly, nz = lx * size, ly * size, nz * size
    elif abs(lz) > abs(lx) and abs(lz) > abs(ly):
        lx, ly, nz = 0.0, 0.0, 1.0 if lz > 0.0 else -1.0
    else:
        front = abs(lx) > abs(ly)
        if semantic == _BUILDING:
            along = ly * parts[k, 4] if front else lx * parts[k, 3]
            floor, bay = z / 3.0, along / 2.2 + 100.5
            if 0.35 < floor - math.floor(floor) < 0.80 and 0.28 < bay - math.floor(bay) < 0.72 and lz < 0.9:
                albedo = (0.16, 0.19, 0.24)
                if _noise(int(bay) + int(parts[k, 0] * 3), int(floor) + int(parts[k, 1])) < 0.16:
                    glow = 3.2 * max(0.0, air.lamp - 0.4)
                    albedo = (0.95, 0.78, 0.42) if glow > 0.0 else albedo
        lx, ly = (1.0 if lx > 0.0 else -1.0, 0.0) if front else (0.0, 1.0 if ly > 0.0 else -1.0)
    nx, ny = lx * parts[k, 6] - ly * parts[k, 7], lx * parts[k, 7] + ly * parts[k, 6]
    sun = max(0.0, nx * air.to_sun[0] + ny * air.to_sun[1] + nz * air.to_sun[2])
    sky = 0.85 + 0.15 * nz  # upward faces see more of it
    return _lit(albedo, sun * sky, _lamps(lights, x, y, z, nx, ny, nz), glow, air)


@kernel
def shade(
    eye: Eye, ground: Ground, air: Atmosphere, parts: Singles, tags: NDArray[np.int32], lights: Floats, tick: int,
    plan: Singles, slope: Singles, depth: Singles, owner: NDArray[np.int16], shadow: Singles,
    rgb: NDArray[np.uint8], semantic: NDArray[np.uint8], instance: NDArray[np.uint16],
) -> None:  # fmt: skip
    """Fill rgb, semantic and instance from what `depth` and `owner` say each ray met."""
    size = depth.shape[0]
    pixel = 2.0 * eye.tan / size
    segments, strips, marks = ground.segments, ground.strips, ground.marks
    segment = 0
    for v in range(size):
        sky = _mix(air.horizon, air.zenith, min(1.0, max(0.0, slope[v] * 2.2)))
        grazing = 1.0 - min(1.0, max(0.0, -slope[v] * 1.2))
        shine = air.wet * (0.06 + 0.34 * grazing * grazing)
        clear = math.exp(eye.z / min(-1e-6, slope[v]) * air.extinction)  # of the ground, level along the row
        for u in range(size):
            k, far = owner[v, u], depth[v, u]
            label, actor, colour = _SKY_CLASS, 0, sky
            if k != SKY:
                x, y, z = eye.x + far * plan[0, u], eye.y + far * plan[1, u], eye.z + far * slope[v]
                if k == GROUND:
                    s, t, segment = locate_at(segments, x, y, segment)
                    r, g, b, label = _surface(strips, marks, s, t, far, pixel)
                    dry = 1.0 - 0.25 * air.wet
                    lamp = _lamps(lights, x, y, 0.0, 0.0, 0.0, 1.0)
                    light = float(shadow[v, u])
                    colour = _lit((r * dry, g * dry, b * dry), air.to_sun[2] * light, lamp, 0.0, air)
                    colour = _mix((0.0, 0.0, 0.0), colour, 0.55 + 0.45 * light)
                    mirror = shine
                    if air.puddles > 0.0 and _noise(int(s * 0.6 + 65536), int(t * 0.9 + 65536)) < 0.35 * air.puddles:
                        mirror = min(0.8, 2.2 * shine + 0.1)
                    if mirror > 0.0:
                        colour = _mix(colour, air.horizon, mirror)
                else:
                    label, actor = tags[k, 1], tags[k, 0]
                    colour = _part_colour(parts, k, label, x, y, z, lights, air)
                haze = clear if k == GROUND else math.exp(-far * air.extinction)
                colour = _mix(air.horizon, colour, haze)
            if air.rain > 0.0 and _noise(u + tick * 31, (v + tick * 37 + u * 5) // 9) < 0.05 * air.rain:
                colour = _mix(colour, (0.75, 0.77, 0.80), 0.28)
            rgb[v, u, 0] = np.uint8(255.0 * min(1.0, colour[0]))
            rgb[v, u, 1] = np.uint8(255.0 * min(1.0, colour[1]))
            rgb[v, u, 2] = np.uint8(255.0 * min(1.0, colour[2]))
            semantic[v, u] = label
            instance[v, u] = actor


@kernel
def cast_shadow(
    blob: Floats, eye: Eye, plan: Singles, slope: Singles, owner: NDArray[np.int16], shadow: Singles
) -> None:
    """Darken the ground in the soft ellipse `blob` (x, y, half length, half width, cos, sin, strength)."""
    size = shadow.shape[0]
    bx, by, reach = blob[0] - eye.x, blob[1] - eye.y, max(blob[2], blob[3])
    ahead, right = bx * eye.cos + by * eye.sin, by * eye.cos - bx * eye.sin
    if ahead + reach < 1.0:
        return
    near, half = max(0.8, ahead - reach), size / 2
    v0 = int(half + half * eye.z / ((ahead + reach) * eye.tan))
    v1 = int(half + half * eye.z / (near * eye.tan)) + 2
    for v in range(max(0, v0), min(size, v1)):
        if slope[v] >= -1e-6:
            continue
        far = -eye.z / slope[v]
        scale = half / (far * eye.tan)
        u0, u1 = int(half + (right - reach) * scale), int(half + (right + reach) * scale) + 2
        for u in range(max(0, u0), min(size, u1)):
            if owner[v, u] == GROUND:
                px, py = far * plan[0, u] - bx, far * plan[1, u] - by
                lx, ly = (px * blob[4] + py * blob[5]) / blob[2], (py * blob[4] - px * blob[5]) / blob[3]
                inside = 1.0 - lx * lx - ly * ly
                if inside > 0.0:
                    shadow[v, u] = min(shadow[v, u], 1.0 - blob[6] * min(1.0, 2.5 * inside))


@kernel
def add_glare(lamp: Floats, eye: Eye, depth: Singles, instance: NDArray[np.uint16], rgb: NDArray[np.uint8]) -> None:
    """Add the halo of `lamp` (x, y, z, dx, dy, power, actor id) when it faces the camera and nothing hides it.

    `depth` is still measured along the view direction here."""
    size = depth.shape[0]
    px, py, pz = lamp[0] - eye.x, lamp[1] - eye.y, lamp[2] - eye.z
    ahead, right = px * eye.cos + py * eye.sin, py * eye.cos - px * eye.sin
    if ahead < 0.5:
        return
    away = math.sqrt(px * px + py * py + pz * pz)
    facing = -(px * lamp[3] + py * lamp[4]) / away
    half = size / 2
    cu, cv = half + right / (ahead * eye.tan) * half, half - pz / (ahead * eye.tan) * half
    if facing <= 0.3 or cu < 0.0 or cv < 0.0 or cu >= size or cv >= size:
        return
    if depth[int(cv), int(cu)] < ahead - 0.6 and instance[int(cv), int(cu)] != lamp[6]:
        return
    power = lamp[5] * facing**4 * 90.0 / (90.0 + away)
    spread = size * (0.012 + 0.035 * power * 16.0 / (16.0 + away))
    reach = int(7.0 * spread) + 1
    rim = 1.0 / (1.0 + 49.0) ** 2
    for v in range(max(0, int(cv) - reach), min(size, int(cv) + reach + 1)):
        for u in range(max(0, int(cu) - reach), min(size, int(cu) + reach + 1)):
            q = ((u + 0.5 - cu) ** 2 + (v + 0.5 - cv) ** 2) / (spread * spread)
            light = 255.0 * power * (1.0 / ((1.0 + q) * (1.0 + q)) - rim)
            if light > 0.0:
                rgb[v, u, 0] = min(255, int(rgb[v, u, 0] + light))
                rgb[v, u, 1] = min(255, int(rgb[v, u, 1] + 0.97 * light))
                rgb[v, u, 2] = min(255, int(rgb[v, u, 2] + 0.88 * light))
