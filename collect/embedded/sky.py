"""Light and air of a moment: CARLA's weather percentages turned into the few numbers the ray-caster needs."""

from __future__ import annotations

import math
from typing import NamedTuple

from collect.scenarios import Weather

Colour = tuple[float, float, float]


class Atmosphere(NamedTuple):
    """Linear light, 1 = white in full daylight. Ambient and sun colours, unit vector to the sun, colour of the sky at
    the zenith and the horizon, extinction (1/m), wetness of the ground, rain and puddles in [0, 1], and `lamp`: how
    strongly lamps show against the exposure."""

    ambient: Colour
    sun: Colour
    to_sun: Colour
    zenith: Colour
    horizon: Colour
    extinction: float
    wet: float
    rain: float
    puddles: float
    lamp: float


def atmosphere(weather: Weather) -> Atmosphere:
    """The air under `weather`.

    Daylight follows the sun's altitude with twilight below 0°; the sun is never drawn higher than 52° and stands
    behind the ego's right shoulder, so that upright faces show; clouds and rain dim and grey it; fog density 100
    leaves about 45 m of sight, 20 about 400 m."""
    altitude = weather.sun_altitude
    cloud = max(weather.cloudiness, weather.precipitation) / 100.0
    fog = weather.fog_density / 100.0
    day = _smooth(-10.0, 10.0, altitude)
    warm = day * (1.0 - _smooth(6.0, 35.0, altitude)) * (1.0 - cloud)
    grey = max(cloud * 0.8, min(1.0, 1.6 * fog))

    direct = 0.80 * day * (1.0 - 0.92 * cloud) * (1.0 - fog) * (0.55 + 0.45 * _smooth(0.0, 40.0, altitude))
    sky_light = 0.085 + day * (0.455 + 0.16 * grey)
    ambient = _blend((0.70, 0.82, 1.20), (1.0, 1.0, 1.0), day)
    clear, dull = _blend((0.22, 0.44, 0.80), (0.40, 0.42, 0.55), warm), (0.56, 0.58, 0.61)
    pale = _blend((0.70, 0.82, 0.94), (0.96, 0.76, 0.52), warm)
    night_zenith, night_horizon = (0.010, 0.013, 0.032), (0.034, 0.040, 0.072)
    brightness = 1.0 - 0.18 * cloud

    angle = math.radians(min(52.0, max(8.0, altitude)))
    flat = math.cos(angle)
    return Atmosphere(
        ambient=_scale(ambient, sky_light),
        sun=_scale(_blend((1.0, 0.97, 0.90), (1.0, 0.72, 0.45), warm), direct),
        to_sun=(-0.8 * flat, 0.6 * flat, math.sin(angle)),
        zenith=_blend(night_zenith, _scale(_blend(clear, dull, grey), brightness), day),
        horizon=_blend(night_horizon, _scale(_blend(pale, (0.70, 0.72, 0.74), grey), brightness), day),
        extinction=0.0006 + 0.003 * cloud * (weather.precipitation > 0) + 0.065 * fog**1.5,
        wet=weather.wetness / 100.0,
        rain=weather.precipitation / 100.0,
        puddles=weather.deposits / 100.0,
        lamp=1.0 - 0.75 * day * (1.0 - 0.5 * fog),
    )


def _smooth(low: float, high: float, value: float) -> float:
    x = min(1.0, max(0.0, (value - low) / (high - low)))
    return x * x * (3.0 - 2.0 * x)


def _blend(a: Colour, b: Colour, weight: float) -> Colour:
    return (a[0] + (b[0] - a[0]) * weight, a[1] + (b[1] - a[1]) * weight, a[2] + (b[2] - a[2]) * weight)


def _scale(colour: Colour, factor: float) -> Colour:
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)
