"""Models of five cars, a fire truck and an ambulance, and the positions of their lamps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from semore.collect.embedded.render.shapes import (
    BODY,
    CHECKS,
    GLASS,
    GLAZED,
    PAINT,
    SHUTTER,
    TUBE,
    WEDGE,
    WHEEL,
    Part,
    Vector,
    part,
)  # fmt: skip
from semore.datasets.rollouts.schema import Kind

_DARK: Final = (0.05, 0.05, 0.055)
_TYRE: Final = (0.04, 0.04, 0.045)
_CHROME: Final = (0.62, 0.63, 0.66)
_LAMP: Final = (0.98, 0.96, 0.88)
_RED: Final = (0.72, 0.045, 0.04)
_BLUE: Final = (0.10, 0.22, 0.95)
_WHITE: Final = (0.92, 0.92, 0.92)
_FIRE: Final = (0.80, 0.06, 0.04)
_LIME: Final = (0.80, 0.92, 0.12)
_STEEL: Final = (0.44, 0.46, 0.49)

_WHEELS: Final = 70.0  # m: reach of wheels
_FINE: Final = 26.0  # m: reach of plates, mirrors, grilles
_LAMPS: Final = 160.0  # m: reach of lamps
_SHADE: Final = 60.0  # m: vehicles within it throw a shadow
AXLE: Final = 0.62
"""Where a car's axles sit, as a share of half its length; its wheel arches are drawn there too."""


@dataclass(frozen=True)
class Outline:
    """A car's side view, m: height of the floor, of the bonnet's front edge and of the waistline; length of bonnet and
    boot lid; how far the windscreen and the rear window lean, how far the sides do; wheel radius."""

    floor: float
    nose: float
    waist: float
    bonnet: float
    boot: float
    screen: float
    back: float
    sides: float
    wheel: float = 0.34


def wheels(kind: Kind, radius: float, axles: tuple[float, ...]) -> list[Part]:
    """A tyre with a hub on both ends of every axle."""
    side = kind.width / 2 - 0.10
    return [
        part(kind.semantic, (x, y, radius), (radius, 0.115, radius), _TYRE, shape=TUBE, material=WHEEL, reach=_WHEELS)
        for x in axles
        for y in (-side, side)
    ]


def lamps(kind: Kind, front: float, rear: float, inset: float, size: Vector) -> list[Part]:
    """Head and tail lamps at both ends, `inset` m from the sides; half sizes `size`."""
    rows = []
    for y in (-kind.width / 2 + inset, kind.width / 2 - inset):
        ahead, behind = (kind.length / 2, y, front), (-kind.length / 2, y, rear)
        rows.append(part(kind.semantic, ahead, size, _LAMP, lit=3.0, glow=0.12, reach=_LAMPS))
        rows.append(part(kind.semantic, behind, size, _RED, lit=0.5, glow=0.10, brake=4.5, reach=_LAMPS))
    return rows


