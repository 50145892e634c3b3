"""The embedded simulator as a whole: lanes, road ends, scenery, and state that can be saved and taken up again."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from semore.collect.embedded.maps.town import town
from semore.collect.embedded.physics.dynamics import EGO_KIND, TOP_SPEED
from semore.collect.embedded.world import EmbeddedSimulator
from semore.collect.scenarios import SCENARIOS, WEATHERS
from semore.collect.simulator import Control
from semore.datasets.errors import SemoreError

M = EGO_KIND.mass
DAY = WEATHERS["hard_high_light"]


class TestWorld:
    def test_the_opposite_lane_points_back(self) -> None:
        start = SCENARIOS["JayWalk"].published_start()
        simulator = EmbeddedSimulator(16)
        shot = simulator.reset(replace(start, ego=replace(start.ego, jitter_offset=0.0, s=(50.0, 50.0))), DAY, 0)
        for _ in range(400):
            lane = shot.lane
            if lane is None or lane.lane == 1:
                break
            shot = simulator.step(Control(-0.15, 0.3, 0.0))
        assert lane is not None
        assert lane.lane == 1
        assert lane.dx == pytest.approx(-1.0)
        assert shot.ego.vx * lane.dx < 0  # so progress along it is negative
        assert -2.0 <= lane.offset < -1.5  # just over the middle line, which lies to the left of that lane's travel

    def test_road_ends(self) -> None:
        start = SCENARIOS["JayWalk"].published_start()
        length = town("Town01").road.length
        simulator = EmbeddedSimulator(16)
        for s, ends in ((length - 1.0, True), (length - 10.0, False), (0.5, False)):
            there = replace(start, ego=replace(start.ego, s=(s, s)), walkers=())
            assert simulator.reset(there, DAY, 0).road_ends is ends

    def test_scenery_is_immovable(self) -> None:
        simulator = EmbeddedSimulator(16)
        simulator.reset(SCENARIOS["HighWay"], DAY, 0)
        events = [e for _ in range(200) for e in simulator.step(Control(1.0, 1.0, 0.0)).collisions]
        rails = [e for e in events if e.name == "guard rail"]
        assert rails
        assert all(e.other == 0 for e in rails)

    def test_sliding_along_a_rail_never_stops_dead(self) -> None:
        simulator = EmbeddedSimulator(16)
        start = SCENARIOS["HighWay"].published_start()
        alone = replace(start, vehicles=(), ego=replace(start.ego, lanes=(-4,), s=(300.0, 300.0)))
        shots = [simulator.reset(alone, DAY, 0)]
        road = town("Town04").road
        for _ in range(400):
            ego = shots[-1].ego
            heading = road.pose(road.locate(ego.x, ego.y)[0], 0.0)[2]
            shots.append(simulator.step(Control(0.5 * (heading + 0.06 - ego.yaw), 1.0, 0.0)))  # leans on the rail
        touching = [shot for shot in shots if shot.collisions]
        assert touching
        assert max(shot.impulse for shot in touching) < 0.1 * M * TOP_SPEED
        assert math.hypot(shots[-1].ego.vx, shots[-1].ego.vy) > 10

    def test_a_saved_state_is_not_touched_by_later_steps(self) -> None:
        simulator = EmbeddedSimulator(16)
        simulator.reset(SCENARIOS["HighWay"], DAY, 1)
        for _ in range(60):
            simulator.step(Control(0.0, 1.0, 0.0))
        state = simulator.save()
        frozen = pickle.dumps(state)
        futures = []
        for _ in range(2):
            simulator.restore(state)
            futures.append([simulator.step(Control(0.0, 1.0, 0.0)) for _ in range(80)])
        assert any(shot.collisions for shot in futures[0])
        for one, two in zip(*futures, strict=True):
            assert (one.ego, one.collisions) == (two.ego, two.collisions)
            np.testing.assert_array_equal(one.actors, two.actors)
        assert pickle.dumps(state) == frozen

    def test_a_state_of_another_version_is_refused(self) -> None:
        simulator = EmbeddedSimulator(16)
        with pytest.raises(SemoreError, match="call reset first"):
            simulator.save()
        simulator.reset(SCENARIOS["JayWalk"], DAY, 0)
        with pytest.raises(SemoreError, match="version 1, this simulator of 2"):
            simulator.restore(replace(simulator.save(), version="1"))

    def test_a_hit_car_is_pushed_into_the_next(self) -> None:
        simulator = EmbeddedSimulator(16)
        simulator.reset(SCENARIOS["HighWay"], DAY, 1)
        collided = set()
        for _ in range(300):
            shot = simulator.step(Control(0.0, 1.0, 0.0))
            collided |= {event.other for event in shot.collisions}
            moving = shot.actors[shot.actors[:, 2] > -1000].astype(float)
            gaps = np.hypot(moving[:, None, 2] - moving[:, 2], moving[:, None, 3] - moving[:, 3])
            assert gaps[~np.eye(len(moving), dtype=bool)].min() > 1.6  # nobody drives through anybody
        assert collided
