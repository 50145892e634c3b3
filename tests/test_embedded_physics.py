"""The embedded world's mechanics against sums done by hand: roads, steering, impulses, walkers, traffic."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collect.embedded.contact import bump, ego_box, impulse, overlap
from collect.embedded.dynamics import EGO_KIND, GRIP, MAX_STEER, TOP_SPEED, EgoState, advance, steering_limit
from collect.embedded.road import travel
from collect.embedded.town import SPECS, town
from collect.embedded.traffic import drive, push_vehicle, vehicle_poses, walk
from collect.embedded.world import EmbeddedSimulator
from collect.scenarios import SCENARIOS, WEATHERS, WalkerSpawn
from collect.simulator import Control
from datasets.errors import SemoreError
from datasets.schema import DT, KIND_INDEX, KINDS

M = EGO_KIND.mass
DAY = WEATHERS["hard_high_light"]
angles = st.floats(-math.pi, math.pi)
near = st.floats(-3.0, 3.0)
speeds = st.floats(-25.0, 25.0)


def _box(x: float, y: float, length: float, width: float, yaw: float = 0.0) -> np.ndarray:
    return np.array([x, y, length / 2, width / 2, math.cos(yaw), math.sin(yaw)])


class TestRoad:
    @settings(max_examples=200, deadline=None)
    @given(st.sampled_from(sorted(SPECS)), st.floats(-20.0, 1.02), st.floats(-40.0, 40.0))
    def test_locate_inverts_pose(self, name: str, share: float, t: float) -> None:
        road = town(name).road
        s = share if share < 0 else share * road.length
        x, y, _ = road.pose(s, t)
        assert road.locate(x, y) == pytest.approx((s, t), abs=1e-6)

    @pytest.mark.parametrize("name", SPECS)
    def test_reference_line_is_smooth(self, name: str) -> None:
        road = town(name).road
        poses = np.array([road.pose(s, 0.0) for s in np.arange(0.0, road.length, 0.5)])
        steps = np.diff(poses, axis=0)
        np.testing.assert_allclose(np.hypot(steps[:, 0], steps[:, 1]), 0.5, atol=1e-4)
        assert np.abs(steps[:, 2]).max() <= 0.5 / 200 + 1e-9
        middle = poses[:-1, 2] + steps[:, 2] / 2
        np.testing.assert_allclose(np.arctan2(steps[:, 1], steps[:, 0]), middle, atol=1e-3)

    def test_lanes_follow_opendrive(self) -> None:
        road = town("Town01").road
        assert [road.lane_centre(lane) for lane in (-1, -2, -3, 1, 2, 3)] == [2.0, 5.0, 7.5, -2.0, -5.0, -7.5]
        right, left, beside = road.lane_at(3.9), road.lane_at(-0.1), road.lane_at(9.1)
        assert (right and right.id, left and left.id, beside) == (-1, 1, None)
        assert [travel(lane) for lane in (-4, -1, 1)] == [1, 1, -1]
        assert [town("Town04").road.lane_centre(-k) for k in (1, 2, 3, 4)] == [1.75, 5.25, 8.75, 12.25]

    def test_roads_outlast_an_episode(self) -> None:
        for scenario in SCENARIOS.values():
            assert town(scenario.map).road.length > scenario.ego.s[1] + 500 * DT * TOP_SPEED + 50

    def test_unknown_names_list_the_choices(self) -> None:
        with pytest.raises(SemoreError, match="Town01, Town04"):
            town("Town99")
        with pytest.raises(SemoreError, match="lanes are"):
            town("Town01").road.lane_centre(-9)


class TestEgo:
    def test_first_step_from_rest(self) -> None:
        after = advance(EgoState(0, 0, 0), Control(0, 1, 0))
        assert after.speed == pytest.approx((4.0 - 0.05) * DT)
        assert after.x == pytest.approx(after.speed * DT)

    def test_speed_is_governed_and_never_backward(self) -> None:
        ego = EgoState(0, 0, 0, speed=TOP_SPEED)
        for _ in range(100):
            ego = advance(ego, Control(0, 1, 0))
        assert 20 < ego.speed < TOP_SPEED
        for _ in range(100):
            ego = advance(ego, Control(0, 0, 1))
        assert ego.speed == 0.0

    def test_steering_lag_and_limit(self) -> None:
        ego = EgoState(0, 0, 0)
        lags = []
        for _ in range(3):
            ego = advance(ego, Control(1, 0, 1))
            lags.append(ego.steering)
        assert lags == pytest.approx([0.5, 0.75, 0.875])
        assert steering_limit(0.0) == MAX_STEER == pytest.approx(math.radians(35))
        assert steering_limit(11.0) == pytest.approx(0.9 * MAX_STEER)
        assert steering_limit(100.0) == pytest.approx(0.7 * MAX_STEER)

    def test_bicycle_turns_right_for_positive_steer(self) -> None:
        ego = EgoState(0, 0, 0, speed=2.0, steering=0.5)
        after = advance(ego, Control(0.5, 0, 0))
        expected = after.speed / 2.875 * math.tan(0.5 * steering_limit(after.speed)) * DT
        assert after.yaw == pytest.approx(expected)
        assert after.y > 0

    @settings(max_examples=100, deadline=None)
    @given(st.floats(0, TOP_SPEED), st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1))
    def test_lateral_acceleration_is_limited(self, speed: float, held: float, steer: float, throttle: float) -> None:
        after = advance(EgoState(0, 0, 0, speed=speed, steering=held), Control(steer, throttle, 0))
        assert abs(after.yaw / DT * after.speed) <= GRIP + 1e-9
        assert 0 <= after.speed <= TOP_SPEED


class TestContact:
    @settings(max_examples=200, deadline=None)
    @given(near, near, angles, angles, speeds, speeds)
    def test_overlap_is_symmetric(self, x: float, y: float, yaw: float, other: float, vx: float, vy: float) -> None:
        a, b = _box(0.0, 0.0, 4.7, 1.9, yaw), _box(x, y, 4.0, 2.0, other)
        for dt in (0.0, DT):
            depth, nx, ny = overlap(a, b, vx, vy, dt)
            mirror, _, _ = overlap(b, a, -vx, -vy, dt)
            assert (depth > 0) == (mirror > 0)
            if depth > 0:
                assert math.hypot(nx, ny) == pytest.approx(1.0)
                assert depth == pytest.approx(mirror, abs=1e-9)
                apart = b + np.array([nx * (depth + 1e-6), ny * (depth + 1e-6), 0, 0, 0, 0])
                assert overlap(a, apart, 0.0, 0.0, 0.0)[0] <= 0

    def test_overlap_by_hand(self) -> None:
        a = _box(0, 0, 4, 2)
        assert overlap(a, _box(3.5, 0, 4, 2), 0.0, 0.0, DT) == pytest.approx((0.5, 1.0, 0.0))
        assert overlap(a, _box(0, -1.8, 4, 2), 0.0, 0.0, DT) == pytest.approx((0.2, 0.0, -1.0))
        assert overlap(a, _box(4.1, 0, 4, 2), 0.0, 0.0, DT)[0] < 0
        assert overlap(a, _box(2.5, 0, 2, 2, math.pi / 4), 0.0, 0.0, DT)[0] == pytest.approx(2 + math.sqrt(2) - 2.5)

    def test_a_fast_hit_near_a_corner_is_frontal(self) -> None:
        a, b = _box(0, 0, 4, 2), _box(2.7, 1.0, 2, 0.4)  # 0.3 m deep lengthwise, 0.2 m sideways
        assert overlap(a, b, 0.0, 0.0, DT)[1:] == pytest.approx((0.0, 1.0))
        assert overlap(a, b, 20.0, -0.5, DT)[1:] == pytest.approx((1.0, 0.0))

    def test_impulses_by_hand(self) -> None:
        assert impulse(1845, 75, 10) == pytest.approx(1845 * 75 / 1920 * 10)
        assert impulse(1845, math.inf, 10) == pytest.approx(18450)
        assert impulse(1845, 1845, 10, restitution=1.0) == pytest.approx(18450)
        assert impulse(1845, 75, -1) == 0

    def test_rear_end_shares_the_speed(self) -> None:
        ego = EgoState(0, 0, 0, speed=20.0)
        met = bump(ego, _box(4.0, 0, 4.0, 1.8), M, 10.0, 0.0)
        assert met is not None
        assert met.impulse == pytest.approx(M / 2 * 10)
        assert (met.ego.speed, 10.0 + met.dvx) == pytest.approx((15.0, 15.0))
        depth = (EGO_KIND.length + 4.0) / 2 - 4.0
        assert (met.ego.x, met.dx) == pytest.approx((-depth / 2, depth / 2))

    def test_a_wall_stops_the_ego_and_nothing_explodes(self) -> None:
        ego, wall = EgoState(0, 0, 0, speed=10.0), _box(4.0, 0, 4.0, 8.0)
        strengths = []
        for _ in range(40):
            met = bump(ego, wall, math.inf, 0.0, 0.0)
            if met:
                ego = met.ego
                strengths.append(met.impulse)
            ego = advance(ego, Control(0, 1, 0))
        assert strengths[0] == pytest.approx(M * 10)
        assert max(strengths[1:]) <= M * 4 * DT * 1.01
        assert ego.x < 2.0 - EGO_KIND.length / 2 + 0.05

    @settings(max_examples=200, deadline=None)
    @given(near, near, angles, angles, st.floats(-25, 25), st.floats(-5, 5), speeds, speeds, st.floats(50, 15000))
    def test_momentum_is_conserved(
        self, x: float, y: float, yaw: float, turn: float, v: float, slip: float, ox: float, oy: float, mass: float
    ) -> None:  # fmt: skip
        ego = EgoState(0, 0, yaw, speed=v, slip=slip)
        met = bump(ego, _box(x, y, 4.0, 2.0, turn), mass, ox, oy)
        if met is None:
            return
        before = np.array(ego.velocity) * M + np.array([ox, oy]) * mass
        after = np.array(met.ego.velocity) * M + np.array([ox + met.dvx, oy + met.dvy]) * mass
        np.testing.assert_allclose(after, before, atol=1e-6 * M * 25)
        changed = np.array(met.ego.velocity) - np.array(ego.velocity)
        assert np.linalg.norm(changed) * M == pytest.approx(met.impulse, abs=1e-6)
        energy = [m * np.dot(u, u) for m, u in ((M, ego.velocity), (mass, (ox, oy)))]
        left = [m * np.dot(u, u) for m, u in ((M, met.ego.velocity), (mass, (ox + met.dvx, oy + met.dvy)))]
        assert sum(left) <= sum(energy) * (1 + 1e-9) + 1e-6
        moved = _box(x + met.dx, y + met.dy, 4.0, 2.0, turn)
        assert overlap(ego_box(met.ego), moved, 0.0, 0.0, DT)[0] < 1e-6


class TestWalkers:
    segments = town("Town01").road.segments

    def _walker(self, t: float, vy: float = 0.0, order: float = 0.0) -> np.ndarray:
        return np.array([[50.0, t, 50.0, t, 0.0, vy, order, 1.0, 0.0]])

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

    def test_a_hit_walker_falls_and_is_hit_once(self) -> None:
        spawn = WalkerSpawn(12, -1, (30.0, 30.0))
        scenario = replace(SCENARIOS["JayWalk"].published_start(), walkers=(spawn,), walker_speed=(1e-3, 1e-3))
        simulator = EmbeddedSimulator(16)
        simulator.reset(scenario, DAY, 0)
        shots = [simulator.step(Control(0, 1, 0)) for _ in range(120)]
        hits = [(before, after) for before, after in pairwise(shots) if after.collisions]
        assert len(hits) == 1
        before, after = hits[0]
        assert after.collisions[0].name == "pedestrian"
        assert after.impulse == pytest.approx(M * 75 / (M + 75) * before.ego.vx, rel=0.05)
        assert after.actors[0, 12] == 1.0
        assert after.actors[0, 6] == pytest.approx(after.ego.vx, rel=0.01)
        assert abs(shots[-1].actors[0, 6]) < 0.01


class TestTraffic:
    road = town("Town01").road
    far_ego = np.array([-500.0, 0.0, 0.0, 4.69, 1.85])

    def _vehicle(self, s: float, lane: int, speed: float, desired: float) -> list[float]:
        t = self.road.lane_centre(lane)
        return [s, t, speed, 0.0, travel(lane), t, desired, 4.7, 1.9, 2.6, 0.0, 0.0]

    def _run(self, vehicles: np.ndarray, steps: int, ego: np.ndarray | None = None) -> np.ndarray:
        for _ in range(steps):
            vehicles = drive(vehicles, self.road.segments, self.road.length, self.far_ego if ego is None else ego, DT)
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
        pushed = push_vehicle(row, 0.0, 0.0, 3.0, 0.1, 0.0)
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

    def test_nobody_starts_on_top_of_another(self) -> None:
        simulator = EmbeddedSimulator(16)
        for seed in range(20):
            shot = simulator.reset(SCENARIOS["HighWay"], DAY, seed)
            boxes = [_box(row[2], row[3], row[8], row[9], row[5]) for row in shot.actors.astype(float)]
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
