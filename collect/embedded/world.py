"""The embedded simulator: ties road, actors, contact and camera together behind collect.simulator.Simulator."""

from __future__ import annotations

import math
import zlib
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from collect.embedded.contact import Bump, bump, bump_fence, ego_box, touching
from collect.embedded.dynamics import EGO_KIND, EgoState, advance
from collect.embedded.placement import Cast, place
from collect.embedded.raycast import RENDERER_VERSION
from collect.embedded.road import travel
from collect.embedded.sky import atmosphere
from collect.embedded.town import Town, town
from collect.embedded.traffic import DECISION_STEPS, drive, push_vehicle, vehicle_poses, walk
from collect.embedded.view import draw
from collect.scenarios import Scenario, Weather
from collect.simulator import Collision, Control, Ego, Lane, Snapshot
from datasets.errors import SemoreError
from datasets.schema import DT, KINDS, SemanticClass

Floats = NDArray[np.float64]

_ROAD_END: Final = 2.0  # m before the end of the reference line where no lane lies ahead any more
_REACH: Final = 30.0  # m of road on either side of the ego whose scenery it can touch


class EmbeddedSimulator:
    """The built-in world with a square camera of `size` pixels. Implements collect.simulator.Simulator.

    Every episode draws from one generator seeded by (seed, scenario name); pictures draw from none."""

    name: Final = "embedded"
    version: Final = "1"
    renderer_version: Final = RENDERER_VERSION

    def __init__(self, size: int) -> None:
        if size < 8:
            raise SemoreError(f"camera size {size} is too small; use at least 8 pixels")
        self._size = size
        self._episode: _Episode | None = None

    def reset(self, scenario: Scenario, weather: Weather, seed: int) -> Snapshot:
        """Start an episode: actors placed and at rest. SemoreError for an unknown map, road or lane, or no room."""
        self._episode = _Episode(scenario, weather, seed, self._size)
        return self._episode.snapshot(Control(), ())

    def step(self, control: Control) -> Snapshot:
        """Advance 0.05 s; out-of-range controls are clipped. SemoreError before the first reset."""
        if self._episode is None:
            raise SemoreError("the simulator has no episode; call reset first")
        return self._episode.step(control)

    def close(self) -> None:
        """Forget the episode; harmless twice."""
        self._episode = None


