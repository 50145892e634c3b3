"""The embedded world's mechanics against sums done by hand: roads, steering, overlaps, impulses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semore.collect.embedded.maps.road import travel
from semore.collect.embedded.maps.town import SPECS, town
from semore.collect.embedded.physics.contact import FRICTION, collide, lean, overlap, strike
from semore.collect.embedded.physics.dynamics import (
    BRAKING,
    DRAG,
    EGO_KIND,
    GRIP,
    MAX_STEER,
    PULL,
    ROLLING,
    SPIN_GRIP,
    TOP_SPEED,
    EgoState,
    advance,
    steering_limit,
)
from semore.collect.scenarios import SCENARIOS
from semore.collect.simulator import Control
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import DT

M = EGO_KIND.mass
angles = st.floats(-math.pi, math.pi)
near = st.floats(-3.0, 3.0)
speeds = st.floats(-25.0, 25.0)
spins = st.floats(-3.0, 3.0)


def _box(x: float, y: float, length: float, width: float, yaw: float = 0.0) -> np.ndarray:
    """An immovable body at rest."""
    return np.array([x, y, length / 2, width / 2, math.cos(yaw), math.sin(yaw), 0, 0, 0, 0, 0])


def _body(
    x: float, y: float, vx: float, vy: float, mass: float = M, yaw: float = 0.0, spin: float = 0.0,
    size: tuple[float, float] = (4.0, 2.0),
) -> np.ndarray:  # fmt: skip
    body = _box(x, y, *size, yaw)
    turns = size[0] > 1.0  # people are pushed, not spun
    body[6:] = vx, vy, spin, 1 / mass, 12 / (mass * (size[0] ** 2 + size[1] ** 2)) if turns else 0.0
    return body


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
        assert after.speed == pytest.approx((PULL - ROLLING) * DT)
        assert after.x == pytest.approx(after.speed * DT)

    def test_speed_is_governed_and_never_backward(self) -> None:
        ego = EgoState(0, 0, 0, speed=TOP_SPEED)
        for _ in range(100):
            ego = advance(ego, Control(0, 1, 0))
        assert ego.speed == TOP_SPEED
        for _ in range(100):
            ego = advance(ego, Control(0, 0, 1))
        assert ego.speed == 0.0

    def test_pulls_and_stops_like_a_model_3(self) -> None:
        ego, steps = EgoState(0, 0, 0), 0
        while ego.speed < 60 / 3.6:
            ego, steps = advance(ego, Control(0, 1, 0)), steps + 1
        assert 2.8 < steps * DT < 4.0  # 0–60 km/h; 100 km/h would take 6.3 s, beyond the governor
        start = ego.x
        while ego.speed > 0:
            ego = advance(ego, Control(0, 0, 1))
        assert ego.x - start == pytest.approx((60 / 3.6) ** 2 / (2 * (BRAKING + ROLLING)), rel=0.05)

    def test_rolls_out_against_the_air(self) -> None:
        after = advance(EgoState(0, 0, 0, speed=20.0), Control())
        assert after.speed == pytest.approx(20.0 - (ROLLING + DRAG * 400) * DT)

    def test_a_spin_dies_on_its_tyres(self) -> None:
        ego, turned = EgoState(0, 0, 0, speed=10.0, spin=2.0), 0.0
        for _ in range(40):
            ego = advance(ego, Control())
        turned = ego.yaw
        assert ego.spin == 0.0
        assert turned == pytest.approx(2.0**2 / (2 * SPIN_GRIP), rel=0.15)

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
                apart = b + np.array([nx * (depth + 1e-6), ny * (depth + 1e-6), *[0] * 9])
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

    def test_central_hits_by_hand(self) -> None:
        for mass, expected in ((75.0, M * 75 / (M + 75) * 10), (M, M / 2 * 10), (math.inf, M * 10)):
            ego = _body(0, 0, 10, 0)
            other = _box(3.9, 0, 4, 2) if math.isinf(mass) else _body(3.9, 0, 0, 0, mass)
            bodies = np.stack([ego, other])
            hits = collide(bodies, 1 if math.isinf(mass) else 2, 2, DT)
            assert hits.tolist() == [[0, 1, pytest.approx(expected), 1.0, 0.0]]  # the normal points at the second
            assert bodies[0, 6] == pytest.approx(0.0 if math.isinf(mass) else M / (M + mass) * 10)
            assert bodies[0, 8] == bodies[1, 8] == 0.0
            assert bodies[0, 0] == pytest.approx(-0.1 if math.isinf(mass) else -0.1 * mass / (M + mass))

    def test_bodies_that_part_are_only_moved(self) -> None:
        bodies = np.stack([_body(0, 0, -5, 0), _body(3.9, 0, 5, 0)])
        assert collide(bodies, 2, 2, DT)[0, 2] == 0.0
        assert bodies[:, 6].tolist() == [-5, 5]
        assert bodies[1, 0] - bodies[0, 0] == pytest.approx(4.0)

    def test_a_hit_off_the_middle_spins_both(self) -> None:
        bodies = np.stack([_body(0, 0, 10, 0), _body(3.9, 1.2, 0, 0)])
        (hit,) = collide(bodies, 2, 2, DT)
        assert hit[2] < M / 2 * 10  # a central hit would exchange more
        assert bodies[0, 8] > 0.1  # the right corner is held back: the nose swings to the right
        assert bodies[1, 8] > 0.1

    def test_friction_drags_at_most_its_share(self) -> None:
        walker = _body(2.15, 0.0, 0.0, 4.0, 75.0, size=(0.4, 0.6))
        bodies = np.stack([_body(0, 0, 15, 0), walker])
        collide(bodies, 2, 2, DT)
        assert bodies[1, 7] == pytest.approx(bodies[0, 7] + bodies[0, 8] * 2.0, abs=0.3)  # held by the bumper
        fast = np.stack([_body(0, 0, 0.5, 0), _body(2.19, 0.0, 0.0, 8.0, 75.0, size=(0.4, 0.6))])
        strength = collide(fast, 2, 2, DT)[0, 2]
        dragged = (8.0 - fast[1, 7]) * 75
        assert dragged == pytest.approx(FRICTION * strength / math.hypot(1, FRICTION), rel=1e-6)

    def test_people_slip_past_one_another(self) -> None:
        people = np.stack([_body(0, 0, 0, 1, 75), _body(0.2, 0, 0, -1, 75)])
        assert len(collide(people, 2, 0, DT)) == 0
        assert len(collide(people, 2, 1, DT)) == 1

    def test_a_wall_stops_the_ego_and_nothing_explodes(self) -> None:
        ego, wall = EgoState(0, 0, 0, speed=10.0), _box(4.0, 0, 4.0, 8.0)
        strengths = []
        for _ in range(40):
            body = _body(
                ego.x, ego.y, *ego.velocity, yaw=ego.yaw, spin=ego.spin, size=(EGO_KIND.length, EGO_KIND.width)
            )
            bodies = np.stack([body, wall])
            strengths += collide(bodies, 1, 1, DT)[:, 2].tolist()
            ego = advance(ego.after_hit(*bodies[0, [0, 1, 6, 7, 8]].tolist()), Control(0, 1, 0))
        assert strengths[0] == pytest.approx(M * 10)
        assert max(strengths[1:]) <= M * PULL * DT * 1.01
        assert ego.x < 2.0 - EGO_KIND.length / 2 + 0.05

    @settings(max_examples=300, deadline=None)
    @given(near, near, angles, angles, speeds, speeds, speeds, speeds, spins, spins, st.floats(50, 15000))
    def test_momentum_is_conserved(
        self, x: float, y: float, yaw: float, turn: float, ax: float, ay: float, bx: float, by: float,
        spin: float, other_spin: float, mass: float,
    ) -> None:  # fmt: skip
        before = np.stack([_body(0, 0, ax, ay, yaw=yaw, spin=spin), _body(x, y, bx, by, mass, turn, other_spin)])
        after = before.copy()
        hits = collide(after, 2, 2, DT)
        if len(hits) == 0:
            np.testing.assert_array_equal(after, before)
            return
        changed = (after - before)[:, 6:8] / before[:, 9:10]
        np.testing.assert_allclose(changed.sum(axis=0), 0.0, atol=1e-6 * M * 25)
        assert np.linalg.norm(changed[0]) == pytest.approx(hits[0, 2], abs=1e-6)

        def angular(bodies: np.ndarray) -> float:
            places = before[:, :2]  # the impulse acts where they met; the bodies are moved apart afterwards
            arms = places[:, 0] * bodies[:, 7] - places[:, 1] * bodies[:, 6]
            return float((arms / bodies[:, 9] + bodies[:, 8] / bodies[:, 10]).sum())

        def energy(bodies: np.ndarray) -> float:
            return float((bodies[:, 6:8] ** 2 / bodies[:, 9:10]).sum() + (bodies[:, 8] ** 2 / bodies[:, 10]).sum())

        assert angular(after) == pytest.approx(angular(before), abs=1e-6 * M * 100)
        assert energy(after) <= energy(before) * (1 + 1e-9) + 1e-6
        assert overlap(after[0], after[1], 0.0, 0.0, 0.0)[0] < 1e-6

    def test_mirrored_hits_are_mirrored(self) -> None:
        right = np.stack([_body(0, 0, 12, 1, yaw=0.1), _body(3.5, 0.9, 2, -1, 900, -0.2)])
        left = np.stack([_body(0, 0, 12, -1, yaw=-0.1), _body(3.5, -0.9, 2, 1, 900, 0.2)])
        strengths = [collide(bodies, 2, 2, DT)[0, 2] for bodies in (right, left)]
        assert strengths[0] == pytest.approx(strengths[1])
        flip = np.array([1, -1, 1, 1, 1, -1, 1, -1, -1, 1, 1])
        np.testing.assert_allclose(left, right * flip, atol=1e-12)

    def test_a_fence_turns_the_ego_along_itself(self) -> None:
        road = town("Town01").road
        body = _body(50.0, 0.0, 10.0 * math.cos(0.2), 10.0 * math.sin(0.2), yaw=0.2)
        body[1] = 3.0 - (body[2] * math.sin(0.2) + body[3] * math.cos(0.2)) + 0.02  # its right front corner is 2 cm in
        strength = lean(body, road.segments, 3.0, 1)
        assert strength > 0
        assert body[8] < 0  # the nose swings left, along the fence
        assert body[1] < 3.0
        assert lean(_body(50.0, 0.0, 10.0, 0.0), road.segments, 3.0, 1) == 0.0

    def test_strike_reports_what_it_exchanges(self) -> None:
        ego, other = _body(0, 0, 10, 3), _body(3.9, 0.0, 0, 0, 500)
        reported = strike(ego, other, 0.1, 1.0, 0.0, 2.0, 0.0)
        assert np.hypot(*(other[6:8] * 500)) == pytest.approx(reported)
