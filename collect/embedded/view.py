"""What the ego's camera sees: gathers parts, shadows, lamps and glare around it and has them drawn."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from collect.embedded.jit import kernel
from collect.embedded.raycast import Eye, Ground, render
from collect.embedded.shapes import STARTS, TEMPLATES, pose_parts
from collect.embedded.sky import Atmosphere
from collect.embedded.town import Town
from collect.simulator import Images

Floats = NDArray[np.float64]

CAMERA_AHEAD: Final = 1.0
"""m in front of the ego's centre."""
CAMERA_HEIGHT: Final = 1.5
"""m."""
CAMERA_TAN: Final = math.tan(math.radians(30.0))
"""Half of the 60° field of view."""

_SIGHT: Final = 260.0  # m of scenery drawn ahead of and behind the camera
_LAMP_SIGHT: Final = 110.0  # m within which lamps light the road
_MOST_LAMPS: Final = 10
_DAYLIGHT: Final = 0.3  # Atmosphere.lamp up to which lamps light nothing
_MOST_PARTS: Final = int(np.diff(STARTS).max())


@kernel
def _lamp_row(x: float, y: float, z: float, yaw: float, dip: float, power: float) -> tuple[float, ...]:
    flat = math.cos(dip)
    return (x, y, z, math.cos(yaw) * flat, math.sin(yaw) * flat, -math.sin(dip), 0.97, 0.80, power)


@kernel
def _spot_lights(
    actors: NDArray[np.float32], x: float, y: float, yaw: float, own: bool, strength: float, sight: float, most: int
) -> Floats:
    """(n ≤ most, 9) spot lights: position, unit direction, cosines of the inner and outer cone, power.

    The ego's two low beams, then one for both lamps of each lit vehicle near enough to the ego at (x, y, yaw)."""
    lights = np.empty((most, 9))
    n = 0
    cos, sin = math.cos(yaw), math.sin(yaw)
    if own and most >= 2:
        for side in (-0.6, 0.6):
            row = _lamp_row(x + 2.3 * cos - side * sin, y + 2.3 * sin + side * cos, 0.65, yaw, 0.045, strength)
            lights[n, :] = np.array(row)
            n += 1
    for a in range(actors.shape[0]):
        if actors[a, 11] <= 0.0 or n >= most:
            continue
        dx, dy = actors[a, 2] - x, actors[a, 3] - y
        ahead = dx * cos + dy * sin
        if -25.0 < ahead < sight and math.hypot(dx, dy) < sight:
            c, s, front = math.cos(actors[a, 5]), math.sin(actors[a, 5]), actors[a, 8] / 2
            row = _lamp_row(actors[a, 2] + front * c, actors[a, 3] + front * s, 0.7, actors[a, 5], 0.05, strength)
            lights[n, :] = np.array(row)
            n += 1
    return lights[:n].copy()


@kernel
def _glares(actors: NDArray[np.float32], power: float) -> Floats:
    """(2·lit actors, 7) headlamps that may dazzle: position, plan direction, power, actor id."""
    rows = np.empty((2 * actors.shape[0], 7))
    n = 0
    for a in range(actors.shape[0]):
        if actors[a, 11] <= 0.0:
            continue
        c, s, front, side = math.cos(actors[a, 5]), math.sin(actors[a, 5]), actors[a, 8] / 2, actors[a, 9] / 2 - 0.3
        for q in (-side, side):
            rows[n, 0], rows[n, 1] = actors[a, 2] + front * c - q * s, actors[a, 3] + front * s + q * c
            rows[n, 2], rows[n, 3], rows[n, 4] = 0.75, c, s
            rows[n, 5], rows[n, 6] = power, actors[a, 0]
            n += 1
    return rows[:n].copy()


@kernel
def _shadows(actors: NDArray[np.float32], air: Atmosphere) -> Floats:
    """(A, 7) soft ellipses on the ground under the actors, moved away from the sun; none in the dark."""
    bright = air.sun[1] / (air.sun[1] + air.ambient[1])
    rows = np.empty((actors.shape[0] if bright > 0.05 else 0, 7))
    for a in range(rows.shape[0]):
        shift = min(1.6, actors[a, 10] / 2 / air.to_sun[2] * 0.6)
        rows[a, 0], rows[a, 1] = actors[a, 2] - air.to_sun[0] * shift, actors[a, 3] - air.to_sun[1] * shift
        rows[a, 2], rows[a, 3] = actors[a, 8] / 2 * 1.1 + 0.15, actors[a, 9] / 2 * 1.1 + 0.15
        rows[a, 4], rows[a, 5] = math.cos(actors[a, 5]), math.sin(actors[a, 5])
        rows[a, 6] = 0.35 + 0.45 * bright
    return rows


def draw(
    town: Town, air: Atmosphere, size: int, x: float, y: float, yaw: float,
    actors: NDArray[np.float32], paint: Floats, low_beams: bool, tick: int,
) -> Images:  # fmt: skip
    """The camera's pictures of `size`² pixels for an ego at (x, y, yaw).

    actors (A, 14) as schema.ACTOR_FIELDS, paint (A, 3) in [0, 1]. A pure function: same arguments, same bytes."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    eye = Eye(x + CAMERA_AHEAD * cos, y + CAMERA_AHEAD * sin, CAMERA_HEIGHT, cos, sin, CAMERA_TAN)
    s, _ = town.road.locate(x, y)
    seen = town.scenery.between(s - _SIGHT, s + _SIGHT)
    still = seen.stop - seen.start
    parts = np.empty((still + _MOST_PARTS * len(actors), 13), np.float32)
    tags = np.empty((len(parts), 2), np.int32)
    parts[:still], tags[:still] = town.scenery.parts[seen], town.scenery.tags[seen]
    count = pose_parts(actors, paint, eye.x, eye.y, air.lamp, TEMPLATES, STARTS, parts, tags, still)

    most = _MOST_LAMPS if air.lamp > _DAYLIGHT else 0
    lights = _spot_lights(actors, x, y, yaw, low_beams, 1.5 * air.lamp, _LAMP_SIGHT, most)
    glares = _glares(actors, 1.6 * air.lamp)
    ground = Ground(town.road.segments, town.strips, town.marks)
    rgb, semantic, instance, depth = render(
        size, eye, ground, air, parts[:count], tags[:count], _shadows(actors, air), lights, glares, tick
    )
    return Images(rgb, semantic, instance, depth)
