"""Light and air: CARLA's weather percentages as the ray-caster's parameters, and the kernel that draws the sky."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np

from semore.collect.embedded.jit import kernel
from semore.collect.embedded.render.scanline import PLAN_X, PLAN_Y, WIDEST
from semore.collect.embedded.render.texture import Singles, smooth_grain
from semore.collect.scenarios import Weather

Colour = tuple[float, float, float]

_HIGHEST: Final = 57.0  # degrees: a sun drawn higher would leave upright faces dark
_SIGHT_DENSE: Final = 0.066  # 1/m at fog density 100: 5% of the contrast is left at 45 m


@kernel
def blend(a: Colour, b: Colour, weight: float) -> Colour:
    """From `a` (weight 0) to `b` (weight 1)."""
    return a[0] + (b[0] - a[0]) * weight, a[1] + (b[1] - a[1]) * weight, a[2] + (b[2] - a[2]) * weight


@kernel
def scale(colour: Colour, factor: float) -> Colour:
    """`colour` as many times as bright."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


class Atmosphere(NamedTuple):
    """Linear light, 1 = white in full daylight. Ambient and sun colours, unit vector to the sun, colour of the sky at
    the zenith and the horizon, of the glow around the sun, of clouds' bright and dark sides, share of the sky they
    cover, extinction (1/m), wetness of the ground, rain and puddles in [0, 1], and `lamp`: how strongly lamps show
    against the exposure."""

    ambient: Colour
    sun: Colour
    to_sun: Colour
    zenith: Colour
    horizon: Colour
    glow: Colour
    cloud: Colour
    cloud_shade: Colour
    cover: float
    extinction: float
    wet: float
    rain: float
    puddles: float
    lamp: float


def atmosphere(weather: Weather) -> Atmosphere:
    """The air under `weather`.

    Daylight follows the sun's altitude with twilight below 0°. A high sun stands behind the ego's right shoulder, so
    that upright faces show; a low one ahead on the right, where its glow is seen and long shadows point at the camera.
    Clouds and rain dim and grey the light; fog density 100 leaves about 45 m of sight, 20 about 400 m."""
    altitude = weather.sun_altitude
    rain, fog = weather.precipitation / 100.0, weather.fog_density / 100.0
    cover = max(_smooth(22.0, 42.0, weather.cloudiness), rain, min(1.0, 1.6 * fog))
    day = _smooth(-10.0, 10.0, altitude)
    low = 1.0 - _smooth(8.0, 40.0, altitude)
    warm = day * low * (1.0 - cover)

    direct = day * (1.0 - 0.97 * cover) * (0.92 - 0.12 * low)
    sky_light = 0.085 + day * (0.375 + 0.17 * cover - 0.02 * warm - 0.14 * rain)
    tint = blend((1.0, 1.0, 1.0), (0.90, 0.98, 1.12), (1.0 - cover) * (1.0 - 1.4 * warm))
    clear, dull = (
        blend((0.16, 0.40, 0.82), (0.36, 0.45, 0.66), warm),
        blend((0.52, 0.55, 0.60), (0.36, 0.39, 0.44), rain),
    )
    pale = blend((0.66, 0.82, 0.96), (0.98, 0.80, 0.56), warm)
    misty = blend((0.74, 0.76, 0.78), (0.50, 0.53, 0.57), rain)
    night_zenith, night_horizon = (0.010, 0.014, 0.036), (0.040, 0.046, 0.080)

    angle = math.radians(min(_HIGHEST, max(9.0, altitude)))
    flat = math.cos(angle)
    along, across = (0.86, 0.51) if altitude < 15.0 else (-0.75, 0.66)
    return Atmosphere(
        ambient=scale(blend((0.72, 0.84, 1.20), tint, day), sky_light),
        sun=scale(blend((1.0, 0.96, 0.88), (1.0, 0.70, 0.40), warm), direct),
        to_sun=(along * flat, across * flat, math.sin(angle)),
        zenith=blend(night_zenith, blend(blend(clear, dull, cover), misty, fog), day),
        horizon=blend(night_horizon, blend(pale, misty, cover), day),
        glow=scale(blend((1.0, 0.98, 0.92), (1.0, 0.78, 0.42), warm), 0.75 * day * (1.0 - cover)),
        cloud=blend((0.050, 0.055, 0.085), blend((0.98, 0.97, 0.95), (0.70, 0.72, 0.75), cover), day),
        cloud_shade=blend((0.016, 0.019, 0.040), blend((0.80, 0.83, 0.88), (0.40, 0.43, 0.48), cover), day),
        cover=(0.22 + 0.60 * cover) * (1.0 - fog),
        extinction=0.0006 + 0.006 * rain + _SIGHT_DENSE * fog**1.5,
        wet=weather.wetness / 100.0,
        rain=rain,
        puddles=weather.deposits / 100.0,
        lamp=1.0 - 0.75 * day * (1.0 - 0.5 * max(fog, 0.8 * rain)),
    )


