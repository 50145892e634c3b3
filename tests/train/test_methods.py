"""Semore and its rivals: each whole update against the plain one, what learns from what, and what their files say."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from tiny_agent import (
    GATED,
    GRID,
    METHODS,
    QUIET,
    SIZE,
    batch_for,
    changed,
    gradients,
    make_agent,
    make_batch,
    method_settings,
    part_of,
)

from perf.plain_update import PlainTrainer
from semore.train.agent_settings import AgentSettings, LossWeights
from semore.train.learner import Learner

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def double(monkeypatch):
    """Everything in double precision, where sums in another order still agree to nine digits."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    yield
    torch.set_default_dtype(before)


def stirred(settings: AgentSettings, seed: int = 0) -> Learner:
    """An agent with open gates, whose targets are apart from its networks: mixing them up would show."""
    agent = make_agent(seed, settings=settings)
    target = getattr(agent, "target", {})
    with torch.no_grad():
        for name, value in agent.named_parameters():
            if name.startswith("target."):
                value.add_(0.05 * torch.randn_like(value))
        for backbone in (agent.backbone, *([target["backbone"]] if target else [])):
            if hasattr(backbone.attention, "gates"):
                backbone.attention.gates.copy_(torch.tensor([0.5, -0.4]))
    return agent


OFFLINE, ONLINE = LossWeights(2.5, True, 0.3), LossWeights(1.5, False, 0.3)
FEATURE_L1 = {"mask": "zeros", "semantic_loss": "feature_l1"}
NT_XENT = {"mask": "zeros", "semantic_loss": "nt_xent", "semantic_weight": 0.05}
CONCAT = {"mask": "student", "mask_path": "concat", "fusion": "concat", "mask_side": 32}
WITH_FEATURES = ("transition", "reward", "semantic", "semantic_features")
CASES = [
    *((method, {}, QUIET) for method in METHODS),
    ("semore", {}, OFFLINE),
    ("semore", {"actor_every": 1, "transition_latent": "fused", "fusion": "concat"}, ONLINE),
    ("semore", GATED, QUIET),
    ("semore", GATED, OFFLINE),
    ("semore", {**GATED, "actor_every": 1}, ONLINE),
    ("semore", {**GATED, "transition_latent": "fused", "fusion": "concat", "semantic_loss": "balanced_l1"}, QUIET),
    ("semore", {**GATED, "attention": "joint", "semantic_loss": "plain_l1"}, OFFLINE),
    ("semore", {**GATED, "attention": "none"}, QUIET),
    ("semore", {**GATED, "silent": "semantic", "attention": "joint"}, ONLINE),
    ("semore", {"silent": "motion"}, OFFLINE),
    ("semore", {**GATED, "auxiliaries": ("transition", "reward"), "mask": "zeros"}, QUIET),
    ("semore", {**GATED, "reward_weight": 0.0, "transition_weight": 0.3}, QUIET),
    ("semore", {**GATED, "mask": "cached"}, QUIET),
    ("semore", {**GATED, **FEATURE_L1}, QUIET),
    ("semore", {**GATED, **NT_XENT, "attention": "joint"}, ONLINE),
    ("semore", {"n_step": 3}, ONLINE),
    ("semore", {**GATED, "n_step": 3}, ONLINE),
    ("semore", CONCAT, OFFLINE),
    ("semore", {**CONCAT, "fusion": "bilinear"}, ONLINE),
    ("semore", {**CONCAT, "mask_side": 0, "mask": "own"}, ONLINE),
    ("semore", {**CONCAT, "mask_side": 16, "attention": "none", "silent": "motion"}, QUIET),
    ("semore", {**CONCAT, "attention": "joint", **FEATURE_L1}, QUIET),
    ("semore", {**CONCAT, "auxiliaries": WITH_FEATURES, "semantic_features_weight": 0.3}, ONLINE),
    ("semore", {**GATED, "auxiliaries": WITH_FEATURES, "transition_latent": "fused", "mask": "cached"}, QUIET),
    ("semore", {**GATED, "mask_side": 32}, QUIET),
    ("semore", {**GATED, **NT_XENT, "mask_side": 16}, QUIET),
    ("sac-segmentation", {"mask_side": 32, "mask_path": "concat"}, OFFLINE),
    ("sac-segmentation", {"mask_side": 0}, QUIET),
    ("cloning", {"streams": "dual", **CONCAT, "mask": "zeros"}, QUIET),
    ("sac", {}, OFFLINE),
    ("sac", {"n_step": 3}, QUIET),
    ("drq", {"n_step": 3}, QUIET),
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
    """Every parameter and loss after each of three updates; the second, or each, moves actor, α and targets."""
    agent = stirred(method_settings(method, clip=0.5, **changes))
    plain = PlainTrainer(agent)
    for update in range(3):
        batch = batch_for(agent, 5, update)
        batch = batch._replace(
            **{name: part.double() for name, part in batch._asdict().items() if part.is_floating_point()}
        )
        torch.manual_seed(update)
        found = agent.update(batch, weights)
        torch.manual_seed(update)
        for name, value in plain.update(batch, weights).items():
            assert float(found[name]) == pytest.approx(float(value), rel=1e-9, abs=1e-12), (update, name)
        expected = plain.net.state_dict()
        for name, value in agent.state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=1e-8, atol=1e-9, msg=f"{name}, update {update}")


