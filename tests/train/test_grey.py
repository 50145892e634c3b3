"""A policy trained on grey pictures: nothing else ever reaches its network, in training or when it acts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import TINY, asked, make_data, run_whole

from semore.collect.network_policy import NetworkPolicy
from semore.collect.policies import load_policy
from semore.datasets.resize import GREY
from semore.evaluate.policies import POLICIES
from semore.train.encoder import DualStream

pytestmark = pytest.mark.filterwarnings("ignore:No complete tensor", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def run(tmp_path_factory, one_thread) -> tuple[Path, list[float]]:
    """A run trained with `grey`, and every value that its network was shown."""
    shown: set[float] = set()
    forward = DualStream.forward

    def watching(self, static, motion, *knowledge):
        if not torch.compiler.is_compiling():
            shown.update(static.float().unique().tolist())
            shown.update((motion.float().unique() + GREY / 255).tolist())
        return forward(self, static, motion, *knowledge)

    schedule = replace(TINY.schedule, updates=6, offline_updates=2, refresh_every=4, validate_every=0)
    data = make_data(tmp_path_factory.mktemp("data"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DualStream, "forward", watching)
        settings, _ = run_whole(asked(data, tmp_path_factory.mktemp("runs"), grey=True, schedule=schedule))
    return settings.folder, sorted(shown)


def test_its_network_was_shown_nothing_but_grey(run):
    _, shown = run
    # export_policy traces the network with black pictures.
    assert {round(value * 255) for value in shown} <= {0, GREY}
    assert GREY in {round(value * 255) for value in shown}


@pytest.mark.parametrize("row", ["trained", "untrained", "trained_grey", "trained_frozen"])
def test_its_actions_do_not_depend_on_the_picture(run, row):
    policy = POLICIES[row](run[0])
    policy.start([1, 2, 3])
    observations = np.random.default_rng(0).integers(0, 256, (3, 9, 32, 32), np.uint8)
    actions = policy.act([0, 1, 2], observations, [{}] * 3)
    assert np.array_equal(actions, np.repeat(actions[:1], 3, 0))


def test_its_view_says_so_and_without_that_it_would_see(run):
    policy = load_policy(run[0])
    assert policy.view["grey"] is True
    observations = np.random.default_rng(0).integers(0, 256, (2, 9, 32, 32), np.uint8)
    masks = policy.student_mask(observations)
    assert np.array_equal(masks[0], masks[1])
    program = torch.export.load(run[0] / "policy.pt2").module()
    masks = NetworkPolicy(program, {**policy.view, "grey": False}).student_mask(observations)
    assert not np.array_equal(masks[0], masks[1])
