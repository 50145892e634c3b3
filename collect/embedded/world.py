"""The embedded simulator: road, actors, contact and camera behind collect.simulator.Simulator."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.embedded.maps.road import travel
from semore.collect.embedded.maps.town import Town, town
from semore.collect.embedded.physics import vehicles, walkers
from semore.collect.embedded.physics.contact import build, collide, lean
from semore.collect.embedded.physics.dynamics import EGO_KIND, EgoState, advance
from semore.collect.embedded.physics.walkers import DECISION_STEPS
from semore.collect.embedded.placement import Cast, place
from semore.collect.embedded.render.raycast import RENDERER_VERSION
from semore.collect.embedded.render.sky import atmosphere
from semore.collect.embedded.render.view import draw
from semore.collect.scenarios import Scenario, Weather
from semore.collect.simulator import Collision, Control, Ego, Lane, Snapshot
from semore.collect.spawns import episode_generator
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import ACTOR_COLUMN, DT, KINDS, SemanticClass

Floats = NDArray[np.float64]

_ROAD_END: Final = 2.0  # m before the end of the reference line where no lane lies ahead any more
_REACH: Final = 30.0  # m of road on either side of the ego whose scenery it can touch
_DOWN: Final = ACTOR_COLUMN["down"]
_BRAKE: Final = ACTOR_COLUMN["brake"]


@dataclass(frozen=True)
class WorldState:
    """The whole state of an episode, ready to be pickled: `EmbeddedSimulator.save` returns it and `restore` takes it.

    `vehicles` (V, 17) and `walkers` (W, 11) are the tables of the physics package, `rng` is the generator's state."""

    version: str
    scenario: Scenario
    weather: Weather
    cast: Cast
    rng: dict[str, Any]
    ego: EgoState
    vehicles: Floats
    walkers: Floats
    tick: int = 0
    control: Control = Control()  # noqa: RUF009  (frozen)
    collisions: tuple[Collision, ...] = ()


class EmbeddedSimulator:
    """The embedded world with a square camera of `size` pixels; it implements collect.simulator.Simulator.

    All draws of an episode come from one generator, seeded by (seed, scenario name); pictures draw no random
    numbers."""

    name: Final = "embedded"
    version: Final = "2"
    renderer_version: Final = RENDERER_VERSION

    def __init__(self, size: int) -> None:
        if size < 8:
            raise SemoreError(f"camera size {size} is too small; use at least 8 pixels")
        self._size = size
        self._episode: _Episode | None = None

    def reset(self, scenario: Scenario, weather: Weather, seed: int) -> Snapshot:
        """Start an episode: actors placed and at rest. SemoreError for an unknown map, road or lane, or no room."""
        rng = episode_generator(scenario, seed)
        cast = place(scenario, town(scenario.map).road, rng)
        start = dict(rng.bit_generator.state)
        return self.restore(
            WorldState(self.version, scenario, weather, cast, start, cast.ego, cast.vehicles, cast.walkers)
        )

    def step(self, control: Control) -> Snapshot:
        """Advance 0.05 s; out-of-range controls are clipped. SemoreError before the first reset."""
        return self._running().step(control)

    def save(self) -> WorldState:
        """The whole state of the running episode; later steps do not change it. SemoreError before the first reset."""
        return self._running().state()

    def restore(self, state: WorldState) -> Snapshot:
        """Go on from `state`, saved here or in another process: the same controls then give the same snapshots.

        SemoreError when it comes from another version of the world."""
        if state.version != self.version:
            raise SemoreError(
                f"the saved world is of version {state.version}, this simulator of {self.version}; reset instead"
            )
        self._episode = _Episode(state, self._size)
        return self._episode.snapshot()

    def close(self) -> None:
        """Forget the episode; harmless twice."""
        self._episode = None

    def _running(self) -> _Episode:
        if self._episode is None:
            raise SemoreError("the simulator has no episode; call reset first")
        return self._episode