# What learns from what


MOVING, ATTENTION = "backbone.motion_stream", "backbone.attention"
MOTION = {MOVING, "backbone.mask_encoder", ATTENTION}
SEMANTIC = "backbone.semantic_stream"
STUDENT = {SEMANTIC, "backbone.student_head"}
DUAL = MOTION | STUDENT
CRITICS = {"neck", "q1", "q2"}
LEARNS = {
    "semore": DUAL | CRITICS | {"transition", "reward"},
    "sac": {"backbone.stream"} | CRITICS,
    "deepmdp": {"backbone.stream"} | CRITICS | {"transition", "reward"},
    "drq": {"backbone.stream"} | CRITICS,
    "curl": {"backbone.stream", "contrast"} | CRITICS,
    "sac-segmentation": {"backbone.stream", "backbone.student_head"} | CRITICS,
    "cloning": {"backbone.stream"},
}
LISTED = {
    "semore": ("transition", "reward", "semantic"),
    "deepmdp": ("transition", "reward"),
    "curl": ("contrast",),
    "sac-segmentation": ("semantic",),
}
"""What each method learns beside SAC's own losses; sac, drq and cloning nothing."""


@pytest.mark.parametrize("method", METHODS)
def test_exactly_the_parts_of_a_method_learn(method):
    """Over an update with actor step: what moves, and that targets and unused parts get no gradient at any time."""
    agent = stirred(method_settings(method, actor_every=1))
    before = copy.deepcopy(agent.state_dict())
    found = gradients(agent, batch_for(agent), QUIET)
    nothing = {name: torch.zeros_like(value) for name, value in found.items()}
    assert changed(nothing, found) == LEARNS[method]
    acting = {"actor", "actor_neck"} if method == "cloning" else {"actor", "actor_neck", "log_alpha", "target"}
    assert changed(before, agent.state_dict()) == LEARNS[method] | acting


@pytest.mark.parametrize(
    ("method", "changes", "loss", "parts"),
    [
        # The student's decoder, but nothing of what reads the mask; z_k and E_k learn from what reads z.
        ("semore", {}, "semantic", STUDENT),
        ("semore", {}, "transition", MOTION | {"neck", "transition"}),
        ("semore", {}, "reward", MOTION | {SEMANTIC, "neck", "reward"}),
        ("semore", {"attention": "none"}, "reward", MOTION - {ATTENTION} | {SEMANTIC, "neck", "reward"}),
        ("semore", CONCAT, "semantic", STUDENT),
        ("semore", CONCAT, "reward", MOTION | {SEMANTIC, "neck", "reward"}),
        # Towards H_ka's own features, whatever mask the update has read.
        ("semore", {"auxiliaries": WITH_FEATURES}, "semantic_features", {SEMANTIC}),
        ("semore", {**GATED, "auxiliaries": WITH_FEATURES}, "semantic_features", {SEMANTIC}),
        ("semore", GATED, "semantic", STUDENT),
        # sg: the mask's encoder is not drawn to the stream it is compared with, nor is the student's head.
        ("semore", {**GATED, **FEATURE_L1}, "semantic", {SEMANTIC}),
        ("semore", {**GATED, **NT_XENT}, "semantic", {SEMANTIC, "backbone.mask_encoder", "neck", "semantic"}),
        ("semore", GATED, "transition", MOTION | {"neck", "transition"}),
        ("semore", {**GATED, "transition_latent": "fused"}, "transition", MOTION | {SEMANTIC, "neck", "transition"}),
        ("semore", GATED, "reward", MOTION | {SEMANTIC, "neck", "reward"}),
        ("semore", {**GATED, "attention": "none"}, "reward", {MOVING, SEMANTIC, "neck", "reward"}),
        ("curl", {}, "contrast", {"backbone.stream", "neck", "contrast"}),
        ("sac-segmentation", {}, "semantic", {"backbone.stream", "backbone.student_head"}),
        ("sac-segmentation", {"mask_side": 0}, "semantic", {"backbone.stream", "backbone.student_head"}),
    ],
)
def test_each_loss_reaches_its_own_parts_alone(method, changes, loss, parts):
    """Doubling one weight changes the gradients of these parts and of no other, bit for bit."""
    agents = (stirred(method_settings(method, **{**changes, f"{loss}_weight": weight})) for weight in (1.0, 2.0))
    once, twice = (gradients(agent, batch_for(agent)) for agent in agents)
    assert changed(once, twice) == parts


