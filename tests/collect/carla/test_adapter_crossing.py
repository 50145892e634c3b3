"""Walkers ordered about by Crossing go where those of the embedded world go."""

from __future__ import annotations

import math

import numpy as np
import pytest

from semore.collect.carla.pedestrians import Axis, PedestrianRules, Walking
from semore.collect.embedded.maps.town import town
from semore.collect.embedded.physics import walkers as embedded
from semore.datasets.rollouts.schema import DT

S, SIDES = (50.0, 180.0, 255.0, 300.0), (7.5, -7.5, 7.5, 1.0)  # two of them in a bend


@pytest.mark.parametrize("seed", range(5))
def test_the_rule_is_the_embedded_one(seed: int) -> None:
    road = town("Town01").road
    axes, rows = [], []
    for s, t in zip(S, SIDES, strict=True):
        x, y, heading = road.pose(s, 0.0)
        axes.append(Axis(x, y, heading + math.pi / 2))
        rows.append((s, t, *road.pose(s, t)[:2], 0, 0, 0, -math.copysign(1.0, t), 0, 0, 0))
    table = np.array(rows, np.float64)
    left, right = 1.5, 4.0
    ours, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
    crossing = PedestrianRules(axes, 6.0, left, right, ours)
    moved = set()
    for tick in range(400):
        orders = crossing.orders(tick, [Walking(*row[2:6]) for row in table.tolist()])
        decide = tick % embedded.DECISION_STEPS == 0
        coins = theirs.random(len(table)) if decide else np.ones(len(table))
        table = embedded.walk(table, road.segments, decide, coins, 6.0, left, right, DT)
        for number, (order, row) in enumerate(zip(orders, table.tolist(), strict=True)):
            vx, vy = row[4:6]
            if order is None:
                assert (vx, vy) == (0.0, 0.0)
            elif math.hypot(vx, vy) > 0.9 * order.speed:  # else it stands at a house, or walks its last steps to one
                assert (vx, vy) == pytest.approx(
                    (order.speed * math.cos(order.yaw), order.speed * math.sin(order.yaw)), abs=1e-6
                )
                moved.add((number, order.speed))
            else:
                assert abs(row[1]) > 9.0
    assert {speed for _, speed in moved} == {left, right}
    assert {number for number, _ in moved} == set(range(4))
    assert ours.random() == theirs.random()
