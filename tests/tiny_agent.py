"""Agents of a few thousand parameters and batches for them, for tests."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from semore.datasets.frame_pool import Batch
from semore.datasets.settings import load_settings
from semore.train import agent as agents
from semore.train.agent_settings import AgentSettings, LossWeights
from semore.train.encoder_settings import EncoderSettings
from semore.train.learner import Learner
from semore.train.settings import TrainSettings

SIZE, GRID = 32, 8
ENCODER = EncoderSettings(size=SIZE, channels=(4, 8, 8, 8), heads=2, latent=8)
TINY = AgentSettings(
    ENCODER, hidden=16, model_hidden=16, lr=1e-3, gamma=0.9, tau=0.3, encoder_tau=0.1, actor_every=2, clip=math.inf
)
QUIET = LossWeights(cloning=0.0, cloning_shapes_encoder=False, student_share=0.5)
GATED = {"mask": "student", "mask_side": 0, "mask_path": "gated"}
"""Semore as its file does not have it: a mask on the feature grid that the attention alone reads, H_ka where cached."""
METHODS = ("semore", "sac", "deepmdp", "drq", "curl", "sac-segmentation", "cloning")


def method_settings(method: str, **changes) -> AgentSettings:
    """What the method's file says, at the size of TINY; `changes` may also name settings of the encoder."""
    chosen = _chosen(method)
    own = ("streams", "attention", "mask", "mask_side", "mask_path", "fusion", "silent", "precision")
    encoder = replace(ENCODER, **{name: changes.pop(name, getattr(chosen.encoder, name)) for name in own})
    kept = {
        name: getattr(chosen, name)
        for name in (
            *("objective", "auxiliaries", "semantic_loss", "semantic_weight", "transition_weight", "reward_weight"),
            *("transition_latent", "shifts", "contrast_weight", "semantic_features_weight"),
        )
    }
    return replace(TINY, encoder=encoder, **{**kept, **changes})


@cache
def _chosen(method: str) -> AgentSettings:
    return load_settings(TrainSettings, "train", ["--preset", "debug", "--method", method]).agent


def make_agent(
    seed: int = 0, gates: tuple[float, float] | None = None, settings: AgentSettings = TINY, **changes
) -> Learner:
    torch.manual_seed(seed)
    agent = agents.make_agent(replace(settings, **changes))
    if gates:
        with torch.no_grad():
            for backbone in (agent.backbone, agent.target["backbone"]):
                backbone.attention.gates.copy_(torch.tensor(gates))
    return agent


def make_batch(count: int = 6, seed: int = 0, side: int = GRID, n_step: int = 1) -> Batch:
    """Random transitions; with several steps their returns are others than their rewards."""
    generator = torch.Generator().manual_seed(seed)
    frames, known = (4, 2) if n_step == 1 else (7, 3)
    mask = (torch.rand(count, known, side, side, generator=generator) > 0.9).float()
    pictures = torch.randint(0, 256, (count, frames, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    action = 2.0 * torch.rand(count, 2, generator=generator) - 1.0
    reward = torch.randn(count, 1, generator=generator)
    not_done = (torch.arange(count) % 3 != 0).float()[:, None]
    return Batch(
        pictures,
        mask,
        torch.arange(known * count).view(count, known) % 5 != 0,
        action,
        reward,
        not_done,
        reward * n_step,
        TINY.gamma**n_step * not_done,
        torch.tensor([1.0, 0.0, 10.0]).repeat(count)[:count, None],
        2.0 * torch.rand(count, 2, generator=generator) - 1.0,
    )


def batch_for(agent: Learner, count: int = 6, seed: int = 0) -> Batch:
    """make_batch's, with masks of the side and returns of the length that the agent's settings name."""
    return make_batch(count, seed, agent.settings.encoder.mask_resolution, agent.settings.n_step)


def gradients(agent: Learner, batch: Batch, weights: LossWeights = QUIET, seed: int = 7) -> dict[str, Tensor]:
    """The gradient each parameter of the critic side (of cloning: the encoder) had when its optimiser stepped."""
    found: dict[str, Tensor] = {}
    optimizer, names = agent.optimizers[0], {id(value): name for name, value in agent.named_parameters()}

    def record(*_) -> None:
        for value in agent.flats[0].parts:
            found[names[id(value)]] = value.grad.clone()

    hook = optimizer.register_step_pre_hook(record)
    torch.manual_seed(seed)
    agent.update(batch, weights)
    hook.remove()
    return found


def part_of(name: str) -> str:
    """What a parameter belongs to: a part of the backbone, an auxiliary by its name, or a network."""
    first, second, *_ = [*name.removeprefix("auxiliaries.").split("."), ""]
    return f"{first}.{second}" if first == "backbone" else first


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The parts whose tensors differ."""
    return {part_of(name) for name in before if not torch.equal(before[name], after[name])}
