"""Effects drawn over the finished picture: glare of lamps, spray behind vehicles, and falling rain."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.embedded.jit import kernel
from semore.collect.embedded.render.ray_intersect import Eye
from semore.collect.embedded.render.sky import Colour
from semore.collect.embedded.render.texture import Singles, hash_cell

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]

GLARE_FIELDS: Final = ("x", "y", "z", "dx", "dy", "power", "actor", "r", "g", "b", "spread")
"""Columns of glares: the lamp's place (m), plan direction it shines in (0, 0: all around), power (1 dazzles), whose
lamp it is, colour, size of the halo relative to a headlamp's."""

MIST_FIELDS: Final = ("x", "y", "z", "radius", "strength")
"""Columns of mists: a ball of spray, m; the share of the light it takes at its middle."""

_WHITE: Final = np.float32(255.0)
_F0: Final = np.float32(0.0)
_F1: Final = np.float32(1.0)
_REACH: Final = 9.0  # spreads: a halo is cut off this far from its lamp
_RIM: Final = np.float32(1.0 / (1.0 + _REACH * _REACH) ** 2)
_WIDE: Final = np.float32(0.07)  # how much slower the veil around a halo falls off
_VEIL_RIM: Final = np.float32(1.0 / (1.0 + 0.07 * _REACH * _REACH) ** 2)
_LAYERS: Final = ((30.0, 1.3, 0.24, 0.0034), (20.0, 0.9, 0.34, 0.0046), (11.0, 0.6, 0.30, 0.0070))
"""Of the rain: columns across the picture, streaks down it, opacity, width as a share of the picture."""
_SLANT: Final = 0.16
_LENGTH: Final = 0.5  # of the way from one drop to the next
_FALL: Final = 0.31  # pictures per tick that the nearest rain falls


@kernel
def _unhidden(
    u: float, v: float, ahead: float, radius: float, actor: int, depth: Singles, ids: NDArray[np.uint16]
) -> float:
    """Share of a lamp's disc (pixels) with nothing in front; its own vehicle does not hide it."""
    size = depth.shape[0]
    seen = 0
    for i in range(-1, 2):
        for j in range(-1, 2):
            p = min(size - 1, max(0, int(u + i * radius)))
            q = min(size - 1, max(0, int(v + j * radius)))
            seen += 1 if depth[q, p] > ahead - 0.5 or ids[q, p] == actor else 0
    return seen / 9.0


@kernel
def add_glare(
    lamp: Floats, eye: Eye, extinction: float, depth: Singles, instance: NDArray[np.uint16], rgb: Bytes
) -> None:
    """Add the halo of one lamp (GLARE_FIELDS) that faces the camera, unless something hides it; haze swells it.

    `depth` is measured along the view direction here."""
    size = depth.shape[0]
    px, py, pz = lamp[0] - eye.x, lamp[1] - eye.y, lamp[2] - eye.z
    ahead, right = px * eye.cos + py * eye.sin, py * eye.cos - px * eye.sin
    if ahead < 0.5:
        return
    away = math.sqrt(px * px + py * py + pz * pz)
    around = lamp[3] == 0.0 and lamp[4] == 0.0
    facing = 1.0 if around else -(px * lamp[3] + py * lamp[4]) / away
    scale = size / 2 / (ahead * eye.tan)
    cu, cv = size / 2 + right * scale, size / 2 - pz * scale
    if facing <= 0.15 or cu < 0.0 or cv < 0.0 or cu >= size or cv >= size:
        return
    shown = _unhidden(cu, cv, ahead, 0.12 * scale, int(lamp[6]), depth, instance)
    murk = 1.0 - math.exp(-extinction * away)
    power = shown * lamp[5] * facing * facing * (1.0 - 0.75 * murk) * 90.0 / (90.0 + away)
    if power <= 0.004:
        return
    spread = np.float32(size * lamp[10] * (0.007 + 0.034 * 14.0 / (14.0 + away)) * (1.0 + 1.6 * murk))
    reach = int(_REACH * spread) + 1
    inverse = _F1 / (spread * spread)
    fr, fg, fb = (
        np.float32(255.0 * power * lamp[7]),
        np.float32(255.0 * power * lamp[8]),
        np.float32(255.0 * power * lamp[9]),
    )
    flare = np.float32(0.45 * (1.0 - murk))
    mu, mv = np.float32(cu - 0.5), np.float32(cv - 0.5)
    for v in range(max(0, int(cv) - reach), min(size, int(cv) + reach + 1)):
        dv = np.float32(v) - mv
        down = dv * dv * inverse
        line = rgb[v]
        for u in range(max(0, int(cu) - reach), min(size, int(cu) + reach + 1)):
            du = np.float32(u) - mu
            across = du * du * inverse
            round_ = across + down
            q, w = _F1 + round_, _F1 + _WIDE * round_
            streak = _F1 + np.float32(0.30) * across + np.float32(14.0) * down
            light = max(_F0, _F1 / (q * q) - _RIM) + np.float32(0.15) * max(_F0, _F1 / (w * w) - _VEIL_RIM)
            light += flare * max(_F0, _F1 / (streak * streak) - np.float32(0.005))
            line[u, 0] = np.uint8(min(_WHITE, np.float32(line[u, 0]) + fr * light))
            line[u, 1] = np.uint8(min(_WHITE, np.float32(line[u, 1]) + fg * light))
            line[u, 2] = np.uint8(min(_WHITE, np.float32(line[u, 2]) + fb * light))


