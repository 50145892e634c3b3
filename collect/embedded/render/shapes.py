"""Solids, materials and rows of the model table, and the kernel that poses actors' models for a picture.

The templates themselves are written down in vehicle_models.py and pedestrian_models.py."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.embedded.jit import kernel
from semore.datasets.rollouts.schema import KIND_INDEX, KINDS, SemanticClass

BOX: Final = 0.0
ELLIPSOID: Final = 1.0
WEDGE: Final = 2.0
TUBE: Final = 3.0

PLAIN: Final = 0.0
GLASS: Final = 1.0  # reflects the sky
GLAZED: Final = 2.0  # a cabin: windows all round, the frame painted
BODY: Final = 3.0  # car paint: reflects a little, dark wheel arches and sill
WHEEL: Final = 4.0  # a tyre with a bright hub on its flat sides
HEAD: Final = 5.0  # a face with hair above and behind
FACADE: Final = 6.0  # storeys of windows, a door and a shop front
RAIL: Final = 7.0  # corrugated steel
CHECKS: Final = 8.0  # squares of its colour and white, as emergency vehicles wear
ROOF: Final = 9.0  # rows of tiles
SHUTTER: Final = 10.0  # a rolling door of steel slats
BOARD: Final = 11.0  # a road sign: white border and lines of writing

PART_FIELDS: Final = (
    "x", "y", "z", "hx", "hy", "hz", "cos", "sin", "shape", "front", "rear", "side", "r", "g", "b", "glow", "material",
)  # fmt: skip
"""Columns of posed parts: centre and half sizes of the solid (m), heading, kind of solid, its three measures (m),
albedo in [0, 1], emitted light as a multiple of the albedo, material.

A WEDGE is a box whose upper face is moved: its front edge `front` backwards, its rear edge `rear` forwards, both sides
`side` inwards; hx and hy are those of its lower face. front = −rear makes a leaning post. A TUBE is a wheel about y
with a hole of radius `front`; `rear` 1 lays it flat, a ring about z. BOX and ELLIPSOID have no measures."""

TEMPLATE_FIELDS: Final = (
    "x", "y", "z", "hx", "hy", "hz", "shape", "front", "rear", "side", "class", "r", "g", "b", "tint", "glow", "lit",
    "brake", "material", "low_x", "high_x", "low_z", "high_z", "phase", "reach", "casts",
)  # fmt: skip
"""Columns of template parts, in the actor's frame (x forward, y right, z up from the ground).