@pytest.mark.parametrize("method", ["semore", "curl", "cloning"])
def test_watched_gradient_norms_are_those_of_the_gradients(method):
    settings = method_settings(method, actor_every=1)
    agent = stirred(settings)
    batch = batch_for(agent)
    found = gradients(stirred(settings), batch)
    torch.manual_seed(7)
    told = {name: value for name, value in agent.update(batch, QUIET, watch=True).items() if "gradient" in name}
    parts = {part.partition(".")[0] for part in LEARNS[method]}
    assert set(told) == {f"gradient_{part}" for part in parts | {"actor", "actor_neck"}}
    for part in parts:
        own = [value for name, value in found.items() if part_of(name).partition(".")[0] == part]
        squares = [float(value.square().sum()) for value in own]
        assert float(told[f"gradient_{part}"]) == pytest.approx(math.sqrt(sum(squares)), rel=1e-5)
    assert all(value > 0 for value in told.values())


@pytest.mark.parametrize("path", [{}, GATED])
@pytest.mark.parametrize("mask", ["cached", "zeros", "own"])
def test_only_a_student_s_mask_is_mixed_in(mask, path):
    """Where the student is not to stand in for cached masks, or always does, the schedule's share means nothing."""
    batch = batch_for(stirred(method_settings("semore", **path)))
    low, high, student = (
        gradients(
            stirred(method_settings("semore", **{**path, "mask": kind})), batch, replace(QUIET, student_share=share)
        )
        for kind, share in ((mask, 0.0), (mask, 1.0), ("student", 1.0))
    )
    assert changed(low, high) == set()
    assert ("backbone.mask_encoder" in changed(high, student)) == (mask != "own")


def test_a_semantic_loss_in_feature_space_compares_with_the_cached_mask_whatever_the_share():
    agents = [stirred(method_settings("semore", **FEATURE_L1)) for _ in range(2)]
    values = [
        agent.update(batch_for(agent), LossWeights(student_share=share))
        for agent, share in zip(agents, (0, 1), strict=True)
    ]
    assert values[0]["semantic"] == values[1]["semantic"]


@pytest.mark.parametrize("seed", range(3))
def test_nt_xent_starts_near_its_value_for_strangers(seed):
    """2·ln(2B − 1) over the B valid samples (method.md §4), and as much more as latents of one kind alike can add:
    2·ln((e + 1)/2)."""
    agent = make_agent(seed, settings=method_settings("semore", **NT_XENT))
    batch = batch_for(agent, 32)
    value, valid = agent.update(batch, QUIET)["semantic"], int(batch.mask_valid[:, 0].sum())
    assert -0.5 < float(value) - 2.0 * math.log(2 * valid - 1) < 2.0 * math.log((math.e + 1.0) / 2.0) + 0.5


# By heart


@pytest.mark.parametrize("method", METHODS)
def test_one_batch_can_be_learned_by_heart(method):
    agent = make_agent(settings=method_settings(method, lr=3e-3))
    batch = batch_for(agent, 3)
    side = batch.mask.shape[-1]
    blocks = make_batch(3).mask.repeat_interleave(side // GRID, 2).repeat_interleave(side // GRID, 3)
    batch = batch._replace(mask=blocks)  # objects of some cells: single ones that light up are nobody's
    if method == "curl":  # noise has nothing in common with itself a pixel further; a smooth picture has
        coarse = torch.rand(len(batch.frames) * 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        smooth = torch.nn.functional.interpolate(255.0 * coarse, SIZE, mode="bilinear").to(torch.uint8)
        batch = batch._replace(frames=smooth.view_as(batch.frames))
    weights = replace(QUIET, student_share=0.0)
    torch.manual_seed(1)
    first = agent.update(batch, weights)
    own = ("cloning",) if method == "cloning" else ("q", *LISTED.get(method, ()))
    for _ in range(120):
        last = agent.update(batch, weights)
        left = {name: float(last[name] / first[name]) for name in own}
        if max(left.values()) < 0.5:
            break
    assert max(left.values()) < 0.5, left
    assert all(torch.isfinite(value) for value in last.values())


# In bf16


@pytest.mark.parametrize("method", ["semore", "sac"])
def test_bf16_losses_and_gradients_stay_near_those_of_fp32(method):
    """Bounds for a batch at the same weights with the same draws: every loss within 1% (the actor's and α's, which
    come after the critic's step, too), every part's gradient at a cosine of at least 0.99 and within 5% in length."""
    settings = method_settings(method, actor_every=1)
    exact = stirred(settings)
    rough = make_agent(settings=replace(settings, encoder=replace(settings.encoder, precision="bf16")))
    rough.load_state_dict(exact.state_dict())
    batch = batch_for(exact, 16)
    values, found = [], []
    for agent in (exact, rough):
        found.append(gradients(copy.deepcopy(agent), batch, OFFLINE, seed=7))
        torch.manual_seed(7)
        values.append({name: float(value) for name, value in agent.update(batch, OFFLINE).items()})
    assert values[1] == pytest.approx(values[0], rel=0.01, abs=1e-3)
    assert values[1] != values[0]
    for part in LEARNS[method]:
        one, two = (torch.cat([g.flatten() for name, g in each.items() if part_of(name) == part]) for each in found)
        assert torch.cosine_similarity(one, two, 0) > 0.99, part
        assert 0.95 < two.norm() / one.norm() < 1.05, part
