"""Models of a pedestrian and a cyclist, upright and knocked down."""

from __future__ import annotations

import math
from typing import Final

from semore.collect.embedded.render.shapes import (
    DARK_PAINT,
    ELLIPSOID,
    HEAD,
    PAINT,
    SKIN,
    TUBE,
    WEDGE,
    Part,
    part,
    strut,
)  # fmt: skip
from semore.datasets.rollouts.schema import KIND_INDEX, KINDS, SemanticClass

_SHOE: Final = (0.07, 0.06, 0.06)
_TYRE: Final = (0.06, 0.06, 0.065)
_FRAME: Final = (0.82, 0.16, 0.10)
_HELMET: Final = (0.95, 0.86, 0.12)
_SHORTS: Final = (0.09, 0.10, 0.20)
_RED: Final = (0.85, 0.06, 0.05)
_FINE: Final = 32.0  # m: hands, shoes and bicycle tubes are drawn this near
_SHADE: Final = 45.0  # m: people within it throw a shadow

_WALKER: Final = KINDS[KIND_INDEX["pedestrian"]].semantic
_BIKE: Final = KINDS[KIND_INDEX["cyclist"]].semantic
_RIDER: Final = SemanticClass.RIDER


def pedestrian() -> list[Part]:
    """Legs and arms swing against each other; two struts each, so that knees and elbows bend."""
    rows: list[Part] = []
    for side, phase in ((-1, 0.0), (1, math.pi)):
        y, arm = side * 0.105, side * 0.275
        rows += [
            strut(_WALKER, (0.05, 0.48), (0.0, 0.94), y, (0.085, 0.085), DARK_PAINT, taper=-0.015,
                  low_goes=(0.20, 0.02), phase=phase, casts=_SHADE),
            strut(_WALKER, (0.0, 0.09), (0.05, 0.50), y, (0.065, 0.07), DARK_PAINT, taper=-0.015,
                  low_goes=(0.36, 0.05), high_goes=(0.20, 0.02), phase=phase, casts=_SHADE),
            part(_WALKER, (0.06, y, 0.05), (0.145, 0.065, 0.05), _SHOE, shape=WEDGE, slope=(0.10, 0.02, 0.02),
                 low=(0.36, 0.05), high=(0.36, 0.05), phase=phase, reach=_FINE),
            strut(_WALKER, (-0.02, 1.12), (0.0, 1.44), arm, (0.055, 0.055), PAINT, taper=-0.01,
                  low_goes=(-0.15, 0.0), phase=phase, casts=_SHADE),
            strut(_WALKER, (0.06, 0.84), (-0.02, 1.14), arm, (0.045, 0.045), SKIN,
                  low_goes=(-0.34, 0.03), high_goes=(-0.15, 0.0), phase=phase),
        ]  # fmt: skip
    return [
        *rows,
        part(_WALKER, (0, 0, 0.97), (0.115, 0.165, 0.07), DARK_PAINT),
        part(_WALKER, (0, 0, 1.24), (0.115, 0.165, 0.23), PAINT, shape=WEDGE, slope=(0.0, 0.0, -0.06), casts=_SHADE),
        part(_WALKER, (0, 0, 1.49), (0.06, 0.055, 0.05), SKIN, reach=_FINE),
        part(_WALKER, (0.01, 0, 1.64), (0.115, 0.10, 0.15), SKIN, shape=ELLIPSOID, material=HEAD, casts=_SHADE),
    ]


def lying_pedestrian() -> list[Part]:
    """Flat on the back, head forwards, limbs flung out."""
    return [
        part(_WALKER, (0.10, 0, 0.13), (0.30, 0.21, 0.12), PAINT, shape=WEDGE, slope=(0.08, 0.02, 0.06), casts=_SHADE),
        part(_WALKER, (-0.24, 0, 0.12), (0.10, 0.19, 0.11), DARK_PAINT),
        part(_WALKER, (-0.62, -0.17, 0.085), (0.36, 0.085, 0.085), DARK_PAINT, casts=_SHADE),
        part(_WALKER, (-0.48, 0.24, 0.085), (0.22, 0.085, 0.085), DARK_PAINT, casts=_SHADE),
        part(_WALKER, (-0.66, 0.42, 0.075), (0.075, 0.22, 0.075), DARK_PAINT),
        part(_WALKER, (-1.00, -0.18, 0.11), (0.06, 0.07, 0.11), _SHOE),
        part(_WALKER, (-0.68, 0.68, 0.09), (0.11, 0.06, 0.09), _SHOE),
        part(_WALKER, (0.30, -0.44, 0.06), (0.06, 0.26, 0.055), PAINT, casts=_SHADE),
        part(_WALKER, (0.32, -0.76, 0.05), (0.06, 0.10, 0.05), SKIN),
        part(_WALKER, (0.36, 0.34, 0.06), (0.07, 0.16, 0.055), PAINT),
        part(_WALKER, (0.60, 0.46, 0.05), (0.22, 0.055, 0.05), SKIN),
        part(_WALKER, (0.56, 0.0, 0.12), (0.16, 0.115, 0.11), SKIN, shape=ELLIPSOID, casts=_SHADE),
        part(_WALKER, (0.64, 0.0, 0.11), (0.13, 0.12, 0.10), (0.14, 0.09, 0.06), shape=ELLIPSOID),
    ]


def _wheel(x: float) -> Part:
    return part(
        _BIKE, (x, 0, 0.345), (0.345, 0.032, 0.345), _TYRE, shape=TUBE, slope=(0.275, 0.0, 0.0), casts=_SHADE
    )  # fmt: skip