def car(kind: Kind, shape: Outline, lower: Vector | float, roof: Vector | float, lamp: Vector) -> list[Part]:
    """A car from its outline: body, sloped bonnet and boot, glazed cabin, wheels, lamps, bumpers, plate, mirrors."""
    what, length, width, height = kind.semantic, kind.length / 2, kind.width / 2, kind.height
    base = length - shape.bonnet  # foot of the windscreen
    rear = -length + shape.boot
    middle, half = (base + rear) / 2, (base - rear) / 2
    low, high = (shape.floor + shape.nose) / 2, (shape.nose + shape.waist) / 2
    cabin = (height - shape.waist) / 2
    return [
        part(what, (0, 0, low), (length, width, (shape.nose - shape.floor) / 2), lower, shape=WEDGE,
             slope=(0.05, 0.04, 0.0), material=BODY, casts=_SHADE),
        part(what, (0, 0, high), (length - 0.05, width, (shape.waist - shape.nose) / 2), lower, shape=WEDGE,
             slope=(shape.bonnet - 0.1, max(0.06, 0.5 * shape.boot), 0.07), material=BODY),
        part(what, (middle, 0, shape.waist + cabin), (half, width - 0.09, cabin), roof, shape=WEDGE,
             slope=(shape.screen, shape.back, shape.sides), material=GLAZED, casts=_SHADE),
        part(what, (-length, 0, shape.floor + 0.14), (0.05, width * 0.86, 0.08), _DARK, reach=60.0),
        part(what, (length, 0, shape.floor + 0.12), (0.05, width * 0.86, 0.08), _DARK, reach=60.0),
        part(what, (-length - 0.02, 0, shape.nose - 0.10), (0.03, 0.26, 0.06), _WHITE, reach=_FINE),
        part(what, (length + 0.01, 0, shape.floor + 0.20), (0.05, 0.26, 0.055), _WHITE, reach=_FINE),
        part(what, (length - 0.01, 0, shape.nose - 0.09), (0.05, width * 0.45, 0.06), _DARK, reach=40.0),
        part(what, (rear + shape.back * 0.25, 0, shape.waist + 0.03), (0.06, 0.22, 0.025), _RED, brake=4.5, reach=60.0),
        *(
            part(what, (base - 0.35, side * (width + 0.06), shape.waist + 0.06), (0.06, 0.09, 0.06), lower, reach=_FINE)
            for side in (-1, 1)
        ),
        *wheels(kind, shape.wheel, (-length * AXLE, length * AXLE)),
        *lamps(kind, shape.nose - 0.06, shape.waist - 0.13, lamp[1] + 0.08, lamp),
    ]  # fmt: skip


def sedan(kind: Kind) -> list[Part]:
    return car(kind, Outline(0.20, 0.66, 0.88, 1.25, 0.62, 0.85, 0.80, 0.20), PAINT, PAINT, (0.05, 0.19, 0.08))


def sports_car(kind: Kind) -> list[Part]:
    """Low, a short cabin far back, and a wing."""
    length, width = kind.length / 2, kind.width / 2
    rows = car(kind, Outline(0.16, 0.60, 0.82, 1.55, 0.35, 0.75, 1.05, 0.24), PAINT, PAINT, (0.05, 0.20, 0.065))
    wing = [part(kind.semantic, (-length + 0.16, 0, 1.10), (0.17, width * 0.92, 0.03), _DARK, casts=_SHADE)]
    wing += [
        part(kind.semantic, (-length + 0.20, y, 0.96), (0.06, 0.03, 0.13), _DARK, reach=60.0) for y in (-0.55, 0.55)
    ]
    return rows + wing


def muscle_car(kind: Kind) -> list[Part]:
    """A long bonnet with a scoop, a black roof, two white stripes from end to end, lamps right across the tail."""
    length = kind.length / 2
    rows = car(kind, Outline(0.20, 0.72, 0.92, 1.75, 0.75, 0.70, 0.65, 0.19), PAINT, _DARK, (0.05, 0.22, 0.07))
    for y in (-0.24, 0.24):
        rows += [
            part(kind.semantic, (0, y, 0.83), (length - 0.04, 0.11, 0.105), _WHITE, shape=WEDGE,
                 slope=(1.64, 0.37, 0.0), reach=80.0),
            part(kind.semantic, (-length - 0.01, y, 0.60), (0.05, 0.11, 0.11), _WHITE, reach=40.0),
        ]  # fmt: skip
    rows.append(
        part(kind.semantic, (length - 0.95, 0, 0.88), (0.35, 0.12, 0.09), _DARK, shape=WEDGE, slope=(0.1, 0.5, 0.0))
    )
    rows.append(part(kind.semantic, (-length, 0, 0.79), (0.045, 0.46, 0.07), _RED, lit=0.5, glow=0.1, brake=4.0))
    return rows


def electric_suv(kind: Kind) -> list[Part]:
    """Tall and long-roofed with an upright tail, roof rails and a light strip."""
    length, width = kind.length / 2, kind.width / 2
    shape = Outline(0.28, 0.86, 1.06, 1.15, 0.14, 0.70, 0.36, 0.16, wheel=0.39)
    rows = car(kind, shape, PAINT, PAINT, (0.05, 0.22, 0.06))
    rows += [part(kind.semantic, (-0.55, y, 1.65), (1.15, 0.03, 0.035), _CHROME, reach=60.0) for y in (-0.66, 0.66)]
    rows.append(
        part(kind.semantic, (-length - 0.01, 0, 0.98), (0.03, width * 0.9, 0.035), _RED, lit=0.5, glow=0.15, brake=4.5)
    )
    rows.append(part(kind.semantic, (0, 0, 0.36), (length + 0.01, width + 0.012, 0.08), _DARK))
    return rows


