"""Shading: from what each ray met to a picture of sky, ground and objects, row by row, then haze and bytes."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.embedded.jit import kernel
from semore.collect.embedded.render.facade import draw_wall
from semore.collect.embedded.render.ground import Ground, draw_ground
from semore.collect.embedded.render.ray_intersect import CURVED, FACES, GROUND, SKY, Eye, Owners, Rays
from semore.collect.embedded.render.scanline import (
    AIR_BLUE,
    AIR_GREEN,
    AIR_RED,
    BEHIND,
    BLUE,
    GREEN,
    LABEL,
    RED,
    make_line,
)  # fmt: skip
from semore.collect.embedded.render.shapes import FACADE, PLAIN
from semore.collect.embedded.render.sky import Atmosphere, draw_sky
from semore.collect.embedded.render.surfaces import curved_normal, face_normal, lamp_light, pattern, reachable
from semore.collect.embedded.render.texture import Singles
from semore.datasets.rollouts.schema import SemanticClass

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]

_SKY_CLASS: Final = np.float32(SemanticClass.SKY)
_F0: Final = np.float32(0.0)
_F1: Final = np.float32(1.0)
_WHITE: Final = np.float32(255.0)


@kernel
def _draw_things(
    air: Atmosphere, parts: Singles, tags: NDArray[np.int32], lights: Floats, eye: Eye, rays: Rays, v: int,
    line: Singles, depth: Singles, owner: Owners, actors: NDArray[np.uint16],
) -> None:  # fmt: skip
    """Colours, classes and actor ids of row v wherever it meets a part; a face's light is worked out once per run."""
    size = depth.shape[1]
    pixel = 2.0 * eye.tan / size
    slope = float(rays.slope[v])
    last, part = -1, parts[0]
    label, actor, mask, face = _F0, np.uint16(0), 0, 0
    nx, ny, nz, r, g, b = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    done = 0
    for u in range(size):
        code = owner[v, u]
        if code < 0 or u < done:
            continue
        far = float(depth[v, u])
        x, y, z = far * rays.plan_x[u], far * rays.plan_y[u], far * slope
        fresh = code != last
        if fresh:
            last, face = code, code % FACES
            k = code // FACES
            part = parts[k]
            label, actor = np.float32(tags[k, 1]), np.uint16(tags[k, 0])
            mask = reachable(lights, part)
            if face != CURVED:
                nx, ny, nz = face_normal(part, face)
        ox, oy, oz = x + eye.x - part[0], y + eye.y - part[1], z + eye.z - part[2]
        if face == CURVED:
            nx, ny, nz = curved_normal(part, ox, oy, oz, (-x, -y, -z))
        if fresh or face == CURVED:
            sun = max(0.0, nx * air.to_sun[0] + ny * air.to_sun[1] + nz * air.to_sun[2])
            sky = 0.86 + 0.16 * nz - 0.07 * nx  # upward faces see more sky; sides differ a little even under clouds
            r = air.ambient[0] * sky + air.sun[0] * sun
            g = air.ambient[1] * sky + air.sun[1] * sun
            b = air.ambient[2] * sky + air.sun[2] * sun
        if part[16] == FACADE and face < 4:
            done = u + 1
            while done < size and owner[v, done] == code:
                done += 1
            draw_wall(
                part, face, (nx, ny, nz), (r, g, b), air, lights, mask, eye, slope, pixel, u, done, depth[v], line
            )
            for w in range(u, done):
                line[LABEL + w] = label
                actors[w] = actor
            continue
        if part[16] == PLAIN:
            albedo, glow = (float(part[12]), float(part[13]), float(part[14])), float(part[15])
        else:
            facing = abs(nx * x + ny * y + nz * z) / max(0.1, math.sqrt(x * x + y * y + z * z))
            albedo, glow = pattern(part, face, ox, oy, oz, nz, facing, far * pixel, int(actor), air)
        lamp = lamp_light(lights, mask, x + eye.x, y + eye.y, z + eye.z, nx, ny, nz) if mask else 0.0
        foot = 0.72 + 0.28 * min(1.0, (z + eye.z) * 2.5)  # corners near the ground get less light
        line[RED + u] = albedo[0] * (r * foot + lamp + glow)
        line[GREEN + u] = albedo[1] * (g * foot + lamp * 0.96 + glow)
        line[BLUE + u] = albedo[2] * (b * foot + lamp * 0.84 + glow)
        line[LABEL + u] = label
        actors[u] = actor


@kernel
def _finish(extinction: float, line: Singles, depths: Singles, owners: Owners, rgb: Bytes, semantic: Bytes) -> None:
    """Haze in front of everything but the sky, in the colour of the sky behind it; then bytes."""
    thin = np.float32(extinction / 4.0)
    for u in range(depths.shape[0]):
        q = depths[u] * thin
        # exp(-4q) as the fourth power of a Taylor reciprocal
        h = _F1 / (_F1 + q * (_F1 + q * (np.float32(0.5) + q * (np.float32(1 / 6) + q * np.float32(1 / 24)))))
        h = h * h
        h = h * h
        h = _F1 if owners[u] == SKY else h
        line[RED + u] = line[AIR_RED + u] + (line[RED + u] - line[AIR_RED + u]) * h
        line[GREEN + u] = line[AIR_GREEN + u] + (line[GREEN + u] - line[AIR_GREEN + u]) * h
        line[BLUE + u] = line[AIR_BLUE + u] + (line[BLUE + u] - line[AIR_BLUE + u]) * h
    for u in range(depths.shape[0]):
        rgb[u, 0] = np.uint8(np.int32(_WHITE * min(_F1, line[RED + u])))
        rgb[u, 1] = np.uint8(np.int32(_WHITE * min(_F1, line[GREEN + u])))
        rgb[u, 2] = np.uint8(np.int32(_WHITE * min(_F1, line[BLUE + u])))
    for u in range(depths.shape[0]):
        semantic[u] = np.uint8(np.int32(line[LABEL + u]))


@kernel
def shade(
    eye: Eye, rays: Rays, ground: Ground, air: Atmosphere, parts: Singles, tags: NDArray[np.int32], lights: Floats,
    depth: Singles, owner: Owners, shadow: Singles, rgb: Bytes, semantic: Bytes, instance: NDArray[np.uint16],
) -> None:  # fmt: skip
    """Fill rgb, semantic and instance from what `depth` and `owner` (H, W) say each ray met. `shadow` (H, W): share of
    sun and open sky that ground there gets. Rows above are finished first, so that wet ground can mirror them."""
    size = depth.shape[0]
    line = make_line(rays)
    draw_sky(air, _F0, line, size, AIR_RED)
    for v in range(size):
        sky, floor, thing = False, False, False
        for u in range(size):
            sky |= owner[v, u] == SKY
            floor |= owner[v, u] == GROUND
            thing |= owner[v, u] >= 0
        instance[v, :] = 0
        if sky:
            draw_sky(air, rays.slope[v], line, size, RED)
            for u in range(size):
                line[LABEL + u] = _SKY_CLASS
        elif floor:
            draw_ground(air, ground, eye, rays, v, lights, shadow[v], line, size, depth, owner, rgb)
        if thing:
            _draw_things(air, parts, tags, lights, eye, rays, v, line, depth, owner, instance[v])
            for u in range(size):
                line[BEHIND + u] = depth[v, u] if owner[v, u] >= 0 else line[BEHIND + u]
        _finish(air.extinction, line, depth[v], owner[v], rgb[v], semantic[v])
