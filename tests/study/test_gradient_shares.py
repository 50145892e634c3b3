"""Each loss's gradient, taken apart from the agent's own update."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import tiny_agent
import torch
from tiny_agent import QUIET, TINY, make_agent, make_batch

from semore.train.agent_settings import LossWeights
from study.gradient_shares import Share, gradients, rows, shares

pytestmark = pytest.mark.usefixtures("one_thread")

CLONES = LossWeights(cloning=2.0, cloning_shapes_encoder=True, student_share=0.5)


def own_gradients(agent: torch.nn.Module, weights: LossWeights) -> dict[str, torch.Tensor]:
    """What the optimiser of the agent itself is given, by part of the encoder."""
    found = tiny_agent.gradients(copy.deepcopy(agent), make_batch(), weights, seed=3)
    parts: dict[str, list[torch.Tensor]] = {}
    for name, value in found.items():
        if name.startswith(("backbone.", "neck.")):
            part = name.split(".")[1] if name.startswith("backbone.") else "neck"
            parts.setdefault(part, []).append(value.flatten())
    return {part: torch.cat(values) for part, values in parts.items()}


def test_the_losses_gradients_add_up_to_the_updates_and_leave_the_agent_as_it_was():
    agent = make_agent(gates=(0.3, 0.3))
    before = copy.deepcopy(agent.state_dict())
    found = gradients(agent, make_batch(), CLONES, seed=3)
    assert list(found) == ["q", "transition", "reward", "semantic", "cloning"]
    whole = own_gradients(agent, CLONES)
    assert whole.keys() == found["q"].keys()
    for part, gradient in whole.items():
        together = torch.stack([each[part] for each in found.values()]).sum(0)
        torch.testing.assert_close(together, gradient, rtol=1e-3, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in agent.state_dict().items())


def test_q_has_what_an_agent_without_auxiliaries_has():
    settings = replace(TINY, encoder=replace(TINY.encoder, mask="zeros"))
    agent = make_agent(gates=(0.3, 0.3), settings=settings)
    alone = make_agent(gates=(0.3, 0.3), settings=settings, auxiliaries=())
    alone.load_state_dict({name: value for name, value in agent.state_dict().items() if "auxiliaries" not in name})
    found, expected = gradients(agent, make_batch(), QUIET, seed=3)["q"], own_gradients(alone, QUIET)
    for part in ("semantic_stream", "motion_stream", "neck"):
        assert expected[part].norm() > 0
        torch.testing.assert_close(found[part], expected[part], rtol=1e-3, atol=1e-5)


def test_a_weight_weighs_and_what_a_loss_does_not_reach_it_has_no_share_of():
    light, heavy = (make_agent(semantic_weight=weight) for weight in (1.0, 4.0))
    one, four = (gradients(agent, make_batch(), QUIET)["semantic"] for agent in (light, heavy))
    torch.testing.assert_close(4 * one["semantic_stream"], four["semantic_stream"], rtol=1e-3, atol=1e-5)
    found = shares(light, make_batch, QUIET, batches=2)
    assert {loss for loss, share in found["student_head"].items() if share.norm} == {"semantic"}
    assert found["student_head"]["semantic"].share == 1.0
    assert math.isnan(found["student_head"]["semantic"].cosine)
    assert found["motion_stream"]["semantic"].norm == 0.0
    assert math.isnan(found["mask_encoder"]["q"].share)  # behind gates that are shut
    assert sum(share.share for share in found["neck"].values()) == pytest.approx(1.0)
    assert found["neck"]["q"].cosine == pytest.approx(1.0, abs=1e-6)


def test_the_table_leaves_out_what_nobody_teaches():
    closed = Share(0.0, math.nan, math.nan)
    found = {
        "neck": {"q": Share(3.0, 0.75, 1.0), "semantic": Share(1.0, 0.25, -0.5)},
        "mask_encoder": {"q": closed, "semantic": closed},
    }
    header, lines = rows("run", found)
    assert header == ["run", "part", "q", "semantic"]
    assert lines == [["run", "neck", "75% (3)", "25% (1) / -0.50"]]
