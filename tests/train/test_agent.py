"""The update: whose gradient reaches what and what moves when; acting, and the exported policy. Whole updates are in
test_methods.py."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_agent import ENCODER, QUIET, SIZE, changed, gradients, make_agent, make_batch

from semore.collect.policies import load_policy
from semore.train.agent import Agent
from semore.train.agent_settings import LossWeights
from semore.train.checkpoint import export_policy
from semore.train.schedule import ScheduleSettings

pytestmark = pytest.mark.usefixtures("one_thread")


def test_closed_gates_pass_no_gradient_to_the_knowledge_path_but_get_one_themselves():
    found = gradients(make_agent(), make_batch())
    for name, gradient in found.items():
        behind = name.startswith(("backbone.mask_encoder", "backbone.attention"))
        if behind and "gates" not in name:
            assert not gradient.any(), name
    assert (found["backbone.attention.gates"] != 0).all()


def test_open_gates_pass_gradient_to_every_part():
    found = gradients(make_agent(gates=(0.5, -0.5)), make_batch())
    for part in (
        *("backbone.mask_encoder.0.weight", "backbone.mask_encoder.2.weight", "backbone.attention.position"),
        *(
            f"backbone.attention.{who}_asks.{what}.weight"
            for who in ("motion", "known")
            for what in ("query", "output")
        ),
        *(f"backbone.attention.{who}_asks.key_value.weight" for who in ("motion", "known")),
    ):
        assert found[part].abs().sum() > 0, part
    silent = {name for name, gradient in found.items() if not gradient.any()}
    assert not silent, silent


def test_after_ten_updates_the_gates_have_moved_and_the_knowledge_path_learns():
    agent, batch = make_agent(), make_batch()
    for _ in range(10):
        agent.update(batch, QUIET)
    assert (agent.backbone.attention.gates.abs() > 1e-3).all()
    found = gradients(agent, batch)
    assert found["backbone.mask_encoder.0.weight"].any()
    assert found["backbone.attention.motion_asks.query.weight"].any()


@pytest.mark.parametrize("cloning", [0.0, 2.5])
def test_the_actor_step_changes_the_actor_alone(cloning):
    """Against the same update with the actor step left out: everything of the critic side is the same, bit for bit."""
    weights, batch = replace(QUIET, cloning=cloning), make_batch()
    states = []
    for every in (1, 1000):
        agent = make_agent(actor_every=every, gates=(0.5, -0.5))
        before = copy.deepcopy(agent.state_dict())
        torch.manual_seed(1)
        agent.update(batch, weights)
        states.append(agent.state_dict())
    assert changed(states[1], states[0]) == {"actor", "actor_neck", "log_alpha", "target"}
    assert changed(before, states[1]) == {
        *("backbone.semantic_stream", "backbone.motion_stream", "backbone.student_head", "backbone.mask_encoder"),
        *("backbone.attention", "neck", "q1", "q2", "transition", "reward"),
    }


@pytest.mark.parametrize("weights", [QUIET, LossWeights(2.5, True, 0.3), LossWeights(2.5, False, 0.3)])
def test_no_gradient_is_left_over_after_an_update(weights):
    agent = make_agent()
    for _ in range(3):
        agent.update(make_batch(), weights)
        assert [name for name, own in agent.named_parameters() if own.grad is not None and own.grad.any()] == []


def test_what_the_actor_step_did_to_the_critics_does_not_leak_into_the_next_one():
    """Two agents at the same weights, one just after an actor step: the next critic gradient is the same."""
    agent = make_agent(gates=(0.5, -0.5), actor_every=1)
    agent.update(make_batch(), QUIET)
    other = make_agent()
    other.load_state_dict(agent.state_dict())
    one, two = gradients(agent, make_batch(seed=3)), gradients(other, make_batch(seed=3))
    for name in one:
        assert torch.equal(one[name], two[name]), name


def test_targets_lerp_on_every_second_update_and_never_learn():
    agent = make_agent()
    for update in range(1, 7):
        before = copy.deepcopy(agent.target.state_dict())
        agent.update(make_batch(seed=update), QUIET)
        online = agent.state_dict()
        for name, now in agent.target.state_dict().items():
            rate = 0.1 if name.startswith(("backbone", "neck")) else 0.3
            expected = before[name] + rate * (online[name] - before[name]) if update % 2 == 0 else before[name]
            torch.testing.assert_close(now, expected, rtol=1e-5, atol=1e-7)
            assert update % 2 == 0 or torch.equal(now, before[name])
        assert not any(value.requires_grad or value.grad is not None for value in agent.target.parameters())
    optimised = {id(value) for opt in agent.optimizers for group in opt.param_groups for value in group["params"]}
    moved = {id(part) for flat in agent.flats if id(flat.values) in optimised for part in flat.parts}
    assert not moved & {id(value) for value in agent.target.parameters()}
    assert moved == {id(value) for value in agent.parameters() if value.requires_grad}


def test_no_parameter_is_on_two_sides():
    agent = make_agent()
    steered = [id(part) for flat in agent.flats for part in flat.parts]
    assert len(steered) == len(set(steered))


def test_the_semantic_loss_teaches_the_semantic_stream_and_the_student_head_only():
    """λ_sem from 1 to next to nothing, with the student's mask in the attention and the gates open: nothing else may
    notice."""
    weights = replace(QUIET, student_share=1.0)
    with_loss, without = (
        gradients(make_agent(gates=(0.5, -0.5), semantic_weight=weight), make_batch(), weights)
        for weight in (1.0, 1e-30)
    )
    assert changed(without, with_loss) == {"backbone.semantic_stream", "backbone.student_head"}
    assert without["backbone.student_head.weight"].abs().max() < 1e-25


def test_the_cloning_term_reaches_the_backbone_in_the_offline_phase_alone():
    none = gradients(make_agent(gates=(0.5, -0.5)), make_batch())
    later = gradients(make_agent(gates=(0.5, -0.5)), make_batch(), replace(QUIET, cloning=2.5))
    assert changed(none, later) == set()
    offline = gradients(make_agent(gates=(0.5, -0.5)), make_batch(), LossWeights(2.5, True, 0.5))
    # The actor's detour leaves neck, critics and heads alone.
    parts = {"semantic_stream", "motion_stream", "mask_encoder", "attention"}
    assert changed(none, offline) == {f"backbone.{part}" for part in parts}


def test_what_stands_in_an_invalid_mask_is_never_seen():
    batch = make_batch()
    other = batch._replace(mask=torch.where(batch.mask_valid[:, :, None, None], batch.mask, 1.0 - batch.mask))
    weights = replace(QUIET, student_share=0.0)
    one, two = (gradients(make_agent(gates=(0.5, -0.5)), each, weights) for each in (batch, other))
    assert changed(one, two) == set()
    seen = batch._replace(mask=1.0 - batch.mask)
    assert "neck" in changed(one, gradients(make_agent(gates=(0.5, -0.5)), seen, weights))


def test_with_share_one_the_cached_mask_serves_the_semantic_loss_only():
    batch, weights = make_batch(), replace(QUIET, student_share=1.0)
    flipped = batch._replace(mask=1.0 - batch.mask)
    one, two = (gradients(make_agent(gates=(0.5, -0.5)), each, weights) for each in (batch, flipped))
    assert changed(one, two) == {"backbone.semantic_stream", "backbone.student_head"}


@pytest.mark.parametrize(
    ("changes", "start", "end"), [({"mask": "own"}, 0.0, 0.5), ({}, 1.0, 1.0)], ids=["own", "shares of 1"]
)
def test_the_student_s_own_mask_everywhere_is_what_training_and_acting_read_alike(changes, start, end):
    """No draw lets a cached mask through, at whatever update; acting has none to begin with."""
    agent = make_agent(gates=(0.5, -0.5), encoder=replace(ENCODER, **changes))
    schedule = ScheduleSettings(updates=50, student_start=start, student_end=end)
    masks: list[torch.Tensor] = []
    agent.backbone.mask_encoder.register_forward_pre_hook(lambda _, inputs: masks.append(inputs[0]))
    for update in (0, 20, 49):
        batch = make_batch(32, seed=update)
        with torch.no_grad():
            acting = agent(batch.frames[:, :3].flatten(1, 2))[2]
        masks.clear()
        agent.update(batch, replace(schedule.weights(update), cloning=0.0))
        torch.testing.assert_close(masks[1][:, 0], acting)  # the second pass of an update is over s


CONCAT = replace(ENCODER, mask_path="concat", fusion="concat", mask_side=32, attention="none")


def moved_by_the_mask(agent: Agent, count: int = 16) -> float:
    """By how far z moves, in units of its own spread over frames, when the only object is elsewhere in the mask."""
    batch = make_batch(count, seed=99, side=agent.settings.encoder.mask_resolution)
    everywhere = torch.ones(count, dtype=torch.bool)
    left = torch.zeros_like(batch.mask[:, 0])
    quarter = left.shape[-1] // 4
    left[:, quarter : 2 * quarter, :quarter] = 1.0
    with torch.no_grad():
        inputs = agent.backbone.inputs(batch.frames, 2)
        one, two = (agent.neck(agent.backbone(*inputs, each, everywhere)).fused for each in (left, left.flip(2)))
    return float((one - two).norm(dim=1).mean() / (one - one.mean(0)).norm(dim=1).mean())


def updated(agent: Agent, updates: int = 100) -> Agent:
    torch.manual_seed(0)
    for update in range(updates):
        agent.update(make_batch(3, seed=update, side=agent.settings.encoder.mask_resolution), QUIET)
    return agent


def test_a_mask_with_a_latent_of_its_own_reaches_z_from_the_start_and_after_a_hundred_updates():
    agent = make_agent(encoder=CONCAT)
    assert moved_by_the_mask(agent) > 0.3
    assert moved_by_the_mask(updated(agent)) > 0.3


def test_behind_gates_the_mask_does_not_reach_z_at_the_start_and_hardly_after_a_hundred_updates():
    agent = make_agent()
    assert moved_by_the_mask(agent) == 0.0
    assert 0.0 < moved_by_the_mask(updated(agent)) < 0.02


def test_a_terminal_step_ends_the_return_and_a_time_out_does_not():
    batch = make_batch()
    ended = batch._replace(discount=torch.zeros(6, 1))
    torch.manual_seed(0)
    assert float(make_agent().update(ended, QUIET)["target_q"]) == pytest.approx(float(batch.reward.mean()))
    # With γ = 1 and a constant target Q of 10, α ≈ 0: y = r + 10 wherever the episode goes on.
    agent, batch = make_agent(initial_alpha=1e-9), batch._replace(discount=batch.not_done)
    with torch.no_grad():
        for name in ("q1", "q2"):
            agent.target[name][-1].weight.zero_()
            agent.target[name][-1].bias.fill_(10.0)
    expected = float((batch.reward + 10.0 * batch.not_done).mean())
    assert float(agent.update(batch, QUIET)["target_q"]) == pytest.approx(expected, rel=1e-5)


def test_the_gradient_norm_is_clipped():
    free = gradients(make_agent(), make_batch())
    norm = math.sqrt(sum(float(value.square().sum()) for value in free.values()))
    clipped = gradients(make_agent(clip=norm / 10), make_batch())
    for name in free:
        torch.testing.assert_close(clipped[name], free[name] / 10, rtol=1e-3, atol=1e-7)


def test_cloning_teaches_the_driver_s_actions():
    agent, batch = make_agent(lr=3e-3), make_batch()
    for _ in range(60):
        last = agent.update(batch, LossWeights(2.5, True, 0.5))
    assert float(last["cloning"]) < 0.05


def test_same_seed_same_bits():
    states = []
    for _ in range(2):
        agent = make_agent(seed=5)
        torch.manual_seed(9)
        for index in range(4):
            agent.update(make_batch(seed=index), LossWeights(1.0, index < 2, 0.5))
        states.append(agent.state_dict())
    assert changed(*states) == set()


def test_alpha_follows_its_target_entropy():
    for entropy, direction in ((-50.0, -1.0), (50.0, 1.0)):
        agent = make_agent(target_entropy=entropy, actor_every=1)
        before = float(agent.log_alpha.detach())
        agent.update(make_batch(), QUIET)
        assert math.copysign(1.0, float(agent.log_alpha.detach()) - before) == direction


def test_log_sigma_stays_between_its_bounds():
    agent = make_agent()
    observation = torch.randint(0, 256, (16, 9, SIZE, SIZE), dtype=torch.uint8)
    with torch.no_grad():
        spread = agent(observation)[1]
        assert ((spread > -10) & (spread < 2)).all()
        agent.actor[-1].weight.mul_(1e4)
        extreme = agent(observation)[1]
    assert ((extreme >= -10) & (extreme <= 2)).all()
    assert extreme.min() < -9.9
    assert extreme.max() > 1.9


def test_acting_reads_the_newest_frame_and_both_residuals():
    """The acting pass on a stack is the training pass on the same three frames with the student's own mask."""
    agent, batch = make_agent(gates=(0.5, -0.5)), make_batch()
    stack = batch.frames[:, :3].reshape(6, 9, SIZE, SIZE)
    with torch.no_grad():
        mean, log_std, mask = agent(stack)
        features = agent.backbone(*agent.backbone.inputs(batch.frames, 2))
        expected = agent.policy(features)
    torch.testing.assert_close(mean, expected[0])
    torch.testing.assert_close(log_std, expected[1])
    torch.testing.assert_close(mask, torch.sigmoid(features.student))


