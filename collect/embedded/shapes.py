"""What actors look like: a template of boxes and ellipsoids per kind, and the kernel that poses them for a picture."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from collect.embedded.jit import kernel
from datasets.schema import KIND_INDEX, KINDS, Kind, SemanticClass

BOX: Final = 0.0
ELLIPSOID: Final = 1.0

PART_FIELDS: Final = ("x", "y", "z", "hx", "hy", "hz", "cos", "sin", "shape", "r", "g", "b", "glow")
"""Columns of posed parts: centre, half sizes (m), heading, BOX or ELLIPSOID, albedo in [0, 1], emitted light."""

TEMPLATE_FIELDS: Final = (
    "x", "y", "z", "hx", "hy", "hz", "shape", "class", "r", "g", "b", "paint", "glow", "lit", "swing", "reach",
)  # fmt: skip
"""Columns of template parts, in the actor's frame (x forward, y right, z up from the ground). paint 1 takes the actor's
own colour; glow always shines, lit only with the lights on; swing (m) moves to and fro as its owner walks; parts
farther from the camera than reach (m) are left out."""

Vector = tuple[float, float, float]
Part = tuple[float, ...]

_GLASS: Final = (0.10, 0.13, 0.17)
_TYRE: Final = (0.045, 0.045, 0.05)
_CHROME: Final = (0.55, 0.56, 0.58)
_SKIN: Final = (0.86, 0.64, 0.52)
_LAMP: Final = (0.98, 0.96, 0.86)
_RED: Final = (0.80, 0.06, 0.05)
_BLUE: Final = (0.08, 0.18, 0.85)
_WHITE: Final = (0.90, 0.90, 0.90)
_STRIDE: Final = 2.6
"""Radians of the walking cycle per metre walked."""


def _part(
    semantic: SemanticClass, at: Vector, half: Vector, colour: Vector | None, *,
    shape: float = BOX, glow: float = 0.0, lit: float = 0.0, swing: float = 0.0, reach: float = 400.0,
) -> Part:  # fmt: skip
    """One template row; colour None = the actor's paint."""
    paint = 1.0 if colour is None else 0.0
    return (*at, *half, shape, float(semantic), *(colour or (0.0, 0.0, 0.0)), paint, glow, lit, swing, reach)


def _wheels(kind: Kind, radius: float, axles: tuple[float, ...]) -> list[Part]:
    side = kind.width / 2 - 0.10
    return [
        _part(kind.semantic, (x, y, radius), (radius, 0.11, radius), _TYRE, shape=ELLIPSOID, reach=70.0)
        for x in axles
        for y in (-side, side)
    ]


def _lamps(kind: Kind, height: float, inset: float) -> list[Part]:
    """Head and tail lights at both ends."""
    ends = []
    for y in (-kind.width / 2 + inset, kind.width / 2 - inset):
        front, rear = (kind.length / 2, y, height), (-kind.length / 2, y, height + 0.08)
        ends.append(_part(kind.semantic, front, (0.04, 0.17, 0.09), _LAMP, lit=3.0, glow=0.1, reach=150.0))
        ends.append(_part(kind.semantic, rear, (0.04, 0.16, 0.08), _RED, lit=0.9, glow=0.15, reach=150.0))
    return ends


