"""The colour of a point on an object: its face's normal, its material's pattern, and the light on it."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.embedded.jit import kernel
from semore.collect.embedded.render.ray_intersect import CURVED
from semore.collect.embedded.render.shapes import (
    BOARD,
    BODY,
    CHECKS,
    GLASS,
    GLAZED,
    HEAD,
    RAIL,
    ROOF,
    SHUTTER,
    TUBE,
    WEDGE,
    WHEEL,
)  # fmt: skip
from semore.collect.embedded.render.sky import Atmosphere, Colour, blend, scale
from semore.collect.embedded.render.vehicle_models import AXLE

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_PANE: Final = (0.07, 0.09, 0.12)
_HUB: Final = (0.60, 0.61, 0.64)
_TRIM: Final = (0.05, 0.05, 0.055)


@kernel
def face_normal(part: Singles, face: int) -> Colour:
    """Unit normal of a flat face in the world's axes."""
    x, y, z = 0.0, 0.0, 0.0
    tall = 2.0 * part[5]
    wedge = part[8] == WEDGE
    if face < 2:
        x, z = (1.0 if face == 0 else -1.0), (part[9 + face] / tall if wedge else 0.0)
    elif face < 4:
        y, z = (1.0 if face == 2 else -1.0), (part[11] / tall if wedge else 0.0)
    else:
        z = 1.0 if face == 4 else -1.0
    size = 1.0 / math.sqrt(x * x + y * y + z * z)
    return (x * part[6] - y * part[7]) * size, (x * part[7] + y * part[6]) * size, z * size


@kernel
def curved_normal(part: Singles, x: float, y: float, z: float, eye: tuple[float, float, float]) -> Colour:
    """Unit normal of an ellipsoid or a tube's round wall at the offset (x, y, z) from its middle, towards the eye."""
    cos, sin = part[6], part[7]
    lx, ly = x * cos + y * sin, y * cos - x * sin
    if part[8] != TUBE:
        nx, ny, nz = lx / part[3] ** 2, ly / part[4] ** 2, z / part[5] ** 2
    elif part[10] > 0.0:
        nx, ny, nz = lx, ly, 0.0
    else:
        nx, ny, nz = lx, 0.0, z
    size = 1.0 / math.sqrt(max(1e-12, nx * nx + ny * ny + nz * nz))
    nx, ny, nz = (nx * cos - ny * sin) * size, (nx * sin + ny * cos) * size, nz * size
    if nx * eye[0] + ny * eye[1] + nz * eye[2] < 0.0:
        return -nx, -ny, -nz  # the inner wall of a ring
    return nx, ny, nz


@kernel
def lamp_light(lights: Floats, mask: int, x: float, y: float, z: float, nx: float, ny: float, nz: float) -> float:
    """Light of the spot lights whose bit is set in `mask` on a surface at (x, y, z) with the given normal."""
    total = 0.0
    for i in range(lights.shape[0]):
        if not mask >> i & 1:
            continue
        ex, ey, ez = x - lights[i, 0], y - lights[i, 1], z - lights[i, 2]
        square = ex * ex + ey * ey + ez * ez + 0.01
        inverse = 1.0 / math.sqrt(square)
        inside = (ex * lights[i, 3] + ey * lights[i, 4] + ez * lights[i, 5]) * inverse - lights[i, 7]
        facing = -(nx * ex + ny * ey + nz * ez) * inverse
        if inside > 0.0 and facing > 0.0:
            edge = min(1.0, inside / (lights[i, 6] - lights[i, 7]))
            total += lights[i, 8] * edge * edge * (0.25 + 0.45 * facing) * 260.0 / (260.0 + square)
    return total


@kernel
def reachable(lights: Floats, part: Singles) -> int:
    """Bit i is set when spot light i can reach some of the part."""
    mask = 0
    radius = part[3] + part[4] + part[5]
    for i in range(lights.shape[0]):
        ex, ey, ez = part[0] - lights[i, 0], part[1] - lights[i, 1], part[2] - lights[i, 2]
        ahead = ex * lights[i, 3] + ey * lights[i, 4] + ez * lights[i, 5]
        away = math.sqrt(ex * ex + ey * ey + ez * ez)
        if ahead > -radius and away < 130.0 + radius and ahead > (away - radius) * lights[i, 7] - radius:
            mask |= 1 << i
    return mask


@kernel
def _cover(inside: float, blur: float) -> float:
    """Share of a pixel `blur` wide covered by something whose edge lies `inside` away."""
    return min(1.0, max(0.0, inside / blur + 0.5))