def _beacons(kind: Kind, x: float, y: float, z: float, half: Vector) -> list[Part]:
    """A light bar: red on the left, blue on the right."""
    return [
        part(kind.semantic, (x, -y, z), half, _RED, glow=1.0, lit=2.0),
        part(kind.semantic, (x, y, z), half, _BLUE, glow=1.0, lit=2.0),
    ]


def police_car(kind: Kind) -> list[Part]:
    """Black and white with a light bar, whatever paint it was given."""
    width = kind.width / 2
    black = (0.05, 0.055, 0.07)
    rows = car(kind, Outline(0.20, 0.70, 0.92, 1.45, 0.85, 0.75, 0.70, 0.18), black, _WHITE, (0.05, 0.20, 0.075))
    return [
        *rows,
        part(kind.semantic, (-0.15, 0, 0.57), (0.98, width + 0.012, 0.28), _WHITE),
        part(kind.semantic, (-0.2, 0, kind.height + 0.03), (0.16, 0.66, 0.03), _DARK),
        *_beacons(kind, -0.2, 0.36, kind.height + 0.11, (0.15, 0.29, 0.07)),
        part(kind.semantic, (kind.length / 2 + 0.06, 0, 0.52), (0.05, 0.42, 0.20), _DARK, reach=50.0),
        part(kind.semantic, (-kind.length / 2 + 0.45, 0, 0.86), (0.32, width * 0.7, 0.085), _WHITE, reach=80.0),
    ]


def fire_truck(kind: Kind) -> list[Part]:
    """A red cab with a big windscreen, a body with steel shutters and a lime-and-white belt, a ladder on top."""
    what, length, width = kind.semantic, kind.length / 2, kind.width / 2
    cab = length - 1.05
    rows = [
        part(what, (cab, 0, 1.05), (1.05, width, 0.60), _FIRE, casts=_SHADE),
        part(what, (cab, 0, 2.15), (1.05, width, 0.52), _FIRE, shape=WEDGE, slope=(0.22, 0.0, 0.06), material=GLAZED,
             casts=_SHADE),
        part(what, (cab - 0.05, 0, 2.73), (0.80, width - 0.06, 0.06), _WHITE),
        part(what, (-1.08, 0, 1.72), (length - 1.08, width, 1.12), _FIRE, casts=_SHADE),
        part(what, (-1.08, 0, 0.82), (length - 1.08, width + 0.015, 0.16), _LIME, material=CHECKS),
        part(what, (-1.08, 0, 2.62), (length - 1.12, width + 0.015, 0.06), _WHITE),
        *(part(what, (x, 0, 1.78), (0.62, width + 0.012, 0.62), _STEEL, material=SHUTTER) for x in (-3.1, -1.5, 0.1)),
        part(what, (-length, 0, 1.75), (0.03, width * 0.62, 0.72), _STEEL, material=SHUTTER),
        part(what, (-length, 0, 0.86), (0.04, width * 0.98, 0.20), _LIME, material=CHECKS),
        part(what, (length - 0.01, 0, 1.28), (0.05, width * 0.96, 0.10), _WHITE),
        part(what, (length, 0, 1.02), (0.05, width * 0.45, 0.16), _DARK, reach=80.0),
        part(what, (length, 0, 0.56), (0.16, width, 0.17), _CHROME),
        part(what, (-length, 0, 0.52), (0.06, width, 0.10), _DARK),
        *(part(what, (-0.7, y, 3.0), (length - 0.9, 0.05, 0.07), _CHROME) for y in (-0.38, 0.38)),
        *(part(what, (x, 0, 3.0), (0.05, 0.40, 0.04), _CHROME, reach=45.0) for x in (-3.6, -2.6, -1.6, -0.6, 0.4, 1.4)),
        *_beacons(kind, cab + 0.35, 0.60, 2.90, (0.20, 0.50, 0.12)),
        *wheels(kind, 0.52, (-length + 1.9, length - 1.25)),
        *lamps(kind, 0.92, 1.16, 0.34, (0.06, 0.24, 0.13)),
        *(part(what, (length - 0.25, side * (width + 0.12), 2.05), (0.06, 0.10, 0.26), _DARK, reach=60.0)
          for side in (-1, 1)),
    ]  # fmt: skip
    return rows


