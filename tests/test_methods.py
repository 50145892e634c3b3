"""Semore and its rivals: each whole update against the plain one, what learns from what, and what their files say."""

from __future__ import annotations

import pytest
import torch
from plain_update import PlainTrainer
from tiny_agent import METHODS, QUIET, make_agent, make_batch, method_settings

from train.agent import Agent
from train.agent_settings import AgentSettings, Weights


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """The networks are so small that a second thread only waits for the first."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def double(monkeypatch):
    """Everything in double precision, where sums in another order still agree to nine digits."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    yield
    torch.set_default_dtype(before)


def stirred(settings: AgentSettings, seed: int = 0) -> Agent:
    """An agent with open gates, whose targets are apart from its networks: mixing them up would show."""
    agent = make_agent(seed, settings=settings)
    with torch.no_grad():
        for value in agent.target.parameters():
            value.add_(0.05 * torch.randn_like(value))
        for backbone in (agent.backbone, agent.target["backbone"]):
            if hasattr(backbone.attention, "gates"):
                backbone.attention.gates.copy_(torch.tensor([0.5, -0.4]))
    return agent


OFFLINE, ONLINE = Weights(2.5, True, 0.3), Weights(1.5, False, 0.3)
CASES = [
    *((method, {}, QUIET) for method in METHODS),
    ("semore", {}, OFFLINE),
    ("semore", {}, ONLINE),
    ("semore", {"transition_latent": "fused", "fusion": "concat", "semantic_loss": "balanced_l1"}, QUIET),
    ("semore", {"attention": "joint", "semantic_loss": "plain_l1"}, OFFLINE),
    ("semore", {"attention": "none"}, QUIET),
    ("semore", {"mask": "cached"}, QUIET),
    ("semore", {"mask": "zeros", "semantic_loss": "feature_l1"}, QUIET),
    ("semore", {"mask": "zeros", "attention": "joint", "semantic_loss": "nt_xent", "semantic_weight": 0.05}, ONLINE),
    ("sac", {}, OFFLINE),
    ("drq", {"shifts": 1}, ONLINE),
    ("drq", {}, OFFLINE),
    ("curl", {"shifts": 2}, QUIET),
    ("deepmdp", {}, ONLINE),
    ("cloning", {"shifts": 2}, QUIET),
    ("cloning", {"streams": "dual", "mask": "zeros"}, QUIET),
]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("method", "changes", "weights"), CASES)
def test_a_whole_update_is_the_plain_one(method, changes, weights):
    """Every parameter and loss after each of three updates, the second of which moves actor, α and targets."""
    agent = stirred(method_settings(method, clip=0.5, **changes))
    plain = PlainTrainer(agent, method)
    for update in range(3):
        batch = make_batch(5, seed=update)
        batch = batch._replace(
            **{name: part.double() for name, part in batch._asdict().items() if part.is_floating_point()}
        )
        torch.manual_seed(update)
        found = agent.update(batch, weights)
        torch.manual_seed(update)
        for name, value in plain.step(batch, weights).items():
            assert float(found[name]) == pytest.approx(value, rel=1e-9, abs=1e-12), (update, name)
        expected = plain.net.state_dict()
        for name, value in agent.state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=1e-8, atol=1e-9, msg=f"{name}, update {update}")
