"""What critics say beside the returns that followed: which decisions count, what is told of them, and a free road."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from semore.annotate.interfaces import FrameBatch
from semore.datasets.rollouts.schema import ACTOR_FIELDS, EGO_FIELDS, KIND_INDEX
from study.nearest import nearest
from study.value_health import Drive, Health, draw


def driven(ending: str, decisions: int = 60, **changes: object) -> Drive:
    """An episode of two simulator steps a decision and reward 1 each, on a free road."""
    step, ones = 2 * np.arange(decisions), np.ones(decisions)
    return replace(Drive(ones, ones, step, ones > 0, 2 * decisions, ending), **changes)


def test_returns_are_discounted_to_the_end():
    assert driven("stuck", 3, reward=np.array([1.0, 0.0, 4.0])).returns(0.5).tolist() == [2.0, 2.0, 4.0]


def test_before_a_time_out_only_decisions_with_enough_to_follow_count():
    assert driven("success").settled(0.5).sum() == 55  # 3/(1 − γ) = 6 decisions, the one itself among them
    assert driven("off_road").settled(0.5).all()
    assert not driven("success").settled(1.0).any()


def test_the_second_before_the_contact_that_ended_it_and_the_free_road_before():
    crashed = driven("collisions")  # 120 steps, contact in the last 20
    assert np.flatnonzero(crashed.before_collision).tolist() == list(range(40, 50))
    assert np.flatnonzero(crashed.on_free_road).tolist() == list(range(40))
    assert not driven("collisions", free=np.zeros(60, np.bool_)).on_free_road.any()
    assert not driven("off_road").before_collision.any()
    assert not driven("off_road").on_free_road.any()


def health(q: np.ndarray, returns: np.ndarray, **changes: object) -> Health:
    nothing = np.zeros(len(q), np.bool_)
    return replace(Health("run", "JayWalk", 4, 0.1, 0.9, 1, 0, 0, q, returns, nothing, nothing), **changes)


def test_numbers_of_a_right_and_of_a_useless_critic():
    returns = np.array([1.0, 2.0, 4.0])
    right = health(returns / 2 + 3, returns, before=returns > 3)
    assert (right.correlation, right.slope) == pytest.approx((1.0, 2.0))
    assert right.bias == pytest.approx(3 - returns.mean() / 2)
    assert right.cells()[-2:] == ["5.00 (4.00)", "–"]
    useless = health(np.ones(3), returns)
    assert math.isnan(useless.correlation)
    assert math.isnan(useless.slope)


def test_every_run_has_a_panel(tmp_path):
    draw([health(np.arange(3.0), np.arange(3.0)) for _ in range(5)], tmp_path / "five.png")
    assert (tmp_path / "five.png").stat().st_size > 10_000


def test_the_nearest_key_object_in_view_is_found_where_it_is():
    """A car 30 m ahead and 2 m to the right of an ego that looks along −y; a nearer one has no pixels."""
    ego = np.zeros((2, len(EGO_FIELDS)), np.float32)
    ego[:, [EGO_FIELDS.index(name) for name in ("yaw", "lane_dx", "lane_dy", "lane_width")]] = -np.pi / 2, 0, -1, 3.5
    actors = np.zeros((2, 2, len(ACTOR_FIELDS)), np.float32)
    place = [ACTOR_FIELDS.index(name) for name in ("id", "kind", "x", "y", "yaw")]
    actors[:, 0, place] = 7, KIND_INDEX["sedan"], 2.0, -30.0, -np.pi / 2
    actors[:, 1, place] = 8, KIND_INDEX["sedan"], 0.0, -10.0, -np.pi / 2
    instance = np.zeros((2, 8, 8), np.uint16)
    instance[0, :3] = 7
    unread = np.zeros((2, 0), np.uint8)
    found = nearest(FrameBatch(unread, unread, unread, instance.astype(np.uint8), instance, actors, ego))
    assert found.there.tolist() == [True, False]
    assert found.distance[0] == pytest.approx(math.hypot(2, 30), rel=1e-6)
    assert found.right[0] == pytest.approx(2.0, abs=1e-5)
    assert np.isnan([found.distance[1], found.right[1]]).all()
