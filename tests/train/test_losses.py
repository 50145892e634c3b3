"""Every loss of train/losses.py against loops of plain Python, and who gets its gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semore.datasets.errors import SemoreError
from semore.train import losses
from semore.train.agent import sample_action

SEEDS = st.integers(0, 10_000)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))


def test_the_balanced_loss_finds_one_cell_in_a_thousand():
    """Of 32² cells one is an object: a constant map's best is 2·½·ln 2, and a map that knows the cell is far below it;
    with the plain L1 nothing anywhere is as good as all but right."""
    known = torch.zeros(4, 32, 32)
    for sample in range(4):
        known[sample, 7 * sample + 3, 5] = 1.0
    valid = torch.ones(4, dtype=torch.bool)
    sharp, nothing = 6.0 * (2.0 * known - 1.0), torch.full_like(known, -6.0)

    def value(logits: torch.Tensor, kind: str = "balanced_bce") -> float:
        return float(losses.semantic_loss(logits, known, valid, kind))

    constants = [value(torch.full_like(known, logit)) for logit in np.linspace(-6, 6, 13)]
    assert min(constants) == pytest.approx(math.log(2.0))
    assert value(sharp) < 0.01
    assert value(nothing) > 3.0
    assert value(nothing, "plain_l1") < 0.01
    logits = torch.zeros_like(known, requires_grad=True)
    losses.semantic_loss(logits, known, valid, "balanced_bce").backward()
    assert float(logits.grad[known > 0].abs().sum()) == pytest.approx(float(logits.grad[known == 0].abs().sum()))


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(1, 7))
def test_the_sac_losses_equal_loops(seed, count):
    reward, q1, q2, log_pi, y = (randn(count, 1, seed=seed + index) for index in range(5))
    not_done = (rand(count, 1, seed=seed) > 0.4).double()
    alpha, gamma = 0.07, 0.9
    target = losses.q_target(reward, gamma * not_done, q1, q2, torch.tensor(alpha), log_pi)
    rows = [tuple(float(part) for part in row) for row in zip(reward, not_done, q1, q2, log_pi, y, target, strict=True)]
    for r, d, a, b, lp, _, found in rows:
        assert found == pytest.approx(r + (gamma * (min(a, b) - alpha * lp) if d else 0.0))
    expected = sum((a - t) ** 2 for _, _, a, _, _, t, _ in rows) / count
    expected += sum((b - t) ** 2 for _, _, _, b, _, t, _ in rows) / count
    assert float(losses.q_loss(q1, q2, y)) == pytest.approx(expected)
    expected = sum(alpha * lp - min(a, b) for _, _, a, b, lp, _, _ in rows) / count
    assert float(losses.actor_loss(torch.tensor(alpha), log_pi, q1, q2)) == pytest.approx(expected)
    log_alpha, entropy = torch.tensor(-2.5, dtype=torch.float64), -2.0
    expected = sum(math.exp(-2.5) * (-lp - entropy) for *_, lp, _, _ in rows) / count
    assert float(losses.alpha_loss(log_alpha, log_pi, entropy)) == pytest.approx(expected)
    assert float(losses.reward_loss(q1, reward)) == pytest.approx(sum((a - r) ** 2 for r, _, a, *_ in rows) / count)


def test_transition_loss_is_half_the_mean_square_and_leaves_the_target_alone():
    predicted, latent = randn(3, 4, seed=1).requires_grad_(), randn(3, 4, seed=2).requires_grad_()
    loss = losses.transition_loss(predicted, latent)
    pairs = zip(predicted.flatten().tolist(), latent.flatten().tolist(), strict=True)
    expected = sum(0.5 * (mean - value) ** 2 for mean, value in pairs) / 12
    assert float(loss.detach()) == pytest.approx(expected)
    loss.backward()
    assert latent.grad is None
    torch.testing.assert_close(predicted.grad, (predicted - latent).detach() / 12)


def test_alpha_loss_pushes_alpha_alone_and_towards_the_target_entropy():
    log_pi = randn(5, 1).requires_grad_()
    for entropy, sign in ((-100.0, 1.0), (100.0, -1.0)):  # far too random: α must fall; far too certain: rise
        log_alpha = torch.tensor(-1.0, requires_grad=True)
        losses.alpha_loss(log_alpha, log_pi, entropy).backward()
        assert log_pi.grad is None
        assert math.copysign(1.0, float(log_alpha.grad)) == sign


def slow_semantic(student: torch.Tensor, known: torch.Tensor, valid: list[bool], kind: str) -> float:
    plain: list[float] = []
    objects, elsewhere = [0.0, 0.0], [0.0, 0.0]
    for b, ok in enumerate(valid):
        if not ok:
            continue
        for logit, h in zip(student[b].flatten().tolist(), known[b].flatten().tolist(), strict=True):
            p = sigmoid(logit)
            plain.append(abs(p - h))
            on, off = (-math.log(p), -math.log(1 - p)) if kind == "balanced_bce" else (1 - p, p)
            objects = [objects[0] + h * on, objects[1] + h]
            elsewhere = [elsewhere[0] + (1 - h) * off, elsewhere[1] + 1 - h]
    if kind == "plain_l1":
        return sum(plain) / len(plain) if plain else 0.0
    return 0.5 * sum(total / weight for total, weight in (objects, elsewhere) if weight)


@pytest.mark.parametrize("kind", losses.MASK_LOSSES)
@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, valid=st.lists(st.booleans(), min_size=1, max_size=5), hard=st.booleans())
def test_semantic_loss_equals_a_loop_and_ignores_invalid_samples(kind, seed, valid, hard):
    student = (3.0 * randn(len(valid), 3, 3, seed=seed)).requires_grad_()
    known = rand(len(valid), 3, 3, seed=seed + 1)
    known = ((known > 0.8).double() if hard else known).requires_grad_()
    mask = torch.tensor(valid)
    loss = losses.semantic_loss(student, known.detach(), mask, kind)
    assert float(loss.detach()) == pytest.approx(slow_semantic(student, known, valid, kind), abs=1e-9)
    (gradient,) = torch.autograd.grad(loss, student)
    assert not gradient[~mask].any()
    # What an invalid sample holds makes no difference, not even an extreme.
    other = torch.where(mask[:, None, None], student, torch.full_like(student, 50.0))
    elsewhere = torch.where(mask[:, None, None], known, 1.0 - known)
    assert float(losses.semantic_loss(other, elsewhere, mask, kind).detach()) == float(loss.detach())


@pytest.mark.parametrize("kind", losses.MASK_LOSSES)
def test_semantic_loss_of_no_valid_sample_is_zero(kind):
    student = randn(2, 3, 3).requires_grad_()
    loss = losses.semantic_loss(student, rand(2, 3, 3), torch.zeros(2, dtype=torch.bool), kind)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert not student.grad.any()


@pytest.mark.parametrize("kind", losses.MASK_LOSSES)
def test_semantic_loss_survives_saturated_logits(kind):
    student = torch.tensor([[[-200.0, 200.0], [200.0, -200.0]]], requires_grad=True)
    loss = losses.semantic_loss(student, torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]), torch.tensor([True]), kind)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("kind", losses.MASK_LOSSES)
def test_semantic_loss_falls_when_the_mask_gets_better(kind):
    known = torch.zeros(1, 4, 4)
    known[0, 1, 2] = 1.0
    right, wrong = 8.0 * known - 4.0, 8.0 * known.flip(2) - 4.0
    right_loss, wrong_loss = (
        losses.semantic_loss(student, known, torch.tensor([True]), kind) for student in (right, wrong)
    )
    assert right_loss < wrong_loss


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(2, 30))
def test_balanced_forms_do_not_care_how_much_background_there_is(seed, times):
    """The same background, repeated: the balanced value stays, the plain one sinks towards the background's."""
    objects, background = randn(1, 1, 3, seed=seed), randn(1, 1, 5, seed=seed + 1)
    found = {}
    for kind in losses.MASK_LOSSES:
        values = []
        for count in (1, times):
            student = torch.cat([objects, background.repeat(1, 1, count)], 2)
            known = torch.cat([torch.ones(1, 1, 3), torch.zeros(1, 1, 5 * count)], 2).double()
            values.append(float(losses.semantic_loss(student, known, torch.tensor([True]), kind)))
        found[kind] = values
    for kind in ("balanced_bce", "balanced_l1"):
        assert found[kind][0] == pytest.approx(found[kind][1])
    expected = sum(1 - sigmoid(v) for v in objects.flatten().tolist())
    expected += times * sum(sigmoid(v) for v in background.flatten().tolist())
    assert found["plain_l1"][1] == pytest.approx(expected / (3 + 5 * times))


