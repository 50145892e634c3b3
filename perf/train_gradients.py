"""Correctness beside speed: gradients and losses of one update on a frozen batch, of two agents or an agent and its
plain form."""

from __future__ import annotations

import copy
from typing import Any, Final

import torch
from torch import Tensor

from perf.plain_update import PlainTrainer
from perf.train_stack import Stack, make_agent, make_batches
from semore.datasets.frame_pool import Batch
from semore.train.agent import Agent
from semore.train.agent_settings import LossWeights

SHARED_BOUND: Final = 1e-3
"""Largest difference between the shared and the unshared form's gradients, relative to each tensor's largest entry:
float32 sums in another order."""
BF16_COSINE: Final = 0.98
"""Smallest cosine, over all parts of the network, between the part's gradient in bf16 and in fp32: bf16 keeps 8 bits,
2⁻⁹ = 0.2 % per rounding."""
BF16_LOSS: Final = 0.02
"""Largest relative difference of a loss."""


def frozen_update(agent: Agent | PlainTrainer, batch: Batch) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Every parameter's gradient and every loss of an update with an actor step, at learning rates of zero: Adam makes
    whole steps of rounding errors, and the actor's gradient would tell of them."""
    agent = copy.deepcopy(agent)
    found: dict[str, Tensor] = {}
    names = {id(value): name for name, value in agent.named_parameters()}

    def record(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for part in _parts_of(agent, group):
                if part.grad is not None and part.grad.any():  # what a loss does not reach has zeros, or nothing
                    found[names[id(part)]] = part.grad.clone()

    for optimizer in agent.optimizers:
        optimizer.register_step_pre_hook(record)
        for group in optimizer.param_groups:
            group["lr"] = 0.0
    agent.updates = agent.settings.actor_every - 1
    torch.manual_seed(1)
    losses = agent.update(batch, LossWeights())
    return found, {name: float(value) for name, value in losses.items()}


def _parts_of(agent: Agent | PlainTrainer, group: dict[str, Any]) -> list[torch.nn.Parameter]:
    """The network's parameters that an optimiser moves, which for an Agent lie end to end in one."""
    flats = {id(flat.values): flat.parts for flat in agent.flats} if isinstance(agent, Agent) else {}
    return [part for each in group["params"] for part in flats.get(id(each), [each])]


def compare_gradients(stack: Stack) -> dict[str, Any]:
    """Shared against plain and bf16 against fp32, the whole method, with what bounds them."""
    batch = make_batches(stack, whole=True, count=1)[0]

    def stirred(precision: str = "fp32") -> Agent:
        agent = make_agent(Agent, stack, whole=True, precision=precision, changes={"clip": float("inf")})
        for index, target in enumerate(agent.target.parameters()):
            # Online and target apart, or mixing them up would go unseen.
            target.add_(0.01 * torch.randn(target.shape, generator=torch.Generator().manual_seed(index)))
        return agent

    shared, losses = frozen_update(stirred(), batch)
    plain, _ = frozen_update(PlainTrainer(stirred()), batch)
    half, half_losses = frozen_update(stirred("bf16"), batch)
    cosines = {part: _cosine(half, shared, part) for part in _parts(shared)}
    taught = [name for name in losses if name in ("q", "transition", "reward", "semantic", "actor")]
    return {
        "shared_unshared_max": max(_apart(shared.get(name), plain[name]) for name in plain),
        "shared_unshared_bound": SHARED_BOUND,
        "same_parameters": shared.keys() == plain.keys(),
        "bf16_cosine_min": min(cosines.values()),
        "bf16_cosine_bound": BF16_COSINE,
        "bf16_worst_part": min(cosines, key=lambda part: cosines[part]),
        "bf16_loss_max": max(abs(half_losses[name] / losses[name] - 1.0) for name in taught),
        "bf16_loss_bound": BF16_LOSS,
    }


def _apart(found: Tensor | None, expected: Tensor) -> float:
    """Largest difference relative to the largest entry."""
    difference = expected.abs() if found is None else (found - expected).abs()
    return float(difference.max() / expected.abs().max().clamp_min(1e-12))


def _parts(gradients: dict[str, Tensor]) -> set[str]:
    """The networks' parts by name: backbone.motion_stream, auxiliaries.reward, neck, q1, …"""
    return {_part(name) for name in gradients}


def _part(name: str) -> str:
    return ".".join(name.split(".")[: 2 if name.startswith(("backbone", "auxiliaries")) else 1])


def _cosine(found: dict[str, Tensor], expected: dict[str, Tensor], part: str) -> float:
    both = [torch.cat([g[name].flatten() for name in expected if _part(name) == part]) for g in (found, expected)]
    return float(torch.nn.functional.cosine_similarity(both[0], both[1], dim=0))
