"""The benchmark's plain form learns what the shared one does, and the benchmark tells all it promises."""

from __future__ import annotations

import pytest
import torch

from perf import train as bench
from perf.plain_update import PlainTrainer
from perf.train_convolutions import flops
from perf.train_gradients import frozen_update
from perf.train_rivals import DrQv2
from perf.train_stack import Stack, make_agent, make_batches
from semore.train.agent import Agent
from semore.train.agent_settings import LossWeights

TINY = Stack(size=32, filters=4, batch=4)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("whole", [False, True])
def test_the_plain_form_has_the_gradients_and_losses_of_the_shared_one(whole):
    """On this stack and in single precision; every method in double precision is in tests/train/test_methods.py."""
    batch, agent = make_batches(TINY, whole, count=1)[0], make_agent(Agent, TINY, whole)
    (shared, losses), (plain, plain_losses) = (frozen_update(each, batch) for each in (agent, PlainTrainer(agent)))
    assert shared.keys() == plain.keys()
    for name, gradient in plain.items():
        assert gradient.any(), name
        torch.testing.assert_close(shared[name], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()), msg=name)
    for name, value in plain_losses.items():
        assert losses[name] == pytest.approx(value, rel=1e-4), name


def test_a_frozen_update_leaves_the_agent_as_it_was():
    agent, batch = make_agent(Agent, TINY), make_batches(TINY, whole=False, count=1)[0]
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    frozen_update(agent, batch)
    assert all(torch.equal(before[name], value) for name, value in agent.state_dict().items())


def test_the_stack_is_the_rivals():
    stack = Stack()
    assert (stack.side, stack.pooling, stack.grid(whole=True)) == (35, 5, 7)
    agent = make_agent(Agent, TINY)
    convolutions = [layer for layer in agent.backbone.streams()["motion"] if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.stride[0] for layer in convolutions] == [2, 1, 1, 1]
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    assert agent.backbone.grid == TINY.side == 9


def test_a_plain_update_computes_more():
    """Of the convolutions: 7 forward and 4 backward passes against 3 and 1."""
    batch, agent = make_batches(TINY, whole=False, count=1)[0], make_agent(Agent, TINY)
    shared, plain = (
        flops(lambda each=each: each.update(batch, LossWeights())).convolutions for each in (agent, PlainTrainer(agent))
    )
    assert 2.0 < plain / shared < 3.0


def test_the_drqv2_style_rival_learns_a_batch():
    batch = make_batches(TINY, whole=False, count=1)[0]
    torch.manual_seed(0)
    rival = DrQv2(TINY, hidden=32, latent=8)
    for optimizer in rival.optimizers[:2]:
        optimizer.param_groups[0]["lr"] = 3e-3
    first, *_, last = [float(rival.update(batch)["critic"]) for _ in range(60)]
    assert last < 0.5 * first


def test_the_benchmark_tells_what_it_promises():
    found = bench.measure(TINY, rounds=1)
    for name in ("plain_loop", "lightning", "fp32", "bf16", "unshared", "unshared_whole", "single", "drqv2_style"):
        assert found[name] > 0, name
    assert found["sb3_sac_same_stack"] is None or found["sb3_sac_same_stack"] > 0
    assert found["convolution_peak_gflops"] > 0
    assert 0 < found["ratios"]["convolutions_of_peak"].median < 1
    assert found["lightning_overhead_ms"] > 0
    gradients = found["gradients"]
    assert gradients["same_parameters"]
    assert gradients["shared_unshared_max"] <= gradients["shared_unshared_bound"]
    assert gradients["bf16_cosine_min"] >= gradients["bf16_cosine_bound"]
    assert gradients["bf16_loss_max"] <= gradients["bf16_loss_bound"]
    assert len(list(bench.figures(found))) > 15