tint chooses whose colour: OWN (r, g, b), PAINT, DARK_PAINT or SKIN of the actor. glow always shines, lit only
with the lights on, brake only while braking. The lower and upper end of a moving wedge go to and fro by low_x and
high_x (m, sine of the actor's cycle + phase) and up and down by low_z and high_z (cosine). Parts farther from the
camera than reach (m) are left out; those within `casts` (m) throw a shadow."""

MATERIAL: Final = PART_FIELDS.index("material")

OWN: Final = 0.0
PAINT: Final = 1.0
DARK_PAINT: Final = 2.0
SKIN: Final = 3.0

Vector = tuple[float, float, float]
Part = tuple[float, ...]

PALETTE: Final = (
    (0.85, 0.12, 0.12), (0.16, 0.36, 0.85), (0.90, 0.90, 0.92), (0.14, 0.58, 0.34), (0.96, 0.58, 0.12),
    (0.58, 0.60, 0.63), (0.90, 0.82, 0.18), (0.60, 0.22, 0.68), (0.14, 0.66, 0.72),
)  # fmt: skip
"""Paint for cars and shirts."""

_SKINS: Final = ((0.90, 0.70, 0.57), (0.62, 0.42, 0.30), (0.82, 0.60, 0.46), (0.42, 0.28, 0.20))
_STRIDE: Final = 2.6  # radians of the walking cycle per metre
_PEDAL: Final = 1.3  # radians of the pedals per metre
_WALKING: Final = KIND_INDEX["pedestrian"]
_CYCLING: Final = KIND_INDEX["cyclist"]
_LYING_WALKER: Final = len(KINDS)
_LYING_CYCLIST: Final = len(KINDS) + 1


def part(
    semantic: SemanticClass, at: Vector, half: Vector, colour: Vector | float, *,
    shape: float = BOX, slope: Vector = (0.0, 0.0, 0.0), glow: float = 0.0, lit: float = 0.0, brake: float = 0.0,
    material: float = PLAIN, low: tuple[float, float] = (0.0, 0.0), high: tuple[float, float] = (0.0, 0.0),
    phase: float = 0.0, reach: float = 400.0, casts: float = 0.0,
) -> Part:  # fmt: skip
    """One template row; `slope` is (front, rear, side), `low` and `high` are (x, z) motions; a number as the colour is
    a tint."""
    tint, own = (OWN, colour) if isinstance(colour, tuple) else (colour, (0.0, 0.0, 0.0))
    return (
        *at, *half, shape, *slope, float(semantic), *own, tint, glow, lit, brake, material,
        low[0], high[0], low[1], high[1], phase, reach, casts,
    )  # fmt: skip


def strut(
    semantic: SemanticClass, low: tuple[float, float], high: tuple[float, float], y: float, thick: tuple[float, float],
    colour: Vector | float, *, low_goes: tuple[float, float] = (0.0, 0.0), high_goes: tuple[float, float] = (0.0, 0.0),
    phase: float = 0.0, taper: float = 0.0, reach: float = 400.0, casts: float = 0.0,
) -> Part:  # fmt: skip
    """A leaning post from (x, z) `low` to `high` at `y`: half sizes `thick` along x and y at its foot, `taper` narrower
    on every side at its top; limbs and bicycle tubes."""
    lean = high[0] - low[0]
    return part(
        semantic, (low[0], y, (low[1] + high[1]) / 2), (*thick, (high[1] - low[1]) / 2), colour, shape=WEDGE,
        slope=(taper - lean, taper + lean, taper), low=low_goes, high=high_goes, phase=phase, reach=reach, casts=casts,
    )  # fmt: skip


@kernel
def _cycle(kind: int, x: float, y: float, cos: float, sin: float, speed: float) -> tuple[float, float]:
    """Angle of an actor's walking or pedalling cycle, and how far its limbs go (1 = a stroll)."""
    along = x * cos + y * sin
    if kind == _CYCLING:
        return _PEDAL * along, 1.0
    return _STRIDE * along, min(1.35, speed / 1.1)


@kernel
def _tinted(template: NDArray[np.float64], paint: NDArray[np.float64], actor: int, channel: int) -> float:
    """Albedo of one channel of a template part worn by `actor`."""
    tint = template[14]
    if tint == PAINT:
        return float(paint[channel])
    if tint == DARK_PAINT:
        return float(0.05 + 0.22 * paint[2 - channel])
    if tint == SKIN:
        return _SKINS[actor % 4][channel]
    return float(template[11 + channel])


@kernel
def pose_parts(
    actors: NDArray[np.float32], paint: NDArray[np.float64], eye_x: float, eye_y: float, lamp: float,
    templates: NDArray[np.float64], starts: NDArray[np.int64],
    parts: NDArray[np.float32], tags: NDArray[np.int32], casters: NDArray[np.int32], count: int,
) -> tuple[int, int]:  # fmt: skip
    """Append the parts of every actor to `parts` (columns PART_FIELDS) and `tags` (instance, class) from row `count`.

    `actors` (A, 14) as schema.ACTOR_FIELDS, `paint` (A, 3), `lamp` scales lights; `templates` and `starts` as
    templates.TEMPLATES and STARTS. Rows of parts that throw a shadow go to `casters`. Returns the new count and the
    number of casters; the caller makes room for all."""
    cast = 0
    for a in range(actors.shape[0]):
        x, y, z, yaw, kind = actors[a, 2], actors[a, 3], actors[a, 4], actors[a, 5], int(actors[a, 1])
        away = math.hypot(x - eye_x, y - eye_y)
        cos, sin = math.cos(yaw), math.sin(yaw)
        angle, gait = _cycle(kind, x, y, cos, sin, math.hypot(actors[a, 6], actors[a, 7]))
        lit, brake = actors[a, 11] * lamp, actors[a, 13] * (0.6 + 0.4 * lamp)
        if actors[a, 12] > 0.0 and kind == _WALKING:
            kind = _LYING_WALKER
        elif actors[a, 12] > 0.0 and kind == _CYCLING:
            kind = _LYING_CYCLIST
        for i in range(starts[kind], starts[kind + 1]):
            row = templates[i]
            if away > row[24]:
                continue
            to, up = gait * math.sin(angle + row[23]), gait * math.cos(angle + row[23])
            foot, head = row[2] - row[5] + row[21] * up, row[2] + row[5] + row[22] * up
            lean = (row[20] - row[19]) * to
            lx, ly = row[0] + row[19] * to, row[1]
            parts[count, 0], parts[count, 1] = x + lx * cos - ly * sin, y + lx * sin + ly * cos
            parts[count, 2], parts[count, 5] = z + (foot + head) / 2, max(0.01, (head - foot) / 2)
            parts[count, 3], parts[count, 4] = row[3], row[4]
            parts[count, 6], parts[count, 7], parts[count, 8] = cos, sin, row[6]
            parts[count, 9], parts[count, 10], parts[count, 11] = row[7] - lean, row[8] + lean, row[9]
            for channel in range(3):
                parts[count, 12 + channel] = _tinted(row, paint[a], int(actors[a, 0]), channel)
            parts[count, 15] = row[15] + row[16] * lit + row[17] * brake
            parts[count, 16] = row[18]
            tags[count, 0], tags[count, 1] = int(actors[a, 0]), int(row[10])
            if away < row[25]:
                casters[cast] = count
                cast += 1
            count += 1
    return count, cast
