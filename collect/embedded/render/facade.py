"""House walls: storeys of framed windows, some of them lit at night, doors, shop fronts, and a cornice."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.embedded.jit import kernel
from semore.collect.embedded.render.ray_intersect import Eye
from semore.collect.embedded.render.scanline import BLUE, GREEN, PLAN_X, PLAN_Y, RED
from semore.collect.embedded.render.sky import Atmosphere, Colour
from semore.collect.embedded.render.surfaces import lamp_light
from semore.collect.embedded.render.texture import cell

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_STOREY: Final = 3.0  # m
_BAY: Final = 2.3  # m
_CORNICE: Final = 0.7  # m of wall above the top storey
_FRAME: Final = 0.09  # m
_WINDOW: Final = (0.62, 0.85, 2.35)  # half width, sill and lintel over the storey's floor, m
_DOOR: Final = (0.50, -1.0, 2.15)
_SHOP: Final = (0.55, 2.45)  # sill and lintel
_PAINTS: Final = ((0.30, 0.17, 0.09), (0.10, 0.22, 0.20))  # of doors
_LAMPLIGHT: Final = (0.95, 0.74, 0.38)


@kernel
def draw_wall(
    part: Singles, face: int, normal: Colour, light: Colour, air: Atmosphere, lights: Floats, mask: int, eye: Eye,
    slope: float, pixel: float, first: int, last: int, depths: Singles, line: Singles,
) -> None:  # fmt: skip
    """Colours of the pixels `first` ≤ u < `last` of a row that all see one upright face of a house.

    `light` falls on the face from sun and sky; the spot lights in `mask` are added. Edges are as soft as a pixel."""
    front = face < 2
    half = part[4] if front else part[3]
    ax, ay = (-part[7], part[6]) if front else (part[6], part[7])  # the wall's direction
    start = (eye.x - part[0]) * ax + (eye.y - part[1]) * ay + half
    rise, top = eye.z - part[2] + part[5], 2.0 * part[5]
    reach = abs((part[0] - eye.x) * normal[0] + (part[1] - eye.y) * normal[1]) - (part[3] if front else part[4])
    storeys, bays = max(1, int((top - _CORNICE) / _STOREY)), max(1, int(2.0 * half / _BAY))
    storey, bay = (top - _CORNICE) / storeys, 2.0 * half / bays
    per_storey, per_bay = 1.0 / storey, 1.0 / bay
    seed = int(abs(part[0]) * 3.0 + abs(part[1])) + face
    entrance, shop = seed % bays, seed % 3 != 0
    paint = _PAINTS[seed % 2]
    wall = (float(part[12]), float(part[13]), float(part[14]))
    night = max(0.0, air.lamp - 0.5) * 2.0
    for u in range(first, last):
        far = float(depths[u])
        px, py = line[PLAN_X + u], line[PLAN_Y + u]
        along, z = start + far * (px * ax + py * ay), rise + far * slope
        sharp = 1.0 / (far * pixel)
        aside = sharp * min(1.0, max(0.2, reach / far))
        i, j = min(bays - 1, max(0, int(along * per_bay))), min(storeys - 1, max(0, int(z * per_storey)))
        f, g = abs(along - (i + 0.5) * bay), z - j * storey
        wide, low, high = _WINDOW
        door = j == 0 and i == entrance
        if door:
            wide, low, high = _DOOR
        elif j == 0 and shop:
            wide, low, high = bay / 2 - 0.22, _SHOP[0], _SHOP[1]
        beside, within = (wide - f) * aside + 0.5, min(g - low, high - g) * sharp + 0.5
        inside = min(1.0, max(0.0, beside)) * min(1.0, max(0.0, within))
        tone, glow = 1.0, 0.0
        if z > top - _CORNICE:
            tone, inside = (1.12 if z > top - 0.35 else 0.80), 0.0
        elif g < 0.45:
            tone = 0.80 if j == 0 else (1.10 if g < 0.14 else 1.0)
        r, g_, b = wall[0] * tone, wall[1] * tone, wall[2] * tone
        if inside > 0.0:
            r, g_, b = r - r * inside, g_ - g_ * inside, b - b * inside
            if door:
                r, g_, b = r + paint[0] * inside, g_ + paint[1] * inside, b + paint[2] * inside
            else:
                edge = _FRAME * sharp
                pane = min(1.0, max(0.0, beside - _FRAME * aside)) * min(1.0, max(0.0, within - edge))
                pane *= 1.0 - 0.8 * min(1.0, max(0.0, (0.04 - f) * aside + 0.5))
                frame, pane = 0.80 * (inside - min(pane, inside)), min(pane, inside)
                chance = cell(seed + 29 * i, 53 * j + seed)
                mirror = 0.22 + 0.25 * chance
                clear = 1.0 - mirror
                gr = 0.10 * clear + air.zenith[0] * mirror
                gg = 0.13 * clear + air.zenith[1] * mirror
                gb = 0.17 * clear + air.zenith[2] * mirror
                if chance < 0.17 and night > 0.0:
                    gr, gg, gb = _LAMPLIGHT
                    glow = (1.1 if chance < 0.10 else 0.55) * night * pane
                r, g_, b = r + frame + gr * pane, g_ + frame + gg * pane, b + 0.95 * frame + gb * pane
        lamp = 0.0
        if mask:
            lamp = lamp_light(
                lights, mask, eye.x + far * px, eye.y + far * py, eye.z + far * slope, normal[0], normal[1], 0.0
            )
        lamp += glow
        line[RED + u] = r * (light[0] + lamp)
        line[GREEN + u] = g_ * (light[1] + 0.96 * lamp)
        line[BLUE + u] = b * (light[2] + 0.84 * lamp)