@kernel
def add_mist(ball: Floats, eye: Eye, colour: Colour, depth: Singles, rgb: Bytes) -> None:
    """Veil what lies behind a ball of spray (MIST_FIELDS) with `colour`."""
    size = depth.shape[0]
    px, py = ball[0] - eye.x, ball[1] - eye.y
    ahead, right = px * eye.cos + py * eye.sin, py * eye.cos - px * eye.sin
    if ahead < 2.0:
        return
    scale = size / 2 / (ahead * eye.tan)
    cu, cv, radius = size / 2 + right * scale, size / 2 - (ball[2] - eye.z) * scale, ball[3] * scale
    for v in range(max(0, int(cv - radius)), min(size, int(cv + radius) + 1)):
        for u in range(max(0, int(cu - radius)), min(size, int(cu + radius) + 1)):
            inside = 1.0 - ((u + 0.5 - cu) ** 2 + (v + 0.5 - cv) ** 2) / (radius * radius)
            if inside > 0.0 and depth[v, u] > ahead - ball[3]:
                veil = ball[4] * inside
                for c in range(3):
                    rgb[v, u, c] = np.uint8(rgb[v, u, c] + veil * (255.0 * min(1.0, colour[c]) - rgb[v, u, c]))


@kernel
def add_rain(rain: float, tick: int, bright: float, rgb: Bytes) -> None:
    """Slanting streaks in three distances that fall with `tick`; the same at every picture size. `rain` in [0, 1] thins
    them out, `bright` in [0, 1] is their brightness."""
    size = rgb.shape[0]
    for layer in range(3):
        columns, rows, opacity, width = _LAYERS[layer]
        fall = tick * _FALL * (1.0 - 0.22 * (2 - layer)) * rows
        wide, share = max(0.55, width * size / 2), min(1.0, width * size)
        for k in range(int(columns * (1.0 + _SLANT)) + 1):
            offset = hash_cell(k, 17 * layer + 3) * 13.0 - fall
            for drop in range(math.floor(offset), math.floor(offset + rows) + 1):
                if hash_cell(k + 101 * layer, drop + 4096) > 0.62 * rain:
                    continue
                start = (k + 0.9 * hash_cell(k, drop + 9000)) / columns
                v0, v1 = (drop - offset) / rows * size, (drop + _LENGTH - offset) / rows * size
                for v in range(max(0, int(v0)), min(size, int(v1) + 1)):
                    y = (v + 0.5) / size
                    into = (y * rows + offset - drop) / _LENGTH
                    if into <= 0.0 or into >= 1.0:
                        continue
                    x = (start - _SLANT * y) * size
                    fade = opacity * share * min(1.0, 2.0 * into, 2.0 - 2.0 * into)
                    for u in range(max(0, int(x - wide)), min(size, int(x + wide) + 1)):
                        cover = fade * min(1.0, max(0.0, wide - abs(u + 0.5 - x) + 0.5))
                        for c in range(3):
                            rgb[v, u, c] = np.uint8(rgb[v, u, c] + cover * (255.0 * bright - rgb[v, u, c]))