def test_plain_l1_collapses_on_sparse_masks_where_the_balanced_forms_do_not():
    """method.md §5.2: with one cell in 128 the mask that says nothing beats one that finds every object but is a little
    unsure elsewhere. The balanced forms rank the second above the first."""
    known = torch.zeros(2, 8, 8)
    known[0, 3, 4] = 1.0
    nothing = torch.full_like(known, -12.0)
    unsure = torch.where(known > 0, 2.0, -3.0)
    valid = torch.ones(2, dtype=torch.bool)
    loss = {
        kind: [float(losses.semantic_loss(student, known, valid, kind)) for student in (nothing, unsure)]
        for kind in losses.MASK_LOSSES
    }
    assert loss["plain_l1"][0] < 0.01
    assert loss["plain_l1"][0] < loss["plain_l1"][1]
    for kind in ("balanced_bce", "balanced_l1"):
        assert loss[kind][0] > 2 * loss[kind][1]


def test_an_unknown_semantic_loss_names_the_choices():
    with pytest.raises(SemoreError, match="balanced_bce, balanced_l1, plain_l1"):
        losses.semantic_loss(randn(1, 2, 2), rand(1, 2, 2), torch.tensor([True]), "l2")


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.lists(st.booleans(), min_size=1, max_size=6))
def test_cloning_counts_the_driver_s_rows_only(seed, drivers):
    count = len(drivers)
    mean, action = randn(count, 2, seed=seed).requires_grad_(), rand(count, 2, seed=seed) * 2 - 1
    driver = torch.tensor(drivers, dtype=torch.float64)[:, None]
    loss = losses.cloning_loss(mean, action, driver)
    squares = [
        (math.tanh(mean.tolist()[row][column]) - float(action[row, column])) ** 2
        for row in range(count)
        for column in range(2)
        if drivers[row]
    ]
    assert float(loss.detach()) == pytest.approx(sum(squares) / len(squares) if squares else 0.0)
    loss.backward()
    assert (mean.grad.abs().sum(1) > 0).tolist() == drivers


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_log_pi_is_the_change_of_variables(seed):
    """log π(a) = log N(u; μ, σ) − log |det ∂tanh(u)/∂u|, the Jacobian taken by autograd."""
    mean, log_std = randn(3, 2, seed=seed), 0.5 * randn(3, 2, seed=seed + 1) - 1.0
    torch.manual_seed(seed)
    action, log_pi = sample_action(mean, log_std)
    for row in range(3):
        raw = torch.atanh(action[row])
        jacobian = torch.autograd.functional.jacobian(torch.tanh, raw)
        density = 0.0
        for u, m, ls in zip(raw.tolist(), mean[row].tolist(), log_std[row].tolist(), strict=True):
            density += -0.5 * ((u - m) / math.exp(ls)) ** 2 - ls - 0.5 * math.log(2 * math.pi)
        assert float(log_pi[row]) == pytest.approx(density - float(torch.logdet(jacobian)), rel=1e-6, abs=1e-6)


