"""The mapping of CARLA's object labels to our classes: by name, since numbers change between versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import SemanticClass

CLASS_OF: Final[dict[str, SemanticClass]] = {
    "Sky": SemanticClass.SKY,
    "Roads": SemanticClass.ROAD,
    "RoadLines": SemanticClass.LANE_MARKING,
    "Sidewalks": SemanticClass.SIDEWALK,
    "Terrain": SemanticClass.TERRAIN,
    "Ground": SemanticClass.TERRAIN,
    "Vegetation": SemanticClass.TERRAIN,
    "Water": SemanticClass.TERRAIN,
    "Buildings": SemanticClass.BUILDING,
    "Walls": SemanticClass.BUILDING,
    "GuardRail": SemanticClass.GUARD_RAIL,
    "Fences": SemanticClass.GUARD_RAIL,
    "Poles": SemanticClass.POLE,
    "TrafficLight": SemanticClass.POLE,
    "Car": SemanticClass.CAR,
    "Truck": SemanticClass.TRUCK,
    "Bus": SemanticClass.TRUCK,
    "Bicycle": SemanticClass.BICYCLE,
    "Motorcycle": SemanticClass.BICYCLE,
    "Rider": SemanticClass.RIDER,
    "Pedestrians": SemanticClass.PEDESTRIAN,
}
"""Label of carla.CityObjectLabel → our class; every other label is OTHER."""

ACTOR_CLASSES: Final = (
    SemanticClass.CAR, SemanticClass.TRUCK, SemanticClass.BICYCLE, SemanticClass.RIDER, SemanticClass.PEDESTRIAN,
)  # fmt: skip
"""Classes of what moves by itself."""


def class_table(labels: Mapping[str, int]) -> NDArray[np.uint8]:
    """(256,) uint8: our class of every tag in a semantic picture's red channel.

    `labels`: name → tag of carla.CityObjectLabel; SemoreError when one that we know is not among them."""
    missing = sorted(set(CLASS_OF) - set(labels))
    if missing:
        raise SemoreError(
            f"this carla wheel lacks the object labels {', '.join(missing)}; install the version in "
            "requirements-carla.lock"
        )
    table = np.full(256, SemanticClass.OTHER, np.uint8)
    for name, semantic in CLASS_OF.items():
        table[labels[name]] = semantic
    return table