class _Episode:
    """One episode's world; only the simulator above holds it."""

    def __init__(self, state: WorldState, size: int) -> None:
        self._town: Town = town(state.scenario.map)
        self._air = atmosphere(state.weather)
        self._size = size
        self._rng = np.random.Generator(np.random.PCG64())
        self._rng.bit_generator.state = copy.deepcopy(state.rng)
        self._state = state
        self._ego, self._tick = state.ego, state.tick
        self._vehicles, self._walkers = state.vehicles.copy(), state.walkers.copy()
        self._control, self._collisions = state.control, state.collisions
        kinds = [KINDS[int(kind)] for kind in state.cast.actors[:, ACTOR_COLUMN["kind"]]]
        self._build = np.array([build(kind) for kind in (EGO_KIND, *kinds)])
        self._table = self._actors()

    def state(self) -> WorldState:
        return replace(
            self._state,
            rng=copy.deepcopy(dict(self._rng.bit_generator.state)),
            ego=self._ego, tick=self._tick, control=self._control, collisions=self._collisions,
            vehicles=self._vehicles.copy(), walkers=self._walkers.copy(),
        )  # fmt: skip

    def step(self, control: Control) -> Snapshot:
        self._control = control.clipped()
        self._move()
        self._collisions = self._hits()
        self._tick += 1
        return self.snapshot()

    def _move(self) -> None:
        """Everybody moves as the last moment's positions suggest."""
        road, before, cast, scenario = self._town.road, self._ego, self._state.cast, self._state.scenario
        if len(self._walkers):
            decide = self._tick % DECISION_STEPS == 0
            coins = self._rng.random(len(self._walkers)) if decide else np.ones(len(self._walkers))
            band, left, right = scenario.walker_band, cast.walk_left, cast.walk_right
            self._walkers = walkers.walk(self._walkers, road.segments, decide, coins, band, left, right, DT)
        if len(self._vehicles):
            s, t = road.locate(before.x, before.y)
            heading = road.pose(s, 0.0)[2]
            vx, vy = before.velocity
            along = vx * math.cos(heading) + vy * math.sin(heading)
            ego = np.array([s, t, along, EGO_KIND.length, EGO_KIND.width])
            self._vehicles = vehicles.drive(
                self._vehicles, road.segments, road.length, road.driving_lanes, self._town.edges, ego, DT
            )
        self._ego = advance(before, self._control)

    def _hits(self) -> tuple[Collision, ...]:
        """Resolve every contact among ego, actors and scenery; returns those of the ego."""
        bodies, actors = self._bodies()
        movable = 1 + len(actors)
        before = bodies[:movable].copy()
        hits = collide(bodies, movable, 1 + len(self._vehicles), DT)
        events = []
        for one, other, strength in hits[:, :3]:
            if one == 0 and strength > 0.0:
                events.append(self._event(float(strength), int(other) - 1, actors))
        for fence in self._town.fences:
            strength = lean(bodies[0], self._town.road.segments, fence.t, fence.side)
            if strength > 0.0:
                events.append(Collision(strength, 0, _noun(fence.semantic)))
        touched = {int(row) for pair in hits[:, :2] for row in pair if row < movable}
        self._table = actors
        for row in sorted(touched - {0}):
            self._shove(row - 1, bodies[row], before[row], int(actors[row - 1, 1]))
        if touched - {0}:
            self._table = self._actors()
        if 0 in touched or not np.array_equal(bodies[0], before[0]):
            x, y, vx, vy, spin = bodies[0, [0, 1, 6, 7, 8]].tolist()
            self._ego = self._ego.after_hit(x, y, vx, vy, spin)
        return tuple(events)

    def _bodies(self) -> tuple[Floats, NDArray[np.float32]]:
        """Rows of contact.BODY_FIELDS for the ego, every actor and the scenery near the ego; and the table of
        actors."""
        actors = self._actors()
        s, _ = self._town.road.locate(self._ego.x, self._ego.y)
        self._near = self._town.scenery.between(s - _REACH, s + _REACH)
        still = self._town.scenery.bodies[self._near]
        count = len(actors)
        bodies = np.zeros((1 + count + len(still), 11))
        ego = self._ego
        bodies[0, [0, 1, 4, 5, 6, 7, 8]] = ego.x, ego.y, math.cos(ego.yaw), math.sin(ego.yaw), *ego.velocity, ego.spin
        bodies[: 1 + count, 2:4], bodies[: 1 + count, 9:] = self._build[:, :2], self._build[:, 2:]
        moving = bodies[1 : 1 + count]
        moving[:, :2], moving[:, 6:8] = actors[:, 2:4], actors[:, 6:8]
        moving[:, 4], moving[:, 5] = np.cos(actors[:, 5]), np.sin(actors[:, 5])
        moving[: len(self._vehicles), 8] = self._vehicles[:, vehicles.SPIN]
        for row in range(len(self._vehicles), count):
            if actors[row, _DOWN] > 0.0:  # lies along its heading
                moving[row, 2:4] = KINDS[int(actors[row, 1])].height / 2, KINDS[int(actors[row, 1])].width / 2
        bodies[1 + count :] = still
        return bodies, actors

    def _event(self, strength: float, row: int, actors: NDArray[np.float32]) -> Collision:
        """The ego's collision with actor `row`, or with the scenery behind the last actor."""
        if row < len(actors):
            return Collision(strength, int(actors[row, 0]), KINDS[int(actors[row, 1])].name)
        return Collision(strength, 0, _noun(int(self._town.scenery.tags[self._near][row - len(actors), 1])))

    def _shove(self, row: int, after: Floats, before: Floats, kind: int) -> None:
        """Actor `row` takes its change of velocity and place."""
        dx, dy, dvx, dvy = (after - before)[[0, 1, 6, 7]].tolist()
        if row < len(self._vehicles):
            heading = self._town.road.pose(self._vehicles[row, vehicles.S], 0.0)[2]
            vehicle, spin = self._vehicles[row], float(after[8])
            self._vehicles[row] = vehicles.shove(vehicle, KINDS[kind], heading, dvx, dvy, spin, dx, dy)
        else:
            walker = row - len(self._vehicles)
            fresh = self._walkers[walker, walkers.DAZE] == 0.0
            coin = float(self._rng.random()) if fresh else 1.0
            self._walkers[walker] = walkers.knock(self._walkers[walker], dvx, dvy, dx, dy, coin)

    def _actors(self) -> NDArray[np.float32]:
        """A fresh (A, 14) table of the moment, vehicles first."""
        actors = self._state.cast.actors.copy()
        count = len(self._vehicles)
        if count:
            poses = vehicles.vehicle_poses(self._vehicles, self._town.road.segments)
            actors[:count, 2:4], actors[:count, 5:8] = poses[:, :2], poses[:, 2:]
            actors[:count, _DOWN] = self._vehicles[:, vehicles.DOWN]
            actors[:count, _BRAKE] = self._vehicles[:, vehicles.BRAKE]
        for row, walker in enumerate(self._walkers, start=count):
            heading = self._town.road.pose(walker[walkers.S], 0.0)[2]
            actors[row, 2:4], actors[row, 6:8] = walker[2:4], walker[4:6]
            actors[row, 5] = heading + walker[walkers.FACING] * math.pi / 2
            actors[row, _DOWN] = walker[walkers.DOWN]
        return actors

    def snapshot(self) -> Snapshot:
        ego, actors = self._ego, self._table
        vx, vy = ego.velocity
        lane, ends = self._lane()
        look = partial(
            draw, self._town, self._air, self._size, ego.x, ego.y, ego.yaw,
            actors, self._state.cast.paint, self._state.weather.headlights, self._tick,
        )  # fmt: skip
        state = Ego(ego.x, ego.y, 0.0, ego.yaw, vx, vy, 0.0, self._control)
        return Snapshot(self._tick, state, lane, ends, self._collisions, actors.copy(), look)

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


def _noun(semantic: int) -> str:
    return SemanticClass(semantic).name.lower().replace("_", " ")
