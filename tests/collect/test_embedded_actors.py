"""The embedded world's other people: walkers, traffic, where they start, and what a hit does to them."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semore.collect.embedded.maps.road import travel
from semore.collect.embedded.maps.town import town
from semore.collect.embedded.physics.contact import overlap
from semore.collect.embedded.physics.dynamics import EGO_KIND
from semore.collect.embedded.physics.vehicles import BRAKE, LANE_T, SPEED, TURN, S, T, drive, push, vehicle_poses
from semore.collect.embedded.physics.walkers import DAZE, DOWN, FACING, RETREAT, VX, VY, knock, walk
from semore.collect.embedded.world import EmbeddedSimulator
from semore.collect.scenarios import SCENARIOS, WEATHERS, WalkerSpawn
from semore.collect.simulator import Control
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import DT, KIND_INDEX, KINDS

M = EGO_KIND.mass
DAY = WEATHERS["hard_high_light"]


class TestWalkers:
    segments = town("Town01").road.segments

    def _walker(self, t: float, vy: float = 0.0, order: float = 0.0) -> np.ndarray:
        return np.array([[50.0, t, 50.0, t, 0.0, vy, order, 1.0, 0.0, 0.0, 0.0]])

    def _step(self, walkers: np.ndarray, decide: bool, coin: float) -> np.ndarray:
        return walk(walkers, self.segments, decide, np.array([coin]), 6.0, 2.0, 3.0, DT)

    def test_waits_beyond_the_band_until_the_coin_falls(self) -> None:
        for t in (7.5, -7.5):
            assert self._step(self._walker(t), True, 0.9)[0, 1] == t
            assert self._step(self._walker(t), False, 0.1)[0, 1] == t
        assert self._step(self._walker(7.5), True, 0.1)[0, 5] == pytest.approx(-2.0)
        assert self._step(self._walker(-7.5), True, 0.1)[0, 5] == pytest.approx(3.0)

    def test_keeps_its_direction_inside(self) -> None:
        assert self._step(self._walker(0.0, vy=0.5), True, 0.0)[0, 5] == pytest.approx(3.0)
        assert self._step(self._walker(0.0, vy=-0.5), True, 0.0)[0, 5] == pytest.approx(-2.0)
        assert self._step(self._walker(6.0), False, 1.0)[0, 6] == -1.0  # the band's right edge belongs to it
        assert self._step(self._walker(-6.0), False, 1.0)[0, 6] == 0.0  # its left edge does not

    def test_an_order_persists_across_the_road(self) -> None:
        walkers = self._step(self._walker(7.5), True, 0.0)
        for _ in range(200):
            walkers = self._step(walkers, False, 0.0)
        assert walkers[0, 1] < -9.0  # over the road and on, up to the houses
        assert walkers[0, 5] == 0.0

    def test_the_fallen_slide_to_rest(self) -> None:
        walkers = self._walker(0.0, vy=0.0)
        walkers[0, 4], walkers[0, 8] = 10.0, 1.0
        for _ in range(100):
            walkers = self._step(walkers, True, 0.0)
        assert walkers[0, 4] == walkers[0, 5] == 0.0
        assert walkers[0, 2] - 50.0 == pytest.approx(10.0**2 / (2 * 6.9), abs=0.3)

    def test_a_soft_hit_freezes_or_sends_back(self) -> None:
        for coin, retreats in ((0.2, True), (0.8, False)):
            hit = knock(self._walker(1.0, vy=-2.0, order=-1.0)[0], 2.0, 0.0, 0.1, 0.0, coin)
            hit[FACING] = -1.0
            assert hit[DOWN] == 0.0
            hit = knock(self._walker(1.0, vy=-2.0, order=-1.0)[0], 2.0, 0.0, 0.1, 0.0, coin) if retreats else hit
            walkers = hit[None]
            walkers[0, FACING] = -1.0
            walkers[0, RETREAT] = 1.0 if retreats else 0.0
            for _ in range(int(1.6 / DT)):
                walkers = self._step(walkers, True, 0.9)
            assert (walkers[0, VY] > 1.0) == retreats  # back to the right, where it came from
            assert retreats or walkers[0, VX] == walkers[0, VY] == 0.0

    def test_who_is_pushed_on_is_not_dazed_anew(self) -> None:
        walker = self._walker(1.0, vy=-2.0, order=-1.0)[0]
        walker[FACING] = -1.0
        once = knock(walker, 3.0, 0.0, 0.0, 0.0, 0.2)
        again = knock(once, 0.3, 0.0, 0.0, 0.0, 0.9)
        assert (once[RETREAT], again[RETREAT]) == (1.0, 1.0)
        assert again[DAZE] == once[DAZE]
        assert knock(once, 5.0, 0.0, 0.0, 0.0, 0.9)[DOWN] == 1.0

    def test_a_hard_hit_fells_and_the_fallen_stay_in_the_way(self) -> None:
        spawn = WalkerSpawn(12, -1, (30.0, 30.0))
        scenario = replace(SCENARIOS["JayWalk"].published_start(), walkers=(spawn,), walker_speed=(1e-3, 1e-3))
        simulator = EmbeddedSimulator(16)
        simulator.reset(scenario, DAY, 0)
        shots = [simulator.step(Control(0, 1, 0)) for _ in range(120)]
        hits = [(before, after) for before, after in pairwise(shots) if after.collisions]
        before, after = hits[0]
        assert after.collisions[0].name == "pedestrian"
        assert after.impulse == pytest.approx(M * 75 / (M + 75) * before.ego.vx, rel=0.05)
        assert after.actors[0, 12] == 1.0
        assert after.actors[0, 6] == pytest.approx(after.ego.vx, rel=0.02)
        assert len(hits) > 20  # who does not brake pushes the body along
        assert max(later.impulse for _, later in hits[1:]) < 0.2 * after.impulse

    def test_braking_leaves_the_victim(self) -> None:
        spawn = WalkerSpawn(12, -1, (30.0, 30.0))
        scenario = replace(SCENARIOS["JayWalk"].published_start(), walkers=(spawn,), walker_speed=(1e-3, 1e-3))
        simulator = EmbeddedSimulator(16)
        shot = simulator.reset(scenario, DAY, 0)
        events, hit = 0, False
        for _ in range(160):
            shot = simulator.step(Control(0, 0, 1) if hit else Control(0, 1, 0))
            hit = hit or bool(shot.collisions)
            events += len(shot.collisions)
        assert hit
        assert events < 5
        assert abs(shot.actors[0, 6]) < 0.01


class TestTraffic:
    road, edges = town("Town01").road, town("Town01").edges
    far_ego = np.array([-500.0, 0.0, 0.0, 4.69, 1.85])

    def _vehicle(self, s: float, lane: int, speed: float, desired: float) -> list[float]:
        t = self.road.lane_centre(lane)
        return [s, t, speed, 0.0, travel(lane), t, desired, 4.7, 1.9, 2.6, *[0.0] * 7]

    def _run(self, vehicles: np.ndarray, steps: int, ego: np.ndarray | None = None) -> np.ndarray:
        for _ in range(steps):
            vehicles = drive(
                vehicles, self.road.segments, self.road.length, self.road.driving_lanes, self.edges,
                self.far_ego if ego is None else ego, DT,
            )  # fmt: skip
        return vehicles

    def test_reaches_its_speed_in_its_direction(self) -> None:
        start = np.array([self._vehicle(300, -1, 0, 10), self._vehicle(300, 1, 0, 10)])
        after = self._run(start, 400)
        np.testing.assert_allclose(after[:, 2], 10.0, rtol=0.01)
        assert after[0, 0] > 400
        assert after[1, 0] < 200
        poses = vehicle_poses(after, self.road.segments)
        for s, way, pose in zip(after[:, 0], after[:, 4], poses, strict=True):
            heading = self.road.pose(s, 0.0)[2]
            assert math.cos(pose[2] - heading) == pytest.approx(way)
            assert pose[3:] == pytest.approx((way * 10 * math.cos(heading), way * 10 * math.sin(heading)), rel=0.02)

    def test_stops_behind_a_standing_ego(self) -> None:
        ego = np.array([200.0, 2.0, 0.0, 4.69, 1.85])
        after = self._run(np.array([self._vehicle(120, -1, 12, 12)]), 400, ego)
        gap = 200.0 - after[0, 0] - (4.69 + 4.7) / 2
        assert 1.0 < gap < 4.0

    def test_a_pushed_vehicle_slides_rests_and_returns(self) -> None:
        row = np.array(self._vehicle(100, -1, 8, 8))
        pushed = push(row, 0.0, 0.0, 3.0, 0.0, 0.1, 0.0)
        assert pushed[[0, 3, 10]] == pytest.approx([100.1, 3.0, 3.0])
        stopped = self._run(pushed[None], 50)
        assert stopped[0, 2:4] == pytest.approx([0.0, 0.0])
        assert stopped[0, 1] == pytest.approx(2.0 + 3.0**2 / 12, abs=0.1)
        back = self._run(stopped, 300)
        assert back[0, 1] == pytest.approx(2.0, abs=0.05)
        assert back[0, 2] > 7

    def test_leaves_at_the_end_of_the_road(self) -> None:
        after = self._run(np.array([self._vehicle(5, 1, 10, 10)]), 200)
        assert after[0, 11] == 1.0
        assert vehicle_poses(after, self.road.segments)[0, 0] < -1000

    def test_a_car_turned_across_the_road_is_a_wreck(self) -> None:
        row = push(np.array(self._vehicle(100, -1, 8, 8)), 0.0, -8.0, 1.0, 6.0, 0.0, 0.0)
        after = self._run(row[None], 400)
        assert abs(after[0, TURN]) > 1.0
        assert after[0, SPEED] == 0.0
        assert after[0, S] == pytest.approx(100.0, abs=0.5)
        assert vehicle_poses(after, self.road.segments)[0, 2] == pytest.approx(after[0, TURN])

    def test_nothing_slides_through_the_houses(self) -> None:
        row = push(np.array(self._vehicle(100, -1, 8, 8)), 0.0, 0.0, 20.0, 0.0, 0.0, 0.0)
        assert self._run(row[None], 40)[0, T] == pytest.approx(self.edges[1] - 1.9 / 2)

    def test_brake_lights_shine_while_it_slows(self) -> None:
        ego = np.array([200.0, 2.0, 0.0, 4.69, 1.85])
        vehicles, lit = np.array([self._vehicle(120, -1, 12, 12)]), []
        for _ in range(200):
            before = vehicles[0, SPEED]
            vehicles = self._run(vehicles, 1, ego)
            lit.append((vehicles[0, BRAKE], before - vehicles[0, SPEED]))
        assert {brake for brake, _ in lit} == {0.0, 1.0}
        assert all(slowing > 0.5 * DT for brake, slowing in lit if brake)


class TestOvertaking:
    road, edges = town("Town04").road, town("Town04").edges
    far_ego = np.array([-500.0, 0.0, 0.0, 4.69, 1.85])

    def _vehicle(self, s: float, lane: int, speed: float, desired: float) -> list[float]:
        t = self.road.lane_centre(lane)
        return [s, t, speed, 0.0, 1.0, t, desired, 4.7, 1.9, 2.6, *[0.0] * 7]

    def _watch(self, vehicles: np.ndarray, ego: np.ndarray | None = None) -> np.ndarray:
        """(600, V, 17): every step of half a minute."""
        steps = []
        for _ in range(600):
            vehicles = drive(
                vehicles, self.road.segments, self.road.length, self.road.driving_lanes, self.edges,
                self.far_ego if ego is None else ego, DT,
            )  # fmt: skip
            steps.append(vehicles)
        return np.array(steps)

    def _never_touch(self, steps: np.ndarray) -> None:
        for a in range(steps.shape[1]):
            for b in range(a):
                beside = np.abs(steps[:, a, T] - steps[:, b, T]) < 1.9
                assert (np.abs(steps[:, a, S] - steps[:, b, S])[beside] > 4.7).all()

    def test_passes_on_the_left_and_keeps_its_speed(self) -> None:
        steps = self._watch(np.array([self._vehicle(150, -3, 18, 18), self._vehicle(200, -3, 10, 10)]))
        assert steps[-1, 0, S] > steps[-1, 1, S] + 20
        assert steps[-1, 0, SPEED] == pytest.approx(18, rel=0.05)
        assert steps[-1, 0, LANE_T] == self.road.lane_centre(-2)
        assert (np.abs(np.diff(steps[:, 0, T])) / DT < 1.5).all()
        assert np.abs(steps[:, 0, TURN]).max() > 0.03  # one sees it turn
        self._never_touch(steps)

    def test_follows_where_there_is_no_room(self) -> None:
        slow = [self._vehicle(200, lane, 10, 10) for lane in (-1, -2, -3, -4)]
        steps = self._watch(np.array([self._vehicle(150, -3, 18, 18), *slow]))
        assert steps[-1, 0, S] < steps[-1, 3, S]
        assert steps[-1, 0, SPEED] == pytest.approx(10, rel=0.05)
        self._never_touch(steps)

    def test_does_not_cut_in_front_of_the_ego(self) -> None:
        ego = np.array([150.0, self.road.lane_centre(-2), 0.0, 4.69, 1.85])
        beside = self._watch(np.array([self._vehicle(150, -4, 18, 18), self._vehicle(180, -4, 0, 0.1)])[:, :], ego)
        assert set(beside[:, 0, LANE_T]) <= {self.road.lane_centre(lane) for lane in (-4, -3)}

    @settings(max_examples=15, deadline=None)
    @given(st.integers(0, 10_000))
    def test_a_full_highway_never_crashes_by_itself(self, seed: int) -> None:
        simulator = EmbeddedSimulator(8)
        simulator.reset(SCENARIOS["HighWay"], DAY, seed)
        start = simulator.save().vehicles
        self._never_touch(self._watch(start))


class TestPlacement:
    def test_nobody_starts_on_top_of_another(self) -> None:
        simulator = EmbeddedSimulator(16)
        for seed in range(20):
            shot = simulator.reset(SCENARIOS["HighWay"], DAY, seed)
            boxes = [
                np.array([row[2], row[3], row[8] / 2, row[9] / 2, math.cos(row[5]), math.sin(row[5])])
                for row in shot.actors.astype(float)
            ]
            for i, a in enumerate(boxes):
                assert math.hypot(a[0] - shot.ego.x, a[1] - shot.ego.y) > 8
                assert all(overlap(a, b, 0.0, 0.0, 0.0)[0] <= 0 for b in boxes[:i])

    def test_a_full_road_is_refused(self) -> None:
        crowded = SCENARIOS["HighWay"]
        crowded = replace(crowded, vehicles=(replace(crowded.vehicles[0], count=200),))
        with pytest.raises(SemoreError, match="no room for 200"):
            EmbeddedSimulator(16).reset(crowded, DAY, 0)

    def test_vehicles_meet_their_ranges(self) -> None:
        simulator = EmbeddedSimulator(16)
        scenario = SCENARIOS["HighBeam"]
        for seed in range(5):
            shot = simulator.reset(scenario, DAY, seed)
            kinds = [KINDS[int(kind)].name for kind in shot.actors[:, 1]]
            assert kinds[0] == "cyclist"
            assert 30 <= shot.actors[0, 2] <= 35
            assert (shot.actors[1:, 11] == 1).all()
            assert shot.actors[0, 11] == 0
            assert set(kinds[1:]) <= set(scenario.vehicles[1].kinds)
            assert (shot.actors[1:, 3] < 0).all()
        assert KIND_INDEX["cyclist"] == shot.actors[0, 1]
