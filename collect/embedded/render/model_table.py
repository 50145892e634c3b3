"""The models of all actor kinds in one table, and the positions of their lamps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.embedded.render import pedestrian_models as figures
from semore.collect.embedded.render import vehicle_models as bodywork
from semore.collect.embedded.render.shapes import Part
from semore.datasets.rollouts.schema import KINDS, Kind

_VEHICLES: Final[dict[str, Callable[[Kind], list[Part]]]] = {
    "sedan": bodywork.sedan,
    "sports car": bodywork.sports_car,
    "police car": bodywork.police_car,
    "muscle car": bodywork.muscle_car,
    "electric SUV": bodywork.electric_suv,
    "fire truck": bodywork.fire_truck,
    "ambulance": bodywork.ambulance,
}
_PEOPLE: Final = {"cyclist": figures.cyclist, "pedestrian": figures.pedestrian}


def _templates() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    groups = [_VEHICLES[kind.name](kind) if kind.name in _VEHICLES else _PEOPLE[kind.name]() for kind in KINDS]
    groups += [figures.lying_pedestrian(), figures.lying_cyclist()]
    starts = np.cumsum([0, *map(len, groups)])
    return np.array([row for group in groups for row in group], np.float64), starts.astype(np.int64)


TEMPLATES, STARTS = _templates()
"""Template rows (n, 26) as shapes.TEMPLATE_FIELDS; kind k owns rows STARTS[k] to STARTS[k + 1], then come a pedestrian
and a cyclist who lie on the ground. Never written to."""

LAMPS: Final = np.array([bodywork.LAMP_HEIGHTS[kind.name] for kind in KINDS])
"""(kinds, 2) float64: height of head and tail lamps, m."""