@kernel
def draw_sky(air: Atmosphere, slope: np.float32, line: Singles, size: int, red: int) -> None:
    """Colours of the sky along a row of the given slope: a gradient, the sun's glow, and clouds on a flat ceiling; into
    the field `red` of `line` and the next two."""
    green, blue = red + WIDEST, red + 2 * WIDEST
    one, half, two = np.float32(1.0), np.float32(0.5), np.float32(2.0)
    sx, sy, sz = np.float32(air.to_sun[0]), np.float32(air.to_sun[1]), np.float32(air.to_sun[2])
    zr, zg, zb = np.float32(air.zenith[0]), np.float32(air.zenith[1]), np.float32(air.zenith[2])
    hr, hg, hb = np.float32(air.horizon[0]), np.float32(air.horizon[1]), np.float32(air.horizon[2])
    gr, gg, gb = np.float32(air.glow[0]), np.float32(air.glow[1]), np.float32(air.glow[2])
    cr, cg, cb = np.float32(air.cloud[0]), np.float32(air.cloud[1]), np.float32(air.cloud[2])
    dr, dg, db = np.float32(air.cloud_shade[0]), np.float32(air.cloud_shade[1]), np.float32(air.cloud_shade[2])
    ceiling = np.float32(9.0 / (slope + 0.10))  # cells of cloud per unit of plan direction
    first, soft = np.float32(1.0 - air.cover), np.float32(1.0 / 0.22)
    # Far clouds melt into the horizon.
    veil = np.float32(min(1.0, float(slope) * 9.0) * min(1.0, 2.5 - 2.0 * air.cover))
    low_sun = np.float32(0.6 * max(0.0, 1.0 - 2.0 * air.to_sun[2]))
    for u in range(size):
        px, py = line[PLAN_X + u], line[PLAN_Y + u]
        unit = one / np.sqrt(px * px + py * py + slope * slope)
        up = min(one, np.float32(2.1) * slope * unit)
        up = up * (np.float32(2.0) - up)
        toward = max(np.float32(0.0), (px * sx + py * sy + slope * sz) * unit)
        d2 = toward * toward
        d4 = d2 * d2
        d16 = d4 * d4 * d4 * d4
        d64 = d16 * d16 * d16 * d16
        d256 = d64 * d64 * d64 * d64
        d1024 = d256 * d256 * d256 * d256
        glow = low_sun * d4 + np.float32(0.30) * d16 + np.float32(0.35) * d64 + half * d256 + d1024
        x, y = px * ceiling, py * ceiling
        thick = smooth_grain(x * half, y * half) * np.float32(0.72) + smooth_grain(x * two, y * two) * np.float32(0.28)
        body = min(one, max(np.float32(0.0), (thick - first) * soft))
        shade = min(one, max(np.float32(0.0), (thick - first) * np.float32(1.6)))
        body *= veil
        r, g, b = hr + (zr - hr) * up + glow * gr, hg + (zg - hg) * up + glow * gg, hb + (zb - hb) * up + glow * gb
        kr, kg, kb = cr + (dr - cr) * shade, cg + (dg - cg) * shade, cb + (db - cb) * shade
        line[red + u] = r + (kr - r) * body
        line[green + u] = g + (kg - g) * body
        line[blue + u] = b + (kb - b) * body


def _smooth(low: float, high: float, value: float) -> float:
    x = min(1.0, max(0.0, (value - low) / (high - low)))
    return x * x * (3.0 - 2.0 * x)
