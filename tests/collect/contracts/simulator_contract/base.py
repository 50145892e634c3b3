"""What a subclass of the contract supplies, and how the topics drive a simulator."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from semore.collect.scenarios import SCENARIOS, WEATHERS, EgoStart, Scenario, VehicleGroup
from semore.collect.simulator import Control, Simulator, Snapshot
from semore.datasets.rollouts.schema import ACTOR_COLUMN, KIND_INDEX, KINDS, Kind

SIZE = 64
DAY = WEATHERS["hard_high_light"]
GAS, COAST, BRAKE = Control(0.0, 1.0, 0.0), Control(), Control(0.0, 0.0, 1.0)
EGO_MASS = KINDS[KIND_INDEX["sedan"]].mass


@dataclass(frozen=True)
class Tolerances:
    """How far from the ideal an implementation may be."""

    position: float = 0.02
    """m between the ego's move in a step and its velocity times the step."""
    actor_position: float = 0.05
    """The same of any other actor."""
    place: float = 0.1
    """m between where the scenario puts somebody and where they stand."""
    yaw_rate: float = 3.0
    """rad/s: how fast the ego may turn when nothing hits it."""
    slip: float = 0.1
    """rad between its heading and its course while it drives forward."""
    acceleration: float = 12.0
    """m/s² that engine, brakes, tyres and friction together give a vehicle at most; whatever more is a hit."""
    grip: float = 8.0
    """The same of somebody who coasts, slides or stands still: friction alone, or traffic's braking."""
    impulse: float = 0.02
    """Share of an impulse by which momentum and report may differ, on top of what the above explain in one step."""
    mirror: float = 0.02
    """Share by which the impulses of two mirrored hits may differ."""
    overlap: float = 0.1
    """m that two solid bodies may be inside one another after a step."""


class Contract:
    """Base of every topic."""

    name: ClassVar[str]
    """What `Simulator.name` says."""
    scenarios: ClassVar[tuple[str, ...]] = tuple(SCENARIOS)
    """Names of the scenarios it can play."""
    weathers: ClassVar[tuple[str, ...]] = tuple(WEATHERS)
    """Names of the weathers it can show."""
    sizes: ClassVar[tuple[int, ...]] = (16, 84, 128)
    """Camera sizes to try, px."""
    tolerances: ClassVar[Tolerances] = Tolerances()
    straight: ClassVar[tuple[str, int, int, float]] = ("Town01", 12, -1, 20.0)
    """Map, road, driving lane and s (m) where 100 m of straight road begin with another driving lane beside it, but no
    house or rail within 3 m of the lane: where hits are staged."""
    mirrors: ClassVar[bool] = True
    """Whether a left hit there is the mirror image of a right one."""
    road_end: ClassVar[tuple[str, EgoStart] | None] = None
    """A map and a start from which straight driving reaches a road's end within 30 s; None: there is no such place."""

    def make_simulator(self, size: int) -> Simulator:
        """A new simulator with a camera of `size`² pixels; without fixtures, see the package's docstring."""
        raise NotImplementedError("a subclass of SimulatorContract defines make_simulator")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a test that asks for `scenario`, `weather` or `size` once for each of the subclass's."""
        choices: dict[str, dict[str, Any]] = {
            "scenario": {name: SCENARIOS[name] for name in self.scenarios},
            "weather": {name: WEATHERS[name] for name in self.weathers},
            "size": {str(size): size for size in self.sizes},
        }
        for fixture, values in choices.items():
            if fixture in metafunc.fixturenames:
                metafunc.parametrize(fixture, list(values.values()), ids=list(values))

    @pytest.fixture
    def simulator(self) -> Iterator[Simulator]:
        """A simulator with a camera of SIZE px."""
        made = self.make_simulator(SIZE)
        yield made
        made.close()

    def stage(self, group: VehicleGroup | None, ahead: float, **changes: Any) -> Scenario:
        """The ego alone at the beginning of `straight`, without jitter, and `group` moved `ahead` m in front of it,
        creeping at 1% of the limit; `changes` replace further fields of Scenario."""
        town, road, lane, s = self.straight
        start = EgoStart(road, (lane,), (s, s), 0.0, 0.0)
        base = Scenario("Contract", town, start, DAY.name)
        if group is not None:
            there = (s + ahead, s + ahead)
            base = replace(base, vehicles=(replace(group, road=road, lanes=(lane,), s=there),))
        return replace(base, **changes)


def creeping(kind: str) -> VehicleGroup:
    """One vehicle of `kind` that hardly moves, to be placed by `stage`."""
    return VehicleGroup(1, (kind,), 0, (), (0.0, 0.0), (99.0, 99.0), lights=0.0)


def drive(
    simulator: Simulator, scenario: Scenario, seed: int, steps: int, control: Callable[[int, Snapshot], Control]
) -> list[Snapshot]:
    """The first snapshot and those of `steps` steps under control(step, last snapshot), undrawn."""
    shots = [simulator.reset(scenario, DAY, seed)]
    for step in range(steps):
        shots.append(simulator.step(control(step, shots[-1])))
    return shots


def weave(step: int, shot: Snapshot) -> Control:
    """Speeds up in a gentle slalom."""
    return Control(0.05 * math.sin(step), 0.8, 0.0)


def lane_keeper(step: int, shot: Snapshot) -> Control:
    """Full throttle down the lane's middle."""
    lane, ego = shot.lane, shot.ego
    if lane is None:
        return GAS
    heading = math.remainder(ego.yaw - math.atan2(lane.dy, lane.dx), math.tau)
    return Control(min(0.3, max(-0.3, -0.05 * lane.offset - 0.8 * heading)), 1.0, 0.0)


def column(shot: Snapshot, *names: str) -> np.ndarray:
    """Columns of the actors' table as float64: (A,) for one name, (A, n) for several."""
    found = shot.actors[:, [ACTOR_COLUMN[name] for name in names]].astype(np.float64)
    return found[:, 0] if len(names) == 1 else found


def kinds_of(shot: Snapshot) -> list[Kind]:
    """The kind of every row of the actors' table."""
    return [KINDS[int(kind)] for kind in column(shot, "kind")]


def ego_velocity(shot: Snapshot) -> np.ndarray:
    """(2,) m/s."""
    return np.array([shot.ego.vx, shot.ego.vy])


def fingerprint(shot: Snapshot) -> str:
    """A digest of everything in the snapshot, pictures included."""
    ego, images = shot.ego, shot.images
    state = hashlib.blake2b(repr((shot.tick, ego, shot.lane, shot.road_ends, shot.collisions)).encode())
    for array in (shot.actors, images.rgb, images.semantic, images.instance, images.depth):
        state.update(f"{array.shape}{array.dtype}".encode())
        state.update(np.ascontiguousarray(array).data)
    return state.hexdigest()
