"""The ego camera's view: gathers objects, shadows, lamps and glare around the ego and has them drawn."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.collect import camera
from semore.collect.embedded.jit import kernel
from semore.collect.embedded.maps.town import Town
from semore.collect.embedded.render.ground import Ground
from semore.collect.embedded.render.model_table import LAMPS, STARTS, TEMPLATES
from semore.collect.embedded.render.ray_intersect import Eye
from semore.collect.embedded.render.raycast import render
from semore.collect.embedded.render.scanline import WIDEST
from semore.collect.embedded.render.shapes import PART_FIELDS, pose_parts
from semore.collect.embedded.render.sky import Atmosphere
from semore.collect.simulator import Images
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import KIND_INDEX, SemanticClass

Floats = NDArray[np.float64]

_SIGHT: Final = 260.0  # m of scenery drawn ahead of and behind the camera
_ROOF_SIGHT: Final = 150.0  # m of roofs
_LAMP_SIGHT: Final = 110.0  # m within which lamps light the road
_MOST_LAMPS: Final = 10
_DAYLIGHT: Final = 0.5  # strength of lamps (sky.py) up to which they light nothing
_MOST_PARTS: Final = int(np.diff(STARTS).max())
_HOUSE_SHADE: Final = 75.0  # m: houses within it throw a shadow
_SUN_SHOWS: Final = 0.12  # share of the light that must come from the sun for sharp shadows
_BUILDING: Final = int(SemanticClass.BUILDING)
_CYCLING: Final = KIND_INDEX["cyclist"]
_WALKING: Final = KIND_INDEX["pedestrian"]


@kernel
def _spot_lights(
    actors: NDArray[np.float32], lamps: Floats, x: float, y: float, yaw: float, own: bool, strength: float,
    sight: float, most: int,
) -> Floats:  # fmt: skip
    """(n ≤ most, 9) spot lights: position, unit direction, cosines of the inner and outer cone, power.

    The ego's two low beams, then one for both lamps of each lit vehicle near enough to the ego at (x, y, yaw)."""
    lights = np.empty((most, 9))
    n = 0
    cos, sin = math.cos(yaw), math.sin(yaw)
    if own and most >= 2:
        for side in (-0.65, 0.65):
            lights[n, 0], lights[n, 1], lights[n, 2] = x + 2.3 * cos - side * sin, y + 2.3 * sin + side * cos, 0.65
            lights[n, 3], lights[n, 4], lights[n, 5] = cos, sin, -0.045
            lights[n, 6], lights[n, 7], lights[n, 8] = 0.975, 0.83, strength
            n += 1
    for a in range(actors.shape[0]):
        if actors[a, 11] <= 0.0 or n >= most:
            continue
        dx, dy = actors[a, 2] - x, actors[a, 3] - y
        ahead = dx * cos + dy * sin
        if -25.0 < ahead < sight and math.hypot(dx, dy) < sight:
            c, s, front = math.cos(actors[a, 5]), math.sin(actors[a, 5]), actors[a, 8] / 2 + 0.1
            lights[n, 0], lights[n, 1] = actors[a, 2] + front * c, actors[a, 3] + front * s
            lights[n, 2] = lamps[int(actors[a, 1]), 0]
            lights[n, 3], lights[n, 4], lights[n, 5] = c, s, -0.05
            lights[n, 6], lights[n, 7], lights[n, 8] = 0.97, 0.82, 1.3 * strength
            n += 1
    return lights[:n].copy()


@kernel
def _glares(actors: NDArray[np.float32], lamps: Floats, strength: float) -> Floats:
    """(n, 11) halos as lens.GLARE_FIELDS: lit headlamps, lit tail lamps, and lamps of braking vehicles."""
    rows = np.empty((4 * actors.shape[0], 11))
    n = 0
    for a in range(actors.shape[0]):
        kind = int(actors[a, 1])
        lit, brake = actors[a, 11], actors[a, 13]
        if kind in (_WALKING, _CYCLING) or (lit <= 0.0 and brake <= 0.0):
            continue
        c, s = math.cos(actors[a, 5]), math.sin(actors[a, 5])
        front, side = actors[a, 8] / 2, actors[a, 9] / 2 - 0.28
        for end in range(2):
            power = strength * lit * 1.9 if end == 0 else strength * (0.12 * lit + 0.75 * brake)
            if power <= 0.0:
                continue
            way = 1.0 if end == 0 else -1.0
            for q in (-side, side):
                rows[n, 0] = actors[a, 2] + way * front * c - q * s
                rows[n, 1] = actors[a, 3] + way * front * s + q * c
                rows[n, 2], rows[n, 3], rows[n, 4] = lamps[kind, end], way * c, way * s
                rows[n, 5], rows[n, 6] = power, actors[a, 0]
                rows[n, 7], rows[n, 8], rows[n, 9] = 1.0, (0.96 if end == 0 else 0.10), (0.86 if end == 0 else 0.07)
                rows[n, 10] = 1.0 if end == 0 else 0.5
                n += 1
    return rows[:n].copy()


