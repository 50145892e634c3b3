"""The initial state of an episode: actors drawn in road coordinates, equal for all simulators (method.md §2.2)."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from semore.collect.scenarios import Range, Scenario, VehicleGroup
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import KIND_INDEX, KINDS

PAINTS: Final = 9
"""How many colours of cars and shirts there are to draw from."""

_EGO_CLEARANCE: Final = 8.0  # m between centres
_SPACING: Final = 2.0  # m between bumpers in a lane
_TRIES: Final = 2000


class Where(Protocol):
    """A map's function from road coordinates to a pose."""

    def __call__(self, road: int, lane: int, s: float, offset: float = 0.0) -> tuple[float, float, float]:
        """x, y (m) and the travel direction's yaw (rad) at `s` of a lane, `offset` m to the right of its middle;
        SemoreError when the map has no such place."""


@dataclass(frozen=True)
class EgoPlace:
    """The ego's start: `offset` (m) to the right of the lane's middle, `turn` (rad, clockwise) off its direction."""

    road: int
    lane: int
    s: float
    offset: float
    turn: float


@dataclass(frozen=True)
class VehiclePlace:
    """`kind` indexes rollouts.schema.KINDS; `percent`: the traffic manager's speed difference; `lights`: all on."""

    kind: int
    road: int
    lane: int
    s: float
    percent: float
    lights: bool


@dataclass(frozen=True)
class WalkerPlace:
    """Where a walker starts: the middle of a sidewalk lane at `s` (m)."""

    road: int
    lane: int
    s: float


@dataclass(frozen=True)
class InitialState:
    """The start of an episode, all actors at rest. Ids count from 1, vehicles first, in the order given.

    `paints` has a number below PAINTS for each actor. `walk_left` and `walk_right` are the crossing speeds (m/s) that
    all walkers share, against and along +t."""

    ego: EgoPlace
    vehicles: tuple[VehiclePlace, ...]
    walkers: tuple[WalkerPlace, ...]
    paints: tuple[int, ...]
    walk_left: float
    walk_right: float


def episode_generator(scenario: Scenario, seed: int) -> np.random.Generator:
    """The generator of all draws of an episode; equal for the same seed and scenario name."""
    return np.random.default_rng([seed, zlib.crc32(scenario.name.encode())])


def draw_initial_state(scenario: Scenario, where: Where, rng: np.random.Generator) -> InitialState:
    """Draw an initial state for `scenario` in which no two actors overlap; SemoreError when a group does not fit."""
    ego = _ego(scenario, rng)
    x, y, _ = where(ego.road, ego.lane, ego.s, ego.offset)
    vehicles: list[VehiclePlace] = []
    for group in scenario.vehicles:
        for _ in range(group.count):
            vehicles.append(_vehicle(group, where, (x, y), vehicles, rng))
    walkers = tuple(WalkerPlace(spawn.road, spawn.lane, _uniform(rng, spawn.s)) for spawn in scenario.walkers)
    paints = rng.integers(PAINTS, size=len(vehicles) + len(walkers))
    left, right = _uniform(rng, scenario.walker_speed), _uniform(rng, scenario.walker_speed)
    return InitialState(ego, tuple(vehicles), walkers, tuple(paints.tolist()), left, right)


def _ego(scenario: Scenario, rng: np.random.Generator) -> EgoPlace:
    start = scenario.ego
    s = _uniform(rng, start.s)
    lane = start.lanes[rng.integers(len(start.lanes))]
    offset = rng.uniform(-1.0, 1.0) * start.jitter_offset
    return EgoPlace(start.road, lane, s, offset, rng.uniform(-1.0, 1.0) * start.jitter_yaw)


def _vehicle(
    group: VehicleGroup,
    where: Where,
    ego: tuple[float, float],
    others: Sequence[VehiclePlace],
    rng: np.random.Generator,
) -> VehiclePlace:
    kind = KIND_INDEX[group.kinds[rng.integers(len(group.kinds))]]
    length = KINDS[kind].length
    percent = _uniform(rng, group.speed_difference)
    for _ in range(_TRIES):
        s = _uniform(rng, group.s)
        lane = group.lanes[rng.integers(len(group.lanes))]
        x, y, _ = where(group.road, lane, s)
        apart = all(
            (other.road, other.lane) != (group.road, lane)
            or abs(other.s - s) > (KINDS[other.kind].length + length) / 2 + _SPACING
            for other in others
        )
        if apart and math.hypot(x - ego[0], y - ego[1]) > max(_EGO_CLEARANCE, length / 2 + 3.0):
            return VehiclePlace(kind, group.road, lane, s, percent, bool(rng.random() < group.lights))
    raise SemoreError(
        f"no room for {group.count} vehicles on road {group.road} lanes {group.lanes} at s {group.s}; "
        "lower the count or widen the range"
    )


def _uniform(rng: np.random.Generator, bounds: Range) -> float:
    return float(rng.uniform(*bounds))