class _Episode:
    """One episode's world; only the simulator above holds it."""

    def __init__(self, scenario: Scenario, weather: Weather, seed: int, size: int) -> None:
        self._rng = np.random.default_rng([seed, zlib.crc32(scenario.name.encode())])
        self._town: Town = town(scenario.map)
        self._scenario, self._weather, self._size = scenario, weather, size
        self._air = atmosphere(weather)
        self._cast: Cast = place(scenario, self._town.road, self._rng)
        self._ego: EgoState = self._cast.ego
        self._vehicles, self._walkers = self._cast.vehicles, self._cast.walkers
        self._tick = 0

    def step(self, control: Control) -> Snapshot:
        control = _clipped(control)
        self._move(control)
        collisions = (*self._hit_actors(), *self._hit_scenery())
        self._tick += 1
        return self.snapshot(control, collisions)

    def _move(self, control: Control) -> None:
        """Everybody moves as the last moment's positions suggest."""
        segments, before = self._town.road.segments, self._ego
        if len(self._walkers):
            decide = self._tick % DECISION_STEPS == 0
            coins = self._rng.random(len(self._walkers)) if decide else np.ones(len(self._walkers))
            band, left, right = self._scenario.walker_band, self._cast.walk_left, self._cast.walk_right
            self._walkers = walk(self._walkers, segments, decide, coins, band, left, right, DT)
        if len(self._vehicles):
            s, t = self._town.road.locate(before.x, before.y)
            heading = self._town.road.pose(s, 0.0)[2]
            vx, vy = before.velocity
            along = vx * math.cos(heading) + vy * math.sin(heading)
            ego = np.array([s, t, along, EGO_KIND.length, EGO_KIND.width])
            self._vehicles = drive(self._vehicles, segments, self._town.road.length, ego, DT)
        self._ego = advance(before, control)

    def _hit_actors(self) -> list[Collision]:
        """Resolve contact with vehicles and walkers: exchange momentum along the normal, then part the bodies."""
        actors = self._actors()
        boxes = np.empty((len(actors), 6))
        boxes[:, :2], boxes[:, 2:4] = actors[:, 2:4], actors[:, 8:10] / 2
        boxes[:, 4], boxes[:, 5] = np.cos(actors[:, 5]), np.sin(actors[:, 5])
        boxes[actors[:, 12] > 0, :2] = np.inf
        events = []
        for row in touching(ego_box(self._ego), boxes):
            kind = KINDS[int(actors[row, 1])]
            met = self._bounce(bump(self._ego, boxes[row], kind.mass, float(actors[row, 6]), float(actors[row, 7])))
            if met is None:
                continue  # an earlier contact has pushed the ego clear of it
            self._throw(int(row), met)
            if met.impulse > 0.0:
                events.append(Collision(met.impulse, int(actors[row, 0]), kind.name))
        return events

    def _throw(self, row: int, met: Bump) -> None:
        """Actor `row` takes its change of velocity and its displacement; a walker falls."""
        if row < len(self._vehicles):
            heading = self._town.road.pose(self._vehicles[row, 0], 0.0)[2]
            self._vehicles[row] = push_vehicle(self._vehicles[row], heading, met.dvx, met.dvy, met.dx, met.dy)
        else:
            walker = self._walkers[row - len(self._vehicles)]
            walker[2:6] += (met.dx, met.dy, met.dvx, met.dvy)
            walker[8] = 1.0

    def _hit_scenery(self) -> list[Collision]:
        """Resolve contact with houses, poles and guard rails, which never give way."""
        scenery = self._town.scenery
        s, _ = self._town.road.locate(self._ego.x, self._ego.y)
        near = scenery.between(s - _REACH, s + _REACH)
        boxes, tags = scenery.boxes[near], scenery.tags[near]
        met: list[tuple[Bump | None, int]] = []
        for row in touching(ego_box(self._ego), boxes):
            met.append((self._bounce(bump(self._ego, boxes[row], math.inf, 0.0, 0.0)), tags[row, 1]))
        for fence in self._town.fences:
            met.append((self._bounce(bump_fence(self._ego, self._town.road, fence.t, fence.side)), fence.semantic))
        return [
            Collision(outcome.impulse, 0, SemanticClass(what).name.lower().replace("_", " "))
            for outcome, what in met
            if outcome is not None and outcome.impulse > 0.0
        ]

    def _bounce(self, met: Bump | None) -> Bump | None:
        """Put the ego where a contact leaves it, when there is one."""
        if met is not None:
            self._ego = met.ego
        return met

    def _actors(self) -> NDArray[np.float32]:
        """A fresh (A, 14) table of the moment, vehicles first."""
        actors = self._cast.actors.copy()
        count = len(self._vehicles)
        if count:
            poses = vehicle_poses(self._vehicles, self._town.road.segments)
            actors[:count, 2:4], actors[:count, 5:8] = poses[:, :2], poses[:, 2:]
        for row, walker in enumerate(self._walkers, start=count):
            heading = self._town.road.pose(walker[0], 0.0)[2]
            actors[row, 2:4], actors[row, 6:8] = walker[2:4], walker[4:6]
            actors[row, 5], actors[row, 12] = heading + walker[7] * math.pi / 2, walker[8]
        return actors

    def snapshot(self, control: Control, collisions: tuple[Collision, ...]) -> Snapshot:
        ego, actors = self._ego, self._actors()
        vx, vy = ego.velocity
        lane, ends = self._lane()
        look = partial(
            draw, self._town, self._air, self._size, ego.x, ego.y, ego.yaw,
            actors.copy(), self._cast.paint, self._weather.headlights, self._tick,
        )  # fmt: skip
        state = Ego(ego.x, ego.y, 0.0, ego.yaw, vx, vy, 0.0, control)
        return Snapshot(self._tick, state, lane, ends, collisions, actors, look)

    def _lane(self) -> tuple[Lane | None, bool]:
        """The driving lane under the ego's centre, and whether the road ends just ahead in its direction."""
        road = self._town.road
        s, t = road.locate(self._ego.x, self._ego.y)
        found = road.lane_at(t) if 0.0 <= s <= road.length else None
        if found is None or found.type != "driving":
            return None, s > road.length - _ROAD_END
        way = travel(found.id)
        heading = road.pose(s, 0.0)[2]
        direction = (way * math.cos(heading), way * math.sin(heading))
        offset = way * (t - road.lane_centre(found.id))
        ahead = road.length - s if way > 0 else s
        return Lane(*direction, offset, found.width, road.id, found.id, s), ahead < _ROAD_END


def _clipped(control: Control) -> Control:
    return Control(
        min(1.0, max(-1.0, float(control.steer))),
        min(1.0, max(0.0, float(control.throttle))),
        min(1.0, max(0.0, float(control.brake))),
    )