@kernel
def _blobs(actors: NDArray[np.float32]) -> Floats:
    """(A, 7) soft dark ellipses on the ground under the actors."""
    rows = np.empty((actors.shape[0], 7))
    for a in range(actors.shape[0]):
        rows[a, 0], rows[a, 1] = actors[a, 2], actors[a, 3]
        rows[a, 2], rows[a, 3] = actors[a, 8] / 2 * 1.12 + 0.1, actors[a, 9] / 2 * 1.15 + 0.1
        rows[a, 4], rows[a, 5] = math.cos(actors[a, 5]), math.sin(actors[a, 5])
        rows[a, 6] = 0.55
    return rows


@kernel
def _spray(actors: NDArray[np.float32], rain: float) -> Floats:
    """(n, 5) balls of spray as lens.MIST_FIELDS behind the wheels of moving vehicles."""
    rows = np.empty((2 * actors.shape[0], 5))
    n = 0
    for a in range(actors.shape[0]):
        if rain <= 0.0:
            break
        speed = math.hypot(actors[a, 6], actors[a, 7])
        kind = int(actors[a, 1])
        if kind in (_WALKING, _CYCLING) or speed < 3.0:
            continue
        c, s = math.cos(actors[a, 5]), math.sin(actors[a, 5])
        for ball in range(2):
            back = actors[a, 8] / 2 + 0.3 + 1.4 * ball
            rows[n, 0], rows[n, 1] = actors[a, 2] - back * c, actors[a, 3] - back * s
            rows[n, 2], rows[n, 3] = 0.35 + 0.2 * ball, 0.9 + 0.35 * ball
            rows[n, 4] = rain * min(0.5, 0.03 * speed)
            n += 1
    return rows[:n].copy()


@kernel
def _add_houses(
    parts: NDArray[np.float32], tags: NDArray[np.int32], still: int, x: float, y: float,
    casters: NDArray[np.int32], count: int,
) -> int:  # fmt: skip
    """Append the houses near (x, y) among the first `still` parts to `casters`; the new count."""
    for k in range(still):
        if tags[k, 1] == _BUILDING and math.hypot(parts[k, 0] - x, parts[k, 1] - y) < _HOUSE_SHADE:
            casters[count] = k
            count += 1
    return count


def draw(
    town: Town, air: Atmosphere, size: int, x: float, y: float, yaw: float,
    actors: NDArray[np.float32], paint: Floats, low_beams: bool, tick: int,
) -> Images:  # fmt: skip
    """The ego camera's pictures of `size`² pixels for an ego at (x, y, yaw); otherwise as `look`."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    eye = Eye(x + camera.AHEAD * cos, y + camera.AHEAD * sin, camera.HEIGHT, cos, sin, camera.TAN)
    return look(town, air, size, eye, (x, y, yaw), actors, paint, low_beams, tick)


def look(
    town: Town, air: Atmosphere, size: int, eye: Eye, carrier: tuple[float, float, float],
    actors: NDArray[np.float32], paint: Floats, low_beams: bool, tick: int,
) -> Images:  # fmt: skip
    """What `eye` sees in `size`² pixels; SemoreError when that is more than WIDEST.

    `carrier`: x, y, yaw of the car that carries the eye, for its low beams and for what is near enough to be drawn.
    actors (A, 14) as schema.ACTOR_FIELDS without the carrier, paint (A, 3) in [0, 1]. A pure function: same arguments,
    same bytes."""
    if size > WIDEST:
        raise SemoreError(f"camera size {size} is too large; use at most {WIDEST} pixels")
    x, y, yaw = carrier
    s, _ = town.road.locate(x, y)
    seen = town.scenery.between(s - _SIGHT, s + _SIGHT)
    roofs = town.roofs_between(s - _ROOF_SIGHT, s + _ROOF_SIGHT)
    walls = seen.stop - seen.start
    still = walls + roofs.stop - roofs.start
    parts = np.empty((still + _MOST_PARTS * len(actors), len(PART_FIELDS)), np.float32)
    tags = np.empty((len(parts), 2), np.int32)
    casters = np.empty(len(parts), np.int32)
    parts[:walls], tags[:walls] = town.scenery.parts[seen], town.scenery.tags[seen]
    parts[walls:still], tags[walls:still] = town.roofs[roofs], (0, _BUILDING)
    count, cast = pose_parts(actors, paint, eye.x, eye.y, air.lamp, TEMPLATES, STARTS, parts, tags, casters, still)
    bright = air.sun[1] / (air.sun[1] + air.ambient[1])
    if bright < _SUN_SHOWS:
        cast = 0
    elif air.to_sun[2] > 0.5:  # a low sun would drown the whole street in the houses' shade
        cast = _add_houses(parts, tags, still, eye.x, eye.y, casters, cast)

    most = _MOST_LAMPS if air.lamp > _DAYLIGHT else 0
    lights = _spot_lights(actors, LAMPS, x, y, yaw, low_beams, 1.5 * air.lamp, _LAMP_SIGHT, most)
    glares = _glares(actors, LAMPS, air.lamp)
    mists = _spray(actors, air.rain)
    ground = Ground(town.road.segments, town.strips, town.marks)
    rgb, semantic, instance, depth = render(
        size, eye, ground, air, parts[:count], tags[:count], casters[:cast], _blobs(actors), lights, glares, mists, tick
    )
    return Images(rgb, semantic, instance, depth)
