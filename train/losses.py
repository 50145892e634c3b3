"""The losses of Semore and its rivals as pure functions of tensors, in the order of method.md §4 and §5.2."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from semore.datasets.errors import SemoreError
from semore.train.agent_settings import MASK_LOSSES


def q_target(returns: Tensor, discount: Tensor, q1: Tensor, q2: Tensor, alpha: Tensor, log_pi: Tensor) -> Tensor:
    """y = R + γ'·(min(Q1', Q2')(s', a') − α·log π(a'|s')), all (B,1). After one decision R is its reward and γ' the
    discount, 0 where it ended the episode; over several they are those of datasets.returns."""
    return returns + discount * (torch.minimum(q1, q2) - alpha * log_pi)


def q_loss(q1: Tensor, q2: Tensor, target: Tensor) -> Tensor:
    """L_Q = MSE(Q1, y) + MSE(Q2, y)."""
    return functional.mse_loss(q1, target) + functional.mse_loss(q2, target)


def transition_loss(predicted: Tensor, latent: Tensor) -> Tensor:
    """L_trans = mean ½·(μ(z, a) − sg(z'))² : the deterministic transition model, σ ≡ 1."""
    return 0.5 * (predicted - latent.detach()).square().mean()


def reward_loss(predicted: Tensor, reward: Tensor) -> Tensor:
    """L_rew = MSE(r̂(z, a), r)."""
    return functional.mse_loss(predicted, reward)


def semantic_loss(student_Bgg: Tensor, known_Bgg: Tensor, valid_B: Tensor, kind: str) -> Tensor:
    """L_sem between the student's mask Ĥ = σ(student) and the max-pooled H_ka in [0,1], over valid samples only.

    H_ka is almost empty, so a plain L1 is nearly minimal for "nothing anywhere" and collapses (method.md §5.2). The
    balanced forms weigh the object cells (weight H) and the others (weight 1 − H) half and half:
    balanced_bce scores cells by −log Ĥ and −log(1 − Ĥ), balanced_l1 by 1 − Ĥ and Ĥ; plain_l1 is mean |Ĥ − H|.
    """
    weight = valid_B.to(student_Bgg.dtype)[:, None, None].expand_as(student_Bgg)
    if kind == "plain_l1":
        return _weighted_mean((student_Bgg.sigmoid() - known_Bgg).abs(), weight)
    if kind == "balanced_bce":
        on_object, elsewhere = functional.softplus(-student_Bgg), functional.softplus(student_Bgg)
    elif kind == "balanced_l1":
        on_object, elsewhere = (-student_Bgg).sigmoid(), student_Bgg.sigmoid()
    else:
        raise SemoreError(f"unknown semantic loss {kind!r} in mask space; choose one of {', '.join(MASK_LOSSES)}")
    objects = _weighted_mean(on_object, weight * known_Bgg)
    return 0.5 * (objects + _weighted_mean(elsewhere, weight * (1.0 - known_Bgg)))


def feature_l1_loss(semantic_BCgg: Tensor, known_BCgg: Tensor, valid_B: Tensor) -> Tensor:
    """The paper's words taken literally: mean |F_s − sg(E_k(H_ka))| over valid samples; without sg both shrink to 0."""
    distance = (semantic_BCgg - known_BCgg.detach()).abs()
    return _weighted_mean(distance, valid_B.to(distance.dtype)[:, None, None, None].expand_as(distance))


def nt_xent_loss(semantic_BD: Tensor, known_BD: Tensor, valid_B: Tensor) -> Tensor:
    """The public code's form: each of the 2V latents of V valid samples must find its partner among the 2V − 1 others,
    by cosine similarity at temperature 1; both directions summed. About 2·ln(2V − 1) at the start."""
    valid = valid_B.to(semantic_BD.dtype)
    both = functional.normalize(torch.cat([semantic_BD, known_BD]), dim=1)
    alike = both @ both.T
    present = torch.cat([valid, valid])
    alike = alike.masked_fill(torch.eye(len(alike), dtype=torch.bool, device=alike.device), -torch.inf)
    alike = alike.masked_fill(present[None] == 0, -1e4)
    partner = torch.arange(len(alike), device=alike.device).roll(len(semantic_BD))
    entropy = functional.cross_entropy(alike, partner, reduction="none")
    return 2.0 * _weighted_mean(entropy, present)


def contrast_loss(query_BD: Tensor, key_BD: Tensor, bilinear_DD: Tensor) -> Tensor:
    """CURL's InfoNCE: the key of the same sample, seen through another shift and the target encoder, stands out among
    the batch's by q·W·k."""
    logits = query_BD @ bilinear_DD @ key_BD.detach().T
    logits = logits - logits.max(dim=1, keepdim=True).values
    return functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def actor_loss(alpha: Tensor, log_pi: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
    """L_π = mean(α·log π − min Q)."""
    return (alpha * log_pi - torch.minimum(q1, q2)).mean()


def alpha_loss(log_alpha: Tensor, log_pi: Tensor, target_entropy: float) -> Tensor:
    """mean(α·(−log π − H̄)), with gradient to log α alone."""
    return (log_alpha.exp() * (-log_pi.detach() - target_entropy)).mean()


def cloning_loss(mean: Tensor, advice: Tensor, driver: Tensor) -> Tensor:
    """Mean squared error of tanh(mean) against the driver's action (B,2), weighted by `driver` (B,1).

    Not in the paper: offline, Q overrates actions that nobody recorded, and imitation bridges that.
    """
    return _weighted_mean((torch.tanh(mean) - advice).square(), driver.expand_as(advice))


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Σ weight·loss over the losses, in their order."""
    return sum((weights[name] * loss for name, loss in losses.items()), start=torch.zeros(()))


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp_min(1e-6)