@kernel
def _glazed(part: Singles, face: int, lx: float, ly: float, lz: float, blur: float) -> float:
    """How much of a pixel on a cabin's face is glass."""
    high = (lz / part[5] + 1.0) / 2.0
    up = min(high - 0.05, 0.90 - high) * 2.0 * part[5]
    if face < 2:
        return _cover(min(part[4] - part[11] * high - 0.09 - abs(ly), up), blur)
    ahead, behind = part[3] - part[9] * high - 0.10, -part[3] + part[10] * high + 0.12
    pillar = abs(lx - 0.45 * ahead - 0.55 * behind) - 0.045
    return _cover(min(ahead - lx, lx - behind, up, pillar), blur)


@kernel
def _body(part: Singles, face: int, lx: float, lz: float, albedo: Colour, blur: float, air: Atmosphere) -> Colour:
    """Car paint with a dark sill and dark arches around the wheels; upward faces mirror some sky."""
    if face == 4 or (face < 2 and part[9 + face] > 0.5):
        return blend(albedo, air.zenith, 0.16)
    floor = part[2] - part[5]
    if face == 2 or face == 3:
        wheel = 0.25 + 0.5 * floor
        arch = wheel + 0.075 - math.hypot(abs(lx) - AXLE * part[3], part[2] + lz - wheel)
        if part[9] < 0.5 and arch > -blur:
            return blend(albedo, _TRIM, _cover(arch, blur))
        if part[9] < 0.5 and blur < 0.05 and abs(lx + 0.12 * part[3]) < 0.012:
            return scale(albedo, 0.55)
    if part[9] < 0.5:
        return blend(albedo, _TRIM, _cover(0.07 - lz - part[5], blur))
    return albedo


@kernel
def pattern(
    part: Singles, face: int, x: float, y: float, z: float, nz: float, facing: float, footprint: float, actor: int,
    air: Atmosphere,
) -> tuple[Colour, float]:  # fmt: skip
    """Albedo and glow at the offset (x, y, z) (m) from a part's middle; `facing` is the cosine of the view to the
    face, `footprint` (m) a pixel's size there."""
    material = part[16]
    albedo, glow = (float(part[12]), float(part[13]), float(part[14])), float(part[15])
    lx, ly = x * part[6] + y * part[7], y * part[6] - x * part[7]
    blur = max(0.004, footprint / max(0.25, facing))
    if material == GLAZED and face < 4:
        glass = _glazed(part, face, lx, ly, z, blur)
        pane = blend(_PANE, air.horizon, 0.08 + 0.34 * max(0.0, nz))
        return blend(albedo, pane, glass), glow
    if material == BODY:
        return _body(part, face, lx, z, albedo, blur, air), glow
    if material == GLASS:
        return blend(_PANE, air.horizon, 0.15 + 0.2 * (z / part[5] + 1.0)), glow
    if material == WHEEL:
        if face == CURVED:
            return albedo, glow
        out = math.hypot(lx, z) / part[5]
        return blend(albedo, _HUB, _cover((0.62 - out) * part[5], blur) * (0.45 if out < 0.16 else 1.0)), glow
    if material == HEAD:
        hair = z > 0.30 * part[5] or (lx < -0.02 and z > -0.35 * part[5])
        return ((0.16, 0.10, 0.06) if actor % 3 else (0.42, 0.28, 0.12)) if hair else albedo, glow
    if material == CHECKS:
        along = ly if face < 2 else lx
        odd = (math.floor(along / 0.34) + (1 if z > 0.0 else 0)) & 1
        share = min(1.0, max(0.0, 0.6 - blur))
        return blend(albedo, (0.90, 0.90, 0.90), (1.0 if odd else 0.0) * share + 0.5 * (1.0 - share)), glow
    if material == SHUTTER:
        slat = z / 0.16 - math.floor(z / 0.16)
        return scale(albedo, 1.0 - 0.30 * min(1.0, 0.05 / blur) * (1.0 if slat < 0.3 else 0.0)), glow
    if material == RAIL:
        wave = abs(z / part[5])
        return scale(albedo, 0.72 + 0.42 * abs(2.0 * wave - 0.9)), glow
    if material == BOARD and face < 2:
        rim = min(part[4] - abs(ly), part[5] - abs(z))
        line = min(0.72 * part[4] - abs(ly + 0.1 * part[4]), 0.13 - abs(abs(z) - 0.45))
        return blend(albedo, (0.92, 0.92, 0.90), max(_cover(0.10 - rim, blur), _cover(line, blur))), glow
    if material == ROOF and blur < 0.3:
        course = z / 0.35 - math.floor(z / 0.35)
        return scale(albedo, 0.82 if course < 0.25 else 1.04), glow
    return albedo, glow
