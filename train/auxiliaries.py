"""What an agent may learn beside SAC's own losses, each a module with its own head and loss. A method's file names
its auxiliaries; `agent.<name>_weight` weighs each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from semore.datasets.frame_pool import Batch
from semore.train import losses
from semore.train.agent_settings import MASK_LOSSES, AgentSettings
from semore.train.augment import random_shift
from semore.train.encoder import Features, Latents
from semore.train.encoder_settings import geometry
from semore.train.networks import head

ACTIONS = 2


class Step(NamedTuple):
    """What an update knows when auxiliaries have their turn."""

    batch: Batch
    features: Features
    """Of s, from the online encoder, with gradient."""
    now: Latents
    """Of s."""
    following: Callable[[], Latents]
    """Of s', from the online encoder, without gradient; made only for who asks."""
    za: Tensor
    """(B, fused + ACTIONS): z and action."""
    target: Callable[[Tensor], Latents]
    """The target encoder's latents, without gradient, of frames (B,4,3,S,S) uint8 as s."""
    known: Callable[[], Tensor]
    """F_k (B,C,g,g) of the cached H_ka of s, without gradient, whatever mask the features were made with; made only for
    who asks."""


class Transition(nn.Module):
    """DeepMDP: the next latent from latent and action. With two streams it is the motion's (as the public code), unless
    agent.transition_latent says fused."""

    def __init__(self, settings: AgentSettings) -> None:
        super().__init__()
        latent = settings.encoder.latent
        self._fused = settings.transition_latent == "fused"
        apart = not self._fused and settings.encoder.streams == "dual"
        predicted = latent if apart else settings.encoder.fused
        self.head = head(predicted + ACTIONS, settings.model_hidden, predicted)

    def forward(self, step: Step) -> Tensor:
        now, following = ((each.fused if self._fused else each.motion) for each in (step.now, step.following()))
        return losses.transition_loss(self.head(torch.cat([now, step.batch.action], 1)), following)


class Reward(nn.Module):
    """DeepMDP: the reward from z and action."""

    def __init__(self, settings: AgentSettings) -> None:
        super().__init__()
        self.head = head(settings.encoder.fused + ACTIONS, settings.model_hidden, 1)

    def forward(self, step: Step) -> Tensor:
        return losses.reward_loss(self.head(step.za), step.batch.reward)


class Semantic(nn.Module):
    """Semore: the student's mask of s towards H_ka, pooled to the same side (method.md §5.2)."""

    def __init__(self, settings: AgentSettings) -> None:
        super().__init__()
        self._kind = settings.semantic_loss

    def forward(self, step: Step) -> Tensor:
        return losses.semantic_loss(
            step.features.student, step.batch.mask[:, 0], step.batch.mask_valid[:, 0], self._kind
        )


class SemanticFeatures(nn.Module):
    """The paper's words: the semantic stream's features towards those of H_ka."""

    def forward(self, step: Step) -> Tensor:
        return losses.feature_l1_loss(step.features.semantic, step.known(), step.batch.mask_valid[:, 0])


class SemanticContrast(nn.Module):
    """The public code: the semantic latent stands out by the latent of its mask's features."""

    def __init__(self, settings: AgentSettings) -> None:
        super().__init__()
        encoder = settings.encoder
        self.head = nn.Linear(encoder.channels[-1] * geometry(encoder.size).grid ** 2, encoder.latent)

    def forward(self, step: Step) -> Tensor:
        assert step.features.known is not None
        known = self.head(step.features.known.flatten(1))
        return losses.nt_xent_loss(step.now.semantic, known, step.batch.mask_valid[:, 0])


class Contrast(nn.Module):
    """CURL: the key is the same frames under another shift, seen by the target encoder."""

    def __init__(self, settings: AgentSettings) -> None:
        super().__init__()
        fused = settings.encoder.fused
        self.bilinear = nn.Parameter(torch.eye(fused) / fused**0.5)

    def forward(self, step: Step) -> Tensor:
        key = step.target(random_shift(step.batch.frames)).fused
        return losses.contrast_loss(step.now.fused[: len(key)], key, self.bilinear)


def make_auxiliaries(settings: AgentSettings) -> nn.ModuleDict:
    """Those that the settings give a weight, by name and in a fixed order."""
    kinds: dict[str, Callable[[], nn.Module]] = {
        "transition": lambda: Transition(settings),
        "reward": lambda: Reward(settings),
        "semantic": lambda: _semantic(settings),
        "contrast": lambda: Contrast(settings),
        "semantic_features": SemanticFeatures,
    }
    return nn.ModuleDict({name: make() for name, make in kinds.items() if name in settings.auxiliary_weights})


def _semantic(settings: AgentSettings) -> nn.Module:
    if settings.semantic_loss in MASK_LOSSES:
        return Semantic(settings)
    return SemanticFeatures() if settings.semantic_loss == "feature_l1" else SemanticContrast(settings)