def _car(kind: Kind, lower: Vector | None, cabin: tuple[float, float], roof: Vector | None) -> list[Part]:
    """A car: painted body, glazed cabin of length and offset `cabin`, roof, bumpers, wheels, lamps."""
    length, width, height = kind.length / 2, kind.width / 2, kind.height
    sill, waist = 0.22, 0.22 + 0.46 * height
    size, shift = cabin
    middle, half = (sill + waist) / 2, (waist - sill) / 2
    glass = (height - 0.08 - waist) / 2
    return [
        _part(kind.semantic, (0, 0, middle), (length, width, half), lower),
        _part(kind.semantic, (shift, 0, waist + glass), (size / 2, width * 0.86, glass), _GLASS),
        _part(kind.semantic, (shift, 0, height - 0.04), (size / 2 - 0.28, width * 0.80, 0.05), roof),
        _part(kind.semantic, (-length + 0.02, 0, sill + 0.12), (0.06, width * 0.9, 0.10), _TYRE, reach=60.0),
        _part(kind.semantic, (length - 0.02, 0, sill + 0.12), (0.06, width * 0.9, 0.10), _TYRE, reach=60.0),
        _part(kind.semantic, (-length, 0, middle), (0.03, 0.26, 0.06), _WHITE, reach=30.0),
        *_wheels(kind, 0.33, (-length * 0.62, length * 0.62)),
        *_lamps(kind, waist - 0.14, 0.26),
    ]


def _police(kind: Kind) -> list[Part]:
    length, width = kind.length / 2, kind.width / 2 + 0.01
    top = kind.height + 0.06
    return [
        *_car(kind, (0.06, 0.06, 0.08), (2.5, -0.25), _WHITE),
        _part(kind.semantic, (-0.1, 0, 0.58), (length * 0.36, width, 0.26), _WHITE),
        _part(kind.semantic, (-0.2, -0.32, top), (0.14, 0.30, 0.07), _RED, glow=0.5, lit=1.5),
        _part(kind.semantic, (-0.2, 0.32, top), (0.14, 0.30, 0.07), _BLUE, glow=0.5, lit=1.5),
    ]


def _fire_truck(kind: Kind) -> list[Part]:
    red, length, width = (0.74, 0.05, 0.04), kind.length / 2, kind.width / 2
    cab = length - 1.0
    return [
        _part(kind.semantic, (cab, 0, 1.55), (1.0, width, 1.15), red),
        _part(kind.semantic, (length - 0.02, 0, 2.05), (0.05, width * 0.9, 0.42), _GLASS),
        _part(kind.semantic, (cab + 0.2, 0, 2.05), (0.55, width + 0.01, 0.36), _GLASS),
        _part(kind.semantic, (-1.05, 0, 1.62), (length - 1.1, width, 1.22), red),
        _part(kind.semantic, (-1.05, 0, 1.25), (length - 1.1, width + 0.02, 0.14), _WHITE),
        _part(kind.semantic, (-length - 0.01, 0, 1.5), (0.04, width * 0.75, 0.75), _CHROME, reach=120.0),
        _part(kind.semantic, (length - 0.01, 0, 1.15), (0.05, width * 0.95, 0.14), _WHITE),
        _part(kind.semantic, (length, 0, 0.60), (0.14, width, 0.18), _CHROME),
        _part(kind.semantic, (-0.8, 0, 2.95), (length - 1.4, 0.35, 0.10), _CHROME, reach=120.0),
        _part(kind.semantic, (cab, -0.55, 2.80), (0.20, 0.45, 0.12), _RED, glow=0.5, lit=1.5),
        _part(kind.semantic, (cab, 0.55, 2.80), (0.20, 0.45, 0.12), _BLUE, glow=0.5, lit=1.5),
        *_wheels(kind, 0.52, (-length + 1.2, -length + 2.4, length - 1.3)),
        *_lamps(kind, 0.92, 0.36),
    ]


def _ambulance(kind: Kind) -> list[Part]:
    length, width = kind.length / 2, kind.width / 2
    return [
        _part(kind.semantic, (-0.75, 0, 1.36), (length - 0.80, width, 1.02), _WHITE),
        _part(kind.semantic, (-0.75, 0, 1.10), (length - 0.78, width + 0.02, 0.13), _RED),
        _part(kind.semantic, (-length - 0.01, 0, 1.55), (0.03, 0.10, 0.34), _RED),
        _part(kind.semantic, (-length - 0.01, 0, 1.55), (0.03, 0.34, 0.10), _RED),
        _part(kind.semantic, (length - 0.80, 0, 0.80), (0.80, width * 0.92, 0.42), _WHITE),
        _part(kind.semantic, (length - 1.15, 0, 1.58), (0.42, width * 0.86, 0.38), _GLASS),
        _part(kind.semantic, (length - 0.02, 0, 0.98), (0.05, width * 0.90, 0.08), _RED),
        _part(kind.semantic, (length - 1.7, -0.5, 2.42), (0.16, 0.40, 0.09), _RED, glow=0.5, lit=1.5),
        _part(kind.semantic, (length - 1.7, 0.5, 2.42), (0.16, 0.40, 0.09), _BLUE, glow=0.5, lit=1.5),
        *_wheels(kind, 0.38, (-length * 0.60, length * 0.62)),
        *_lamps(kind, 0.78, 0.30),
    ]