@pytest.mark.filterwarnings("ignore:No complete tensor")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention": "joint", "mask": "zeros"},
        {"streams": "single"},
        {"mask_path": "concat", "fusion": "concat", "mask_side": 32},
    ],
)
def test_an_exported_policy_acts_as_the_agent(tmp_path: Path, changes):
    agent = make_agent(encoder=replace(ENCODER, **changes), gates=None if changes else (0.5, -0.5))
    with torch.no_grad():
        agent.actor[-1].weight.mul_(20.0)
    before = copy.deepcopy(agent.state_dict())
    export_policy(agent, tmp_path / "policy.pt2", {"size": SIZE, "frame_skip": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["policy.pt2"]
    assert agent.training
    assert changed(before, agent.state_dict()) == set()
    policy = load_policy(tmp_path)
    assert policy.view == {"size": SIZE, "frame_skip": 2}
    observations = np.random.default_rng(0).integers(0, 256, (8, 9, SIZE, SIZE), np.uint8)
    with torch.no_grad():
        mean, log_std, mask = agent(torch.from_numpy(observations))
    assert mask.shape[1:] == (agent.settings.encoder.mask_resolution,) * 2
    for count in (1, 3, 8):
        found = policy.act(range(count), observations[:count], [{}] * count)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, torch.tanh(mean[:count]), atol=1e-5)
        np.testing.assert_allclose(policy.student_mask(observations[:count]), mask[:count], atol=1e-5)
    assert np.ptp(found) > 0.1
    sampling = load_policy(tmp_path / "policy.pt2", sample=True)
    draws = []
    for seeds in ([3, 4], [3, 4], [5, 4]):
        sampling.start(seeds)
        draws.append(sampling.act([0, 1], observations[:2], [{}] * 2))
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0][0], draws[2][0])
    assert np.array_equal(draws[0][1], draws[2][1])
    noise = np.random.default_rng([3, 0x5AC]).standard_normal(2)
    expected = np.tanh(mean[0].numpy() + np.exp(log_std[0].numpy()) * noise)
    np.testing.assert_allclose(draws[0][0], expected, atol=1e-4)


@pytest.mark.parametrize(("mask", "share"), [("student", 0.5), ("own", 1.0), ("cached", 0.0), ("zeros", 0.0)])
def test_only_a_student_that_is_mixed_in_has_a_share(mask, share):
    agent = make_agent(encoder=replace(ENCODER, mask=mask))
    assert agent.student_share(QUIET) == share
