"""The schema that all stages share: classes, actor kinds, array layouts, seed splits, and its version."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from semore.datasets.errors import SemoreError

SCHEMA_VERSION: Final = 2
"""Version of the rollout layout below; a reader refuses any other by name."""

DT: Final = 0.05
"""Seconds per simulator step (method.md §2.1)."""

MAX_EPISODE_STEPS: Final = 500
"""Simulator steps after which an episode is truncated (method.md §2.5)."""

RECORDING_SIZE: Final = 128
"""Side of a recorded frame in pixels; training at another size is a view of it (design.md §3)."""


class SemanticClass(IntEnum):
    """Pixel classes of `semantic`; a simulator maps its own tags to these by name, never by number."""

    SKY = 0
    ROAD = 1
    LANE_MARKING = 2
    SIDEWALK = 3
    TERRAIN = 4
    BUILDING = 5
    GUARD_RAIL = 6
    POLE = 7
    CAR = 8
    TRUCK = 9
    BICYCLE = 10
    RIDER = 11
    PEDESTRIAN = 12
    OTHER = 13


@dataclass(frozen=True)
class Kind:
    """A kind of actor: its noun, its pixel class, its box (m) and its mass (kg)."""

    name: str
    semantic: SemanticClass
    length: float
    width: float
    height: float
    mass: float
    blueprint: str


KINDS: Final[tuple[Kind, ...]] = (
    Kind("sedan", SemanticClass.CAR, 4.69, 1.85, 1.44, 1845.0, "vehicle.tesla.model3"),
    Kind("sports car", SemanticClass.CAR, 4.18, 1.83, 1.36, 1440.0, "vehicle.audi.tt"),
    Kind("police car", SemanticClass.CAR, 5.04, 1.91, 1.48, 1960.0, "vehicle.dodge.charger_police"),
    Kind("muscle car", SemanticClass.CAR, 5.01, 1.91, 1.47, 1920.0, "vehicle.dodge.charger_2020"),
    Kind("electric SUV", SemanticClass.CAR, 4.90, 1.94, 1.63, 2490.0, "vehicle.audi.etron"),
    Kind("fire truck", SemanticClass.TRUCK, 8.47, 2.56, 3.10, 12000.0, "vehicle.carlamotors.firetruck"),
    Kind("ambulance", SemanticClass.TRUCK, 6.36, 2.35, 2.43, 4500.0, "vehicle.ford.ambulance"),
    Kind("cyclist", SemanticClass.BICYCLE, 1.75, 0.60, 1.75, 90.0, "vehicle.bh.crossbike"),
    Kind("pedestrian", SemanticClass.PEDESTRIAN, 0.40, 0.60, 1.80, 75.0, "walker.pedestrian.*"),
)
"""Every actor kind, indexed by the `kind` column of `actors`. A cyclist is a BICYCLE with a RIDER on it."""

KIND_INDEX: Final[dict[str, int]] = {kind.name: index for index, kind in enumerate(KINDS)}

ACTOR_FIELDS: Final = (
    "id", "kind", "x", "y", "z", "yaw", "vx", "vy", "length", "width", "height", "lights", "down", "brake",
)  # fmt: skip
"""Columns of `actors` (A, 14) float32, the ego excluded.

`id` is the value in `instance`; `kind` indexes KINDS; x, y, z (m, z = ground under the actor) and yaw (rad) in
CARLA's left-handed frame (x forward, y right, yaw clockwise seen from above); vx, vy m/s; lights 1 when its headlights
shine; down 1 once it has been knocked over; brake 1 while a vehicle brakes."""

EGO_FIELDS: Final = (
    "x", "y", "z", "yaw", "vx", "vy", "vz", "steer", "throttle", "brake",
    "lane_dx", "lane_dy", "lane_offset", "lane_width", "road", "lane", "s",
)  # fmt: skip
"""Columns of `ego` (17,) float32: pose and velocity as in ACTOR_FIELDS, the control applied in the last step, and the
lane frame: unit vector of the lane's travel direction, offset from its centre (m, positive to the right of travel),
its width, and the OpenDRIVE road id, lane id and s. The lane frame is all NaN when the ego is on no driving lane."""

ACTOR_COLUMN: Final = {name: index for index, name in enumerate(ACTOR_FIELDS)}
EGO_COLUMN: Final = {name: index for index, name in enumerate(EGO_FIELDS)}

FRAME_ARRAYS: Final[dict[str, str]] = {
    "rgb": "uint8",  # (T+1, H, W, 3)
    "semantic": "uint8",  # (T+1, H, W)
    "instance": "uint16",  # (T+1, H, W)
    "actors": "float32",  # (T+1, A, len(ACTOR_FIELDS))
    "ego": "float32",  # (T+1, len(EGO_FIELDS))
    "digest": "uint8",  # (T+1, 16) BLAKE2b-128 of the frame
    "state_digest": "uint8",  # (T+1, 16) BLAKE2b-128 of ego, actors, semantic and instance
}
STEP_ARRAYS: Final[dict[str, str]] = {
    "action": "float32",  # (T, 2) as applied, in [-1, 1]
    "reward": "float32",  # (T,) of the reward named in the attributes
    "terminated": "bool",  # (T,)
    "truncated": "bool",  # (T,)
    "speed": "float32",  # (T,) m/s along the lane, v_s
    "progress": "float32",  # (T,) m, v_s * DT
    "impulse": "float32",  # (T,) N*s, summed over the step's collisions
}

SEED_SPLITS: Final[dict[str, range]] = {
    "train": range(0, 1_000_000),
    "validation": range(1_000_000, 1_100_000),
    "test": range(2_000_000, 2_100_000),
}
"""Disjoint seed ranges: train on the first, choose on the second, report on the third (design.md §7.4)."""


def split_of(seed: int) -> str:
    """Name of the split `seed` belongs to; SemoreError outside every range."""
    for name, seeds in SEED_SPLITS.items():
        if seed in seeds:
            return name
    ranges = ", ".join(f"{name} {seeds.start}..{seeds.stop - 1}" for name, seeds in SEED_SPLITS.items())
    raise SemoreError(f"seed {seed} is in no split; choose one of {ranges}")