def test_log_pi_integrates_to_one():
    """A density over (−1, 1)²: sampled with importance 1/π, the square's area comes out."""
    torch.manual_seed(3)
    count = 200_000
    action, log_pi = sample_action(torch.zeros(count, 2).double(), torch.full((count, 2), -0.2).double())
    inside = (action.abs() < 0.9).all(1)
    area = (inside.double() * torch.exp(-log_pi[:, 0])).mean()
    assert float(area) == pytest.approx(1.8**2, rel=0.02)


def test_log_pi_stays_finite_and_actions_bounded_at_the_edges():
    mean = torch.tensor([[40.0, -40.0], [0.0, 0.0]], requires_grad=True)
    log_std = torch.tensor([[2.0, 2.0], [-10.0, -10.0]], requires_grad=True)
    action, log_pi = sample_action(mean, log_std)
    assert (action.abs() <= 1.0).all()
    assert torch.isfinite(log_pi).all()
    log_pi.sum().backward()
    assert np.isfinite(mean.grad.numpy()).all()
    assert np.isfinite(log_std.grad.numpy()).all()


# Feature space


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, valid=st.lists(st.booleans(), min_size=1, max_size=4))
def test_feature_l1_equals_a_loop_and_teaches_the_stream_alone(seed, valid):
    semantic, known = randn(len(valid), 2, 3, 3, seed=seed).requires_grad_(), randn(len(valid), 2, 3, 3, seed=seed + 1)
    known.requires_grad_()
    mask = torch.tensor(valid)
    loss = losses.feature_l1_loss(semantic, known, mask)
    distances = [
        abs(one - two)
        for b, ok in enumerate(valid)
        if ok
        for one, two in zip(semantic[b].flatten().tolist(), known[b].flatten().tolist(), strict=True)
    ]
    assert float(loss.detach()) == pytest.approx(sum(distances) / len(distances) if distances else 0.0)
    loss.backward()
    assert known.grad is None  # sg: else both would shrink to nothing together
    assert (semantic.grad.flatten(1).abs().sum(1) > 0).tolist() == valid


