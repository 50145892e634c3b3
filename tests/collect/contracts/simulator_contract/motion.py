"""Motion: identity, ticks, controls, poses that integrate velocities, and the frame everything is told in."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from semore.collect.scenarios import Scenario
from semore.collect.simulator import Control, Simulator, simulator_identity
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import DT
from simulator_contract.base import BRAKE, DAY, Contract, column, drive, ego_velocity, lane_keeper, weave


class Motion(Contract):
    """How the ego and the others move while nothing hits the ego."""

    def test_says_what_it_is(self, simulator: Simulator) -> None:
        assert simulator.name == self.name
        assert all(isinstance(value, str) and value for value in simulator_identity(simulator).values())

    def test_a_step_before_the_first_reset_is_refused(self) -> None:
        simulator = self.make_simulator(16)
        with pytest.raises(SemoreError, match="reset"):
            simulator.step(Control())
        simulator.close()

    def test_close_twice(self, simulator: Simulator) -> None:
        simulator.reset(self.stage(None, 0.0), DAY, 0)
        simulator.close()
        simulator.close()

    def test_ticks_count_steps(self, simulator: Simulator, scenario: Scenario) -> None:
        for _ in range(2):
            assert [shot.tick for shot in drive(simulator, scenario, 1, 4, weave)] == [0, 1, 2, 3, 4]

    def test_everything_starts_at_rest(self, simulator: Simulator, scenario: Scenario) -> None:
        shot = simulator.reset(scenario, DAY, 4)
        assert np.abs(ego_velocity(shot)).max() == pytest.approx(0.0, abs=0.01)
        np.testing.assert_allclose(column(shot, "vx", "vy"), 0.0, atol=0.01)
        assert (shot.collisions, shot.impulse, shot.road_ends) == ((), 0.0, False)

    def test_applied_control_is_reported(self, simulator: Simulator) -> None:
        simulator.reset(self.stage(None, 0.0), DAY, 0)
        for control in (Control(-0.25, 0.5, 0.0), Control(1.0, 0.0, 1.0), Control()):
            assert simulator.step(control).ego.control == pytest.approx(control)

    @pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
    def test_a_control_that_is_no_number_is_refused_and_moves_nothing(self, simulator: Simulator, wrong: float) -> None:
        simulator.reset(self.stage(None, 0.0), DAY, 0)
        for control in (Control(wrong, 1.0, 0.0), Control(0.0, wrong, 0.0), Control(0.0, 0.0, wrong)):
            with pytest.raises(SemoreError, match=r"control .*finite numbers, not .*(nan|inf)"):
                simulator.step(control)
        assert simulator.step(Control(0.5, 0.0, 0.0)).tick == 1

    def test_pose_integrates_velocity(self, simulator: Simulator, scenario: Scenario) -> None:
        shots = drive(simulator, scenario, 2, 60, weave)
        near, turns = self.tolerances.position, self.tolerances.yaw_rate
        for before, after in pairwise(shots):
            if after.collisions:
                break
            moved = np.array([after.ego.x - before.ego.x, after.ego.y - before.ego.y])
            np.testing.assert_allclose(moved, ego_velocity(after) * DT, atol=near)
            assert abs(math.remainder(after.ego.yaw - before.ego.yaw, math.tau)) <= turns * DT
            speed = math.hypot(*ego_velocity(after))
            if speed > 2.0:
                course = math.atan2(after.ego.vy, after.ego.vx)
                assert abs(math.remainder(course - after.ego.yaw, math.tau)) <= self.tolerances.slip
        assert after.tick > 20
        assert speed > 2

    def test_actors_poses_integrate_their_velocities(self, simulator: Simulator, scenario: Scenario) -> None:
        moved = False
        for before, after in pairwise(drive(simulator, scenario, 2, 60, lambda step, shot: BRAKE)):
            step = column(after, "x", "y") - column(before, "x", "y")
            wanted = column(after, "vx", "vy") * DT
            np.testing.assert_allclose(step, wanted, atol=self.tolerances.actor_position)
            moved |= bool((np.abs(wanted) > 0.02).any())
        assert moved

    def test_velocity_changes_only_as_fast_as_tyres_allow(self, simulator: Simulator, scenario: Scenario) -> None:
        """A jump without a reported collision would be a hit that nobody is told of."""
        for before, after in pairwise(drive(simulator, scenario, 6, 100, lane_keeper)):
            if not after.collisions:
                change = ego_velocity(after) - ego_velocity(before)
                assert math.hypot(*change) <= self.tolerances.acceleration * DT

    def test_positive_steer_turns_right(self, simulator: Simulator) -> None:
        """Left-handed frame: the yaw grows, and the ego leaves its lane towards positive offsets."""
        for steer in (0.1, -0.1):
            first, *_, last = drive(
                simulator, self.stage(None, 0.0), 0, 40, lambda step, shot, s=steer: Control(s, 1.0)
            )
            assert (last.ego.yaw - first.ego.yaw) * steer > 0
            ego = first.ego
            right = (last.ego.y - ego.y) * math.cos(ego.yaw) - (last.ego.x - ego.x) * math.sin(ego.yaw)
            assert right * steer > 0
            assert first.lane
            assert last.lane is None or last.lane.lane != first.lane.lane or last.lane.offset * steer > 0

    def test_throttle_speeds_up_and_brake_stops(self, simulator: Simulator) -> None:
        shots = drive(simulator, self.stage(None, 0.0), 0, 60, lane_keeper)
        assert 3.0 < math.hypot(*ego_velocity(shots[-1])) < 30.0
        for _ in range(60):
            shot = simulator.step(BRAKE)
        assert math.hypot(*ego_velocity(shot)) < 0.1

    def test_lane_frame(self, simulator: Simulator) -> None:
        _, road, lane, s = self.straight
        shots = drive(simulator, self.stage(None, 0.0), 0, 60, lane_keeper)
        for shot in shots:
            found = shot.lane
            assert found is not None
            assert (found.road, found.lane) == (road, lane)
            assert math.hypot(found.dx, found.dy) == pytest.approx(1.0, abs=1e-6)
            travelled = math.hypot(shot.ego.x - shots[0].ego.x, shot.ego.y - shots[0].ego.y)
            assert abs(found.s - s) == pytest.approx(travelled, abs=self.tolerances.place)
            assert abs(found.offset) < found.width / 2

    def test_lane_is_none_off_the_road(self, simulator: Simulator) -> None:
        shot = simulator.reset(self.stage(None, 0.0), DAY, 0)
        assert shot.lane is not None
        for _ in range(200):
            shot = simulator.step(Control(1.0, 0.5, 0.0))
            if shot.lane is None:
                break
        assert shot.lane is None