def ambulance(kind: Kind) -> list[Part]:
    """A van: short bonnet, sloped windscreen, a white box with a red belt, crosses and a light bar."""
    what, length, width = kind.semantic, kind.length / 2, kind.width / 2
    box, front = -0.95, length - 1.90  # middle of the box; its front end
    rows = [
        part(what, (box, 0, 1.36), (front - box, width, 1.00), _WHITE, casts=_SHADE),
        part(what, (box, 0, 1.18), (front - box + 0.012, width + 0.012, 0.15), _RED, material=CHECKS),
        part(what, (box, 0, 0.50), (front - box + 0.01, width + 0.01, 0.10), _STEEL),
        part(what, (length - 0.95, 0, 0.80), (0.95, width * 0.93, 0.45), _WHITE, shape=WEDGE,
             slope=(0.06, 0.0, 0.0), casts=_SHADE),
        part(what, (length - 1.18, 0, 1.32), (1.08, width * 0.92, 0.16), _WHITE, shape=WEDGE, slope=(0.55, 0.0, 0.03)),
        part(what, (length - 1.45, 0, 1.80), (0.80, width * 0.89, 0.34), _WHITE, shape=WEDGE,
             slope=(0.52, 0.0, 0.12), material=GLAZED, casts=_SHADE),
        part(what, (length - 0.02, 0, 0.98), (0.06, width * 0.92, 0.07), _RED),
        part(what, (length - 0.01, 0, 0.74), (0.05, width * 0.5, 0.12), _DARK, reach=60.0),
        part(what, (length, 0, 0.46), (0.08, width * 0.93, 0.10), _DARK),
        part(what, (-length - 0.01, 0, 0.48), (0.08, width, 0.09), _DARK),
        *(part(what, (-length - 0.005, y, 1.86), (0.03, 0.36, 0.28), _DARK, material=GLASS) for y in (-0.48, 0.48)),
        part(what, (-length - 0.02, 0, 1.40), (0.03, 0.02, 0.92), _STEEL, reach=_FINE),
        *_cross(kind, box, 1.78),
        part(what, (-length + 0.3, 0, 2.42), (0.10, 0.75, 0.06), _DARK, reach=60.0),
        *_beacons(kind, front + 0.12, 0.50, 2.42, (0.16, 0.46, 0.10)),
        *wheels(kind, 0.40, (-length * 0.58, length * AXLE)),
        *lamps(kind, 0.84, 0.86, 0.26, (0.05, 0.20, 0.12)),
        *(part(what, (length - 1.15, side * (width + 0.05), 1.45), (0.06, 0.10, 0.17), _DARK, reach=40.0)
          for side in (-1, 1)),
    ]  # fmt: skip
    return rows


def _cross(kind: Kind, x: float, z: float) -> list[Part]:
    """A red cross on both flanks, two bars each as wide as the vehicle."""
    width = kind.width / 2 + 0.014
    return [
        part(kind.semantic, (x, 0, z), (0.36, width, 0.11), _RED, reach=90.0),
        part(kind.semantic, (x, 0, z), (0.11, width, 0.36), _RED, reach=90.0),
    ]


LAMP_HEIGHTS: Final = {
    "sedan": (0.60, 0.75), "sports car": (0.54, 0.69), "police car": (0.64, 0.79), "muscle car": (0.66, 0.79),
    "electric SUV": (0.80, 0.93), "fire truck": (0.92, 1.16), "ambulance": (0.84, 0.86), "cyclist": (0.9, 0.66),
    "pedestrian": (1.0, 1.0),
}  # fmt: skip
"""Height of head and tail lamps over the ground, m."""
