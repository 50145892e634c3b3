"""Hits: momentum given and taken, impulses told of, and bodies that stay out of one another."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from semore.collect.scenarios import Scenario, WalkerSpawn
from semore.collect.simulator import Control, Simulator, Snapshot
from semore.datasets.rollouts.schema import DT, KINDS
from simulator_contract.base import (
    COAST,
    EGO_MASS,
    GAS,
    Contract,
    column,
    creeping,
    drive,
    ego_velocity,
    kinds_of,
    lane_keeper,
)  # fmt: skip

VEHICLES = pytest.mark.parametrize("kind", ["sedan", "sports car", "fire truck", "cyclist"])


class Hits(Contract):
    """What collisions do. Only the pair's linear momentum is checked: whether bodies spin is the implementation's."""

    @VEHICLES
    def test_momentum_passes_from_the_ego_to_whom_it_hits(self, simulator: Simulator, kind: str) -> None:
        before, after, row = self.rear_end(simulator, kind, 0.0)
        self.assert_exchange(before, after, row)
        mass = kinds_of(after)[row].mass
        assert after.impulse > 0.2 * EGO_MASS * mass / (EGO_MASS + mass) * math.hypot(*ego_velocity(before))

    @VEHICLES
    def test_slanting_hits_too(self, simulator: Simulator, kind: str) -> None:
        for steer in (0.02, -0.02):
            self.assert_exchange(*self.rear_end(simulator, kind, steer))

    def test_mirrored_hits_are_equal(self, simulator: Simulator) -> None:
        if not self.mirrors:
            pytest.skip(f"{self.name} does not promise mirror symmetry")
        hits = [self.rear_end(simulator, "sedan", steer) for steer in (0.03, -0.03)]
        right, left = (after.impulse for _, after, _ in hits)
        assert right == pytest.approx(left, rel=self.tolerances.mirror)

    def test_a_hit_in_motion_is_the_difference_that_counts(self, simulator: Simulator) -> None:
        """Running into one that drives away at about half the speed gives about half the impulse."""
        _, standing, _ = self.rear_end(simulator, "sedan", 0.0)
        flowing = replace(creeping("sedan"), speed_difference=(30.0, 30.0))
        scenario = self.stage(flowing, 12.0)
        shots = drive(simulator, scenario, 0, 300, lane_keeper)
        before, after = next(pair for pair in pairwise(shots) if pair[1].collisions)
        closing = ego_velocity(before) - column(before, "vx", "vy")[0]
        self.assert_exchange(before, after, 0)
        assert after.impulse < standing.impulse
        assert after.impulse == pytest.approx(
            EGO_MASS / 2 * math.hypot(*closing), rel=0.5, abs=EGO_MASS * self.tolerances.acceleration * DT
        )

    def test_somebody_on_foot(self, simulator: Simulator) -> None:
        """Knocked down by a hard hit; pushed, but solid and on their feet after a soft one."""
        if "JayWalk" not in self.scenarios:
            pytest.skip(f"{self.name} has no walkers")
        for speed, falls in ((12.0, True), (1.5, False)):
            before, after = self.walker_hit(simulator, speed)
            self.assert_exchange(before, after, 0)
            assert after.collisions[0].name == "pedestrian"
            downs = [after]
            for _ in range(60):
                downs.append(simulator.step(Control(0.0, 0.3, 0.0)))
            assert any(column(shot, "down")[0] == 1.0 for shot in downs[:2]) == falls
            for shot in downs:
                if column(shot, "down")[0] == 0.0:
                    assert depth_inside(shot, 0) <= self.tolerances.overlap

    @VEHICLES
    def test_vehicles_are_solid(self, simulator: Simulator, kind: str) -> None:
        _, after, row = self.rear_end(simulator, kind, 0.0)
        shots = [after, *(simulator.step(GAS) for _ in range(60))]
        for shot in shots:
            if column(shot, "down")[row] == 0.0:
                assert depth_inside(shot, row) <= self.tolerances.overlap

    def test_every_jump_of_velocity_is_reported(self, simulator: Simulator, scenario: Scenario) -> None:
        """Blind driving into whatever comes: the impulses told of account for all that tyres and engine don't."""
        told = 0
        for seed in range(3):
            for steer in (0.0, 0.1, -0.1):
                shots = drive(simulator, scenario, seed, 150, lambda step, shot, s=steer: Control(s, 1.0))
                for before, after in pairwise(shots):
                    change = EGO_MASS * math.hypot(*(ego_velocity(after) - ego_velocity(before)))
                    assert change <= after.impulse * 1.02 + EGO_MASS * self.tolerances.acceleration * DT
                    ids = set(column(after, "id").astype(int).tolist())
                    for hit in after.collisions:
                        assert hit.impulse > 0
                        assert hit.other == 0 or hit.other in ids
                        name = {int(row[0]): kind.name for row, kind in zip(after.actors, kinds_of(after), strict=True)}
                        assert hit.name == name.get(hit.other, hit.name) != ""
                        told += 1
        assert told > 0 or not scenario.vehicles

    # How hits are staged and checked

    def rear_end(self, simulator: Simulator, kind: str, steer: float) -> tuple[Snapshot, Snapshot, int]:
        """Snapshots before and after the ego, coasting after a run-up, first meets a creeping vehicle of `kind`, and
        that one's row. `steer` is held for the run-up's last steps, to hit it off its middle."""
        group, gap = creeping(kind), 30.0

        def run_up(step: int, shot: Snapshot) -> Control:
            left = math.hypot(*(column(shot, "x", "y")[0] - (shot.ego.x, shot.ego.y)))
            if left > 16.0:
                return lane_keeper(step, shot)
            return Control(steer) if left > 11.0 else COAST

        for before, after in pairwise(drive(simulator, self.stage(group, gap), 0, 200, run_up)):
            if after.collisions:
                assert {hit.other for hit in after.collisions} == {int(column(after, "id")[0])}
                return before, after, 0
        pytest.fail(f"the ego never met the {kind} {gap} m ahead of it")

    def walker_hit(self, simulator: Simulator, speed: float) -> tuple[Snapshot, Snapshot]:
        """Snapshots before and after the ego meets, at about `speed` m/s, somebody who stands in its lane."""
        _, road, lane, s = self.straight
        walker = (WalkerSpawn(road, lane, (s + 30.0, s + 30.0)),)
        scenario = self.stage(None, 0.0, walkers=walker, walker_speed=(1e-3, 1e-3))

        def approach(step: int, shot: Snapshot) -> Control:
            fast = math.hypot(*ego_velocity(shot)) > speed
            return COAST if fast else replace(lane_keeper(step, shot), throttle=1.0 if speed > 5.0 else 0.3)

        for before, after in pairwise(drive(simulator, scenario, 0, 800, approach)):
            if after.collisions:
                return before, after
        pytest.fail("the ego never met the walker 30 m ahead of it")

    def assert_exchange(self, before: Snapshot, after: Snapshot, row: int) -> None:
        """What the ego lost in the step, the actor in `row` gained, and that is the impulse told of; up to friction."""
        other = kinds_of(after)[row].mass
        lost = EGO_MASS * (ego_velocity(before) - ego_velocity(after))
        gained = other * (column(after, "vx", "vy")[row] - column(before, "vx", "vy")[row])
        friction = self.tolerances.grip * DT
        share = self.tolerances.impulse * after.impulse
        assert math.hypot(*(lost - gained)) <= friction * (EGO_MASS + other) + share
        assert math.hypot(*gained) == pytest.approx(after.impulse, abs=friction * other + share)
        assert math.hypot(*lost) == pytest.approx(after.impulse, abs=friction * EGO_MASS + share)


def depth_inside(shot: Snapshot, row: int) -> float:
    """How deep (m, ≤ 0 apart) the ego's box and that of the actor in `row` lie in one another, along the shallowest of
    their sides' directions."""
    sedan = KINDS[0]
    x, y, yaw, length, width = column(shot, "x", "y", "yaw", "length", "width")[row]
    boxes = ((shot.ego.x, shot.ego.y, shot.ego.yaw, sedan.length, sedan.width), (x, y, yaw, length, width))
    shallowest = math.inf
    for turn in (shot.ego.yaw, shot.ego.yaw + math.pi / 2, yaw, yaw + math.pi / 2):
        axis = np.array([math.cos(turn), math.sin(turn)])
        reach = sum(
            (long * abs(math.cos(turn - own)) + wide * abs(math.sin(turn - own))) / 2 for *_, own, long, wide in boxes
        )
        apart = abs(float(np.dot(axis, (x - shot.ego.x, y - shot.ego.y))))
        shallowest = min(shallowest, reach - apart)
    return shallowest