def slow_nt_xent(semantic: list[list[float]], known: list[list[float]]) -> float:
    """Both directions: every latent picks its partner among all others of the batch, by cosine."""

    def cosine(one: list[float], two: list[float]) -> float:
        product = sum(a * b for a, b in zip(one, two, strict=True))
        return product / math.sqrt(sum(a * a for a in one) * sum(b * b for b in two))

    everyone, total = semantic + known, 0.0
    for n, latent in enumerate(everyone):
        partner = everyone[(n + len(semantic)) % len(everyone)]
        others = [math.exp(cosine(latent, other)) for m, other in enumerate(everyone) if m != n]
        total -= math.log(math.exp(cosine(latent, partner)) / sum(others))
    return 2.0 * total / len(everyone) if everyone else 0.0


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, valid=st.lists(st.booleans(), min_size=1, max_size=6))
def test_nt_xent_equals_a_loop_over_the_valid_samples(seed, valid):
    semantic, known = randn(len(valid), 5, seed=seed).requires_grad_(), randn(len(valid), 5, seed=seed + 1)
    known.requires_grad_()
    mask = torch.tensor(valid)
    loss = losses.nt_xent_loss(semantic, known, mask)
    assert float(loss.detach()) == pytest.approx(slow_nt_xent(semantic[mask].tolist(), known[mask].tolist()))
    loss.backward()
    several = sum(valid) > 1  # one pair alone has nobody to be mistaken for
    for latent in (semantic, known):
        assert (latent.grad.abs().sum(1) > 1e-12).tolist() == [ok and several for ok in valid]


@pytest.mark.parametrize("count", [2, 8, 32])
def test_nt_xent_starts_at_twice_the_logarithm_of_the_others(count):
    """2·ln(2B − 1), 8.3 at B = 32 (method.md §4): exactly when all look alike, nearly for wide random latents."""
    same = torch.ones(count, 7)
    everyone = torch.ones(count, dtype=torch.bool)
    expected = 2.0 * math.log(2 * count - 1)
    assert float(losses.nt_xent_loss(same, same, everyone)) == pytest.approx(expected, rel=1e-5)
    one, two = randn(count, 2_000, seed=1), randn(count, 2_000, seed=2)
    assert float(losses.nt_xent_loss(one, two, everyone)) == pytest.approx(expected, rel=0.03)
    # At temperature 1 a perfect match still leaves something.
    apart = torch.eye(count)
    best = 2.0 * math.log(math.e + 2 * count - 2) - 2.0
    assert float(losses.nt_xent_loss(apart, apart, everyone)) == pytest.approx(best, rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(1, 5))
def test_the_contrast_equals_a_loop_and_leaves_the_key_alone(seed, count):
    query, key = randn(count, 4, seed=seed).requires_grad_(), randn(count, 4, seed=seed + 1).requires_grad_()
    bilinear = randn(4, 4, seed=seed + 2).requires_grad_()
    loss = losses.contrast_loss(query, key, bilinear)
    scores = [
        [sum(q[i] * bilinear.tolist()[i][j] * k[j] for i in range(4) for j in range(4)) for k in key.tolist()]
        for q in query.tolist()
    ]
    expected = 0.0
    for own, row in enumerate(scores):
        expected -= math.log(math.exp(row[own]) / sum(math.exp(score) for score in row)) / count
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-9)
    loss.backward()
    assert key.grad is None
    assert count == 1 or (query.grad.any() and bilinear.grad.any())
    # Large scores do not overflow.
    assert math.isfinite(float(losses.contrast_loss(1e3 * query, key, bilinear).detach()))
