"""Casting: who a scenario puts where, of which kind, with which lights; start poses with and without jitter."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from semore.collect.scenarios import EgoStart, Scenario
from semore.collect.simulator import Lane, Simulator
from simulator_contract.base import DAY, Contract, column, drive, kinds_of, weave


class Casting(Contract):
    """What a reset makes of a Scenario. Places are compared with where the same simulator puts the ego on a lane."""

    def test_counts_and_kinds(self, simulator: Simulator, scenario: Scenario) -> None:
        for seed in range(4):
            kinds = kinds_of(simulator.reset(scenario, DAY, seed))
            names = [kind.name for kind in kinds]
            assert names.count("pedestrian") == len(scenario.walkers)
            assert len(names) == sum(group.count for group in scenario.vehicles) + len(scenario.walkers)
            for group in scenario.vehicles:
                others = {kind for other in scenario.vehicles if other is not group for kind in other.kinds}
                own = [name for name in names if name in group.kinds and name not in others]
                assert len(own) <= group.count
                assert len(own) == group.count or others & set(group.kinds)

    def test_rows_keep_their_order_and_size(self, simulator: Simulator, scenario: Scenario) -> None:
        shots = drive(simulator, scenario, 5, 40, weave)
        ids = column(shots[0], "id")
        assert len(set(ids.tolist())) == len(ids)
        assert ((ids > 0) & (ids < 2**16) & (ids == ids.round())).all()
        for shot in shots:
            for name in ("id", "kind", "length", "width", "height"):
                np.testing.assert_array_equal(column(shot, name), column(shots[0], name))
            assert set(column(shot, "lights", "down", "brake").ravel().tolist()) <= {0.0, 1.0}
        for row, kind in zip(column(shots[0], "length", "width", "height"), kinds_of(shots[0]), strict=True):
            np.testing.assert_allclose(row, (kind.length, kind.width, kind.height), rtol=1e-6)

    def test_vehicles_stand_on_their_lane_at_their_s(self, simulator: Simulator, scenario: Scenario) -> None:
        for group in scenario.vehicles:
            for lane in group.lanes:
                for s in group.s:
                    x, y, frame = self.place(simulator, scenario, group.road, lane, s)
                    alone = replace(group, count=1, lanes=(lane,), s=(s, s))
                    shot = simulator.reset(replace(scenario.published_start(), vehicles=(alone,), walkers=()), DAY, 0)
                    assert column(shot, "x", "y")[0] == pytest.approx((x, y), abs=self.tolerances.place)
                    yaw = column(shot, "yaw")[0]
                    assert (math.cos(yaw), math.sin(yaw)) == pytest.approx((frame.dx, frame.dy), abs=0.02)

    def test_vehicles_keep_to_their_ranges_and_use_them(self, simulator: Simulator, scenario: Scenario) -> None:
        for group in scenario.vehicles:
            ends = [[self.place(simulator, scenario, group.road, lane, s)[:2] for s in group.s] for lane in group.lanes]
            alone = replace(scenario, vehicles=(group,), walkers=())
            along = []
            for seed in range(5):
                for where in column(simulator.reset(alone, DAY, seed), "x", "y"):
                    farthest = [max(math.hypot(*(where - end)) for end in pair) for pair in ends]
                    assert min(farthest) <= group.s[1] - group.s[0] + self.tolerances.place
                    along.append(math.hypot(*(where - ends[0][0])))
            assert np.ptp(along) > 0.3 * (group.s[1] - group.s[0])

    def test_walkers_stand_on_their_side(self, simulator: Simulator, scenario: Scenario) -> None:
        shot = simulator.reset(replace(scenario.published_start(), vehicles=()), DAY, 3)
        for spawn, where in zip(scenario.walkers, column(shot, "x", "y"), strict=True):
            right = spawn.lane < 0
            x, y, frame = self.place(simulator, scenario, spawn.road, -1 if right else 1, spawn.s[0])
            way = 1.0 if right else -1.0  # lanes to the left travel against s
            along = way * ((where[0] - x) * frame.dx + (where[1] - y) * frame.dy)
            outwards = (where[1] - y) * frame.dx - (where[0] - x) * frame.dy
            near = self.tolerances.place
            assert -near <= along <= spawn.s[1] - spawn.s[0] + near
            assert outwards > frame.width / 2

    @pytest.mark.parametrize("lights", [0.0, 1.0])
    def test_lights_follow_their_probability(self, simulator: Simulator, scenario: Scenario, lights: float) -> None:
        groups = tuple(replace(group, lights=lights) for group in scenario.vehicles)
        for seed in range(3):
            shot = simulator.reset(replace(scenario, vehicles=groups, walkers=()), DAY, seed)
            assert (column(shot, "lights") == lights).all()

    def test_published_start_has_no_jitter(self, simulator: Simulator, scenario: Scenario) -> None:
        shots = [simulator.reset(scenario, DAY, seed) for seed in range(6)]
        offsets = [shot.lane.offset for shot in shots if shot.lane]
        assert len(offsets) == len(shots)
        limit = scenario.ego.jitter_offset + self.tolerances.place
        assert 0.05 < np.abs(offsets).max() <= limit
        for seed in range(6):
            shot = simulator.reset(scenario.published_start(), DAY, seed)
            lane = shot.lane
            assert lane is not None
            assert lane.offset == pytest.approx(0.0, abs=0.02)
            assert (lane.dx, lane.dy) == pytest.approx((math.cos(shot.ego.yaw), math.sin(shot.ego.yaw)), abs=0.01)
            assert (lane.road, lane.lane in scenario.ego.lanes) == (scenario.ego.road, True)
            assert scenario.ego.s[0] - 0.05 <= lane.s <= scenario.ego.s[1] + 0.05

    def test_nobody_starts_inside_the_ego(self, simulator: Simulator, scenario: Scenario) -> None:
        for seed in range(5):
            shot = simulator.reset(scenario, DAY, seed)
            away = column(shot, "x", "y") - (shot.ego.x, shot.ego.y)
            assert (np.hypot(*away.T) > 3.0).all()
            assert simulator.step(weave(0, shot)).collisions == ()

    def place(
        self, simulator: Simulator, scenario: Scenario, road: int, lane: int, s: float
    ) -> tuple[float, float, Lane]:
        """x, y (m) and frame of the middle of a driving lane at s, as told by an ego put there."""
        alone: dict[str, Any] = {"vehicles": (), "walkers": ()}
        shot = simulator.reset(replace(scenario, ego=EgoStart(road, (lane,), (s, s), 0.0, 0.0), **alone), DAY, 0)
        assert shot.lane is not None
        assert (shot.lane.road, shot.lane.lane, shot.lane.s) == (road, lane, pytest.approx(s, abs=0.05))
        return shot.ego.x, shot.ego.y, shot.lane