def cyclist() -> list[Part]:
    """A bicycle with hollow wheels and a diamond frame; the rider's knees follow the pedals."""
    rows: list[Part] = [
        _wheel(-0.53), _wheel(0.53),
        strut(_BIKE, (0.0, 0.30), (0.40, 0.84), 0.0, (0.035, 0.025), _FRAME),
        strut(_BIKE, (0.0, 0.30), (-0.17, 0.92), 0.0, (0.030, 0.025), _FRAME),
        part(_BIKE, (0.11, 0, 0.82), (0.27, 0.022, 0.025), _FRAME),
        strut(_BIKE, (-0.53, 0.34), (-0.16, 0.80), 0.0, (0.022, 0.030), _FRAME, reach=_FINE),
        part(_BIKE, (-0.27, 0, 0.32), (0.27, 0.030, 0.018), _FRAME, reach=_FINE),
        strut(_BIKE, (0.53, 0.34), (0.38, 1.04), 0.0, (0.028, 0.032), _FRAME),
        part(_BIKE, (0.38, 0, 1.04), (0.03, 0.27, 0.022), _TYRE),
        part(_BIKE, (-0.20, 0, 0.94), (0.13, 0.07, 0.03), _TYRE, shape=WEDGE, slope=(0.08, 0.0, 0.03)),
        part(_BIKE, (-0.86, 0, 0.66), (0.03, 0.05, 0.05), _RED, glow=0.35, lit=1.0),
        part(_BIKE, (-0.62, 0, 0.66), (0.22, 0.035, 0.015), _TYRE, reach=_FINE),
    ]  # fmt: skip
    for y, phase in ((-0.115, 0.0), (0.115, math.pi)):
        rows += [
            strut(_RIDER, (0.0, 0.34), (0.20, 0.74), y, (0.06, 0.055), SKIN, taper=-0.02,
                  low_goes=(0.17, 0.17), high_goes=(0.07, 0.10), phase=phase, casts=_SHADE),
            strut(_RIDER, (0.17, 0.68), (-0.12, 1.00), y, (0.10, 0.08), _SHORTS, taper=-0.02,
                  low_goes=(0.07, 0.10), phase=phase, casts=_SHADE),
            part(_RIDER, (0.05, y, 0.30), (0.13, 0.05, 0.045), _SHOE, low=(0.17, 0.17), high=(0.17, 0.17),
                 phase=phase, reach=_FINE),
            strut(_RIDER, (0.38, 1.06), (0.12, 1.40), y * 2.0, (0.05, 0.045), PAINT, taper=-0.01, casts=_SHADE),
            part(_RIDER, (0.39, y * 2.1, 1.06), (0.045, 0.05, 0.04), SKIN, reach=_FINE),
        ]  # fmt: skip
    return [
        *rows,
        strut(_RIDER, (-0.17, 0.94), (0.12, 1.44), 0.0, (0.13, 0.17), PAINT, taper=-0.02, casts=_SHADE),
        part(_RIDER, (0.21, 0, 1.56), (0.11, 0.095, 0.13), SKIN, shape=ELLIPSOID, casts=_SHADE),
        part(_RIDER, (0.19, 0, 1.63), (0.15, 0.115, 0.10), _HELMET, shape=ELLIPSOID),
    ]


def lying_cyclist() -> list[Part]:
    """The bicycle on its side, the rider flat beside it."""
    flat, ring = (1.0, 0.03), (0.345, 0.345, 0.03)
    rows = [
        part(_BIKE, (x, 0.42, 0.06), ring, _TYRE, shape=TUBE, slope=(0.275, flat[0], 0.0), casts=_SHADE)
        for x in (-0.53, 0.53)
    ]
    rows += [
        part(_BIKE, (0.10, 0.42, 0.10), (0.42, 0.03, 0.03), _FRAME),
        part(_BIKE, (0.0, 0.18, 0.10), (0.28, 0.03, 0.03), _FRAME),
        part(_BIKE, (-0.16, 0.10, 0.10), (0.03, 0.36, 0.03), _FRAME),
        part(_BIKE, (0.40, -0.02, 0.16), (0.03, 0.40, 0.03), _FRAME),
        part(_BIKE, (0.40, -0.30, 0.20), (0.03, 0.03, 0.20), _TYRE),
        part(
            _RIDER, (0.10, -0.62, 0.14), (0.32, 0.20, 0.13), PAINT, shape=WEDGE, slope=(0.08, 0.02, 0.05), casts=_SHADE
        ),
        part(_RIDER, (-0.40, -0.74, 0.10), (0.26, 0.085, 0.09), _SHORTS, casts=_SHADE),
        part(_RIDER, (-0.36, -0.44, 0.10), (0.22, 0.085, 0.09), _SHORTS, casts=_SHADE),
        part(_RIDER, (-0.84, -0.76, 0.08), (0.22, 0.06, 0.07), SKIN),
        part(_RIDER, (-0.62, -0.28, 0.08), (0.09, 0.20, 0.07), SKIN),
        part(_RIDER, (0.44, -0.96, 0.06), (0.07, 0.24, 0.05), PAINT),
        part(_RIDER, (0.56, -0.30, 0.06), (0.22, 0.06, 0.05), SKIN),
        part(_RIDER, (0.56, -0.62, 0.12), (0.14, 0.11, 0.11), SKIN, shape=ELLIPSOID),
        part(_RIDER, (0.63, -0.62, 0.13), (0.13, 0.13, 0.12), _HELMET, shape=ELLIPSOID, casts=_SHADE),
    ]
    return rows