def _cyclist(kind: Kind) -> list[Part]:
    bike, rider = kind.semantic, SemanticClass.RIDER
    frame = (0.75, 0.12, 0.08)
    wheel = (0.33, 0.035, 0.33)
    return [
        _part(bike, (-0.52, 0, 0.34), wheel, _TYRE, shape=ELLIPSOID),
        _part(bike, (0.52, 0, 0.34), wheel, _TYRE, shape=ELLIPSOID),
        _part(bike, (0.0, 0, 0.62), (0.48, 0.035, 0.05), frame),
        _part(bike, (-0.20, 0, 0.50), (0.04, 0.03, 0.30), frame),
        _part(bike, (0.45, 0, 0.78), (0.04, 0.03, 0.26), frame),
        _part(bike, (0.45, 0, 1.02), (0.04, 0.28, 0.035), _TYRE),
        _part(bike, (-0.80, 0, 0.62), (0.03, 0.06, 0.05), _RED, glow=0.3, lit=1.0),
        _part(rider, (-0.05, -0.13, 0.62), (0.09, 0.07, 0.34), (0.10, 0.11, 0.20), swing=0.10),
        _part(rider, (-0.05, 0.13, 0.62), (0.09, 0.07, 0.34), (0.10, 0.11, 0.20), swing=-0.10),
        _part(rider, (-0.12, 0, 1.18), (0.18, 0.21, 0.30), None),
        _part(rider, (0.20, -0.22, 1.20), (0.24, 0.05, 0.06), None),
        _part(rider, (0.20, 0.22, 1.20), (0.24, 0.05, 0.06), None),
        _part(rider, (0.0, 0, 1.60), (0.11, 0.10, 0.14), _SKIN, shape=ELLIPSOID),
        _part(rider, (-0.02, 0, 1.68), (0.14, 0.12, 0.10), (0.90, 0.85, 0.20), shape=ELLIPSOID),
    ]


def _pedestrian(kind: Kind) -> list[Part]:
    walker, trousers, shoe = kind.semantic, (0.16, 0.19, 0.42), (0.06, 0.05, 0.05)
    parts = []
    for side, swing in ((-1, 0.24), (1, -0.24)):
        parts += [
            _part(walker, (0, side * 0.11, 0.50), (0.09, 0.085, 0.42), trousers, swing=swing * 0.6),
            _part(walker, (0.05, side * 0.11, 0.05), (0.14, 0.07, 0.06), shoe, swing=swing, reach=60.0),
            _part(walker, (0, side * 0.28, 1.16), (0.075, 0.06, 0.24), None, swing=-swing * 0.8),
            _part(walker, (0.02, side * 0.28, 0.86), (0.065, 0.055, 0.10), _SKIN, swing=-swing, reach=60.0),
        ]
    return [
        *parts,
        _part(walker, (0, 0, 1.18), (0.14, 0.22, 0.30), None),
        _part(walker, (0, 0, 1.62), (0.13, 0.12, 0.16), _SKIN, shape=ELLIPSOID),
        _part(walker, (-0.02, 0, 1.70), (0.14, 0.13, 0.10), (0.16, 0.10, 0.06), shape=ELLIPSOID),
    ]


