"""Linear probes: what they find, what they cannot know, and that the tested episode is never seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_agent import GATED, make_agent, method_settings

from study.probe import CELLS, Truth, features_of, scores
from study.ridge import constant_predictions, held_out_predictions, r2

pytestmark = pytest.mark.usefixtures("one_thread")

EPISODE = np.repeat(np.arange(6), 20)


def world(seed: int = 0) -> tuple[np.ndarray, Truth]:
    """Features that tell all but the speed, beside others that tell nothing."""
    rng = np.random.default_rng(seed)
    told = rng.normal(size=(len(EPISODE), 3))
    features = np.concatenate([told @ rng.normal(size=(3, 5)), rng.normal(size=(len(EPISODE), 20))], 1)
    there = told[:, 0] > -1.0
    distance, right = (np.where(there, column, np.nan) for column in (told[:, 1], told[:, 2]))
    speed = rng.normal(size=len(EPISODE))
    return features, Truth(there, distance, right, speed, np.zeros((len(EPISODE), 4)), EPISODE)


def test_what_features_tell_is_found_and_nothing_else():
    features, truth = world()
    found = scores(features, truth)
    assert min(found.distance, found.right) > 0.9
    assert min(found.there, found.side) > 0.9
    assert found.speed < 0.1


def test_a_constant_tells_nothing():
    _, truth = world()
    found = scores(None, truth)
    assert max(found.distance, found.right, found.speed) <= 0.0
    assert abs(found.there - 0.5) < 0.25


def test_without_enough_episodes_that_show_one_nothing_is_told_of_it():
    features, truth = world()
    hidden = truth._replace(there=truth.there & (EPISODE < 2))
    assert np.isnan(scores(features, hidden)[1:4]).all()
    assert np.isnan(scores(features, truth._replace(there=np.ones_like(truth.there))).there)


def test_an_episode_is_predicted_without_having_been_seen():
    """Targets that only their own episode could tell are not told; a changed one changes no prediction of itself."""
    rng = np.random.default_rng(1)
    own = np.eye(6)[EPISODE] + 0.01 * rng.normal(size=(len(EPISODE), 6))
    level = rng.normal(size=6)[EPISODE][:, None]
    assert r2(held_out_predictions(own, level, EPISODE)[:, 0], level[:, 0]) < 0.1
    features, truth = world()
    changed = np.where(EPISODE == 3, 100.0, truth.speed)
    before, after = (held_out_predictions(features, each[:, None], EPISODE) for each in (truth.speed, changed))
    assert np.array_equal(before[EPISODE == 3], after[EPISODE == 3])
    assert np.abs(after).max() <= 100.0
    constant = constant_predictions(changed[:, None], EPISODE)[EPISODE == 3]
    assert constant.max() < 1.0


def test_what_hardly_ever_varied_is_not_blown_up():
    features, truth = world()
    rare = np.zeros((len(EPISODE), 1))
    rare[0], rare[EPISODE == 5] = 1e-3, 1.0  # in the fit next to nothing, in the held-out episode a thousandfold
    found = scores(np.concatenate([features, rare], 1), truth)
    assert found.distance > 0.8


def test_two_episodes_are_too_few():
    with pytest.raises(ValueError, match="2 episodes are too few"):
        held_out_predictions(np.ones((4, 1)), np.ones((4, 1)), np.array([0, 0, 1, 1]))


@pytest.mark.parametrize(("method", "changes"), [("semore", {}), ("semore", GATED), ("sac", {}), ("cloning", {})])
def test_every_stage_of_a_network_is_probed(method, changes):
    agent = make_agent(settings=method_settings(method, **changes))
    found = features_of(agent, torch.randint(0, 256, (3, 9, 32, 32), dtype=torch.uint8))
    widths = {name: values.shape[1] for name, values in found.items()}
    pooled = 8 * CELLS**2
    dual = {"semantic map": pooled, "motion map (attended)": pooled, "student's mask": 64, "z_s": 8, "z_m": 8, "z": 16}
    if method == "semore" and not changes:
        dual |= {"student's mask": 256, "z_k": 8, "z": 24}
    single = {"map": pooled, "student's mask": 64}
    expected = {"semore": dual, "sac": single | {"z": 16}, "cloning": single}[method]
    assert widths == expected | {"actor's z": dual["z"] if method == "semore" else 16}