def _templates() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    builders = {
        "sedan": lambda kind: _car(kind, None, (2.6, -0.25), None),
        "sports car": lambda kind: _car(kind, None, (1.9, -0.45), None),
        "police car": _police,
        "muscle car": lambda kind: _car(kind, None, (2.3, -0.55), (0.07, 0.07, 0.08)),
        "electric SUV": lambda kind: _car(kind, None, (3.3, -0.40), None),
        "fire truck": _fire_truck,
        "ambulance": _ambulance,
        "cyclist": _cyclist,
        "pedestrian": _pedestrian,
    }
    rows: list[Part] = []
    starts = [0]
    for kind in KINDS:
        rows += builders[kind.name](kind)
        starts.append(len(rows))
    return np.array(rows, np.float64), np.array(starts, np.int64)


TEMPLATES, STARTS = _templates()
"""Template rows (n, 16) of all kinds; kind k owns rows STARTS[k] to STARTS[k + 1]. Never written to."""

PALETTE: Final = (
    (0.85, 0.12, 0.12), (0.16, 0.36, 0.85), (0.90, 0.90, 0.92), (0.14, 0.58, 0.34), (0.96, 0.58, 0.12),
    (0.58, 0.60, 0.63), (0.90, 0.82, 0.18), (0.60, 0.22, 0.68), (0.14, 0.66, 0.72),
)  # fmt: skip
"""Paint for cars and shirts."""

_WALKING: Final = KIND_INDEX["pedestrian"]
_CYCLING: Final = KIND_INDEX["cyclist"]


@kernel
def pose_parts(
    actors: NDArray[np.float32], paint: NDArray[np.float64], eye_x: float, eye_y: float, lamp: float,
    templates: NDArray[np.float64], starts: NDArray[np.int64],
    parts: NDArray[np.float32], tags: NDArray[np.int32], count: int,
) -> int:  # fmt: skip
    """Append the parts of every actor to `parts` (columns PART_FIELDS) and `tags` (instance, class) from row `count`.

    `actors` (A, 14) as schema.ACTOR_FIELDS, `paint` (A, 3), `lamp` scales lights. Returns the new count; the caller
    makes room for all. Someone knocked down lies: a pedestrian along its heading, a bicycle on its side."""
    for a in range(actors.shape[0]):
        x, y, z, yaw, kind = actors[a, 2], actors[a, 3], actors[a, 4], actors[a, 5], int(actors[a, 1])
        away = math.hypot(x - eye_x, y - eye_y)
        cos, sin = math.cos(yaw), math.sin(yaw)
        cycle = math.sin(_STRIDE * (x * cos + y * sin))
        lit, down = actors[a, 11] * lamp, actors[a, 12] > 0.0
        for i in range(starts[kind], starts[kind + 1]):
            if away > templates[i, 15]:
                continue
            lx, ly, lz = templates[i, 0] + templates[i, 14] * cycle, templates[i, 1], templates[i, 2]
            hx, hy, hz = templates[i, 3], templates[i, 4], templates[i, 5]
            if down and kind == _WALKING:
                lx, lz, hx, hz = lz - 0.9, lx + 0.2, hz, hx
            elif down and kind == _CYCLING:
                ly, lz, hy, hz = lz - 0.6, ly + 0.3, hz, hy
            parts[count, 0] = x + lx * cos - ly * sin
            parts[count, 1] = y + lx * sin + ly * cos
            parts[count, 2] = z + lz
            parts[count, 3], parts[count, 4], parts[count, 5] = hx, hy, hz
            parts[count, 6], parts[count, 7], parts[count, 8] = cos, sin, templates[i, 6]
            for channel in range(3):
                own = templates[i, 11] > 0.0
                parts[count, 9 + channel] = paint[a, channel] if own else templates[i, 8 + channel]
            parts[count, 12] = templates[i, 12] + templates[i, 13] * lit
            tags[count, 0] = int(actors[a, 0])
            tags[count, 1] = int(templates[i, 7])
            count += 1
    return count
