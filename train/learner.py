"""What acts, and what an agent adds to it whatever it learns by: one class for each."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from semore.datasets.frame_pool import Batch
from semore.train.agent_settings import AgentSettings, LossWeights
from semore.train.encoder import Backbone, Features
from semore.train.flat import Flat
from semore.train.pictures import stacked


class PolicyNetwork(nn.Module):
    """The networks that act. The actor reads the backbone's maps through a neck of its own."""

    def __init__(self, backbone: Backbone, actor_neck: nn.Module, actor: nn.Module) -> None:
        super().__init__()
        self.backbone, self.actor_neck, self.actor = backbone, actor_neck, actor

    @classmethod
    def of(cls, agent: PolicyNetwork) -> PolicyNetwork:
        """What acts of an agent, without critics, heads and targets: a third of its size. Shares its weights."""
        return PolicyNetwork(agent.backbone, agent.actor_neck, agent.actor)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def policy(self, features: Features) -> tuple[Tensor, Tensor]:
        """Mean and log σ (B,2) before tanh; log σ = −10 + 6·(tanh(x) + 1) (method.md §3.3)."""
        mean, spread = self.actor(self.actor_neck(features).fused).chunk(2, 1)
        return mean, -10.0 + 6.0 * (torch.tanh(spread) + 1.0)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Acting: mean and log σ (B,2), and the student's mask (B,s,s) in [0,1] that stands in for H_ka
        (method.md §5.5), for observations (B,9,S,S) uint8."""
        features = self.backbone(*self.backbone.inputs(stacked(observation), 2))
        return *self.policy(features), features.student.sigmoid()


class Learner(PolicyNetwork):
    """An actor that learns from batches: what agents have in common. They differ in their `update`."""

    def __init__(self, settings: AgentSettings, backbone: Backbone, actor_neck: nn.Module, actor: nn.Module) -> None:
        super().__init__(backbone, actor_neck, actor)
        self.settings, self.updates = settings, 0
        self.flats: Sequence[Flat] = ()
        """All parameters, each laid end to end with the others of its side."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Learner:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._tie()
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._tie()

    def _tie(self) -> None:
        for flat in self.flats:
            flat.tie()

    @property
    @abstractmethod
    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """All that `update` steps."""

    @abstractmethod
    def update(self, batch: Batch, weights: LossWeights, watch: bool = False) -> dict[str, Tensor]:
        """One step on a batch; returns detached scalars, with `watch` also each part's gradient norm."""

    @property
    def teaches_mask(self) -> bool:
        """Whether any loss shapes the student's mask."""
        return self.settings.teaches_mask

    def student_share(self, weights: LossWeights) -> float:
        """Probability that the student's mask replaces a cached one: the schedule's, where it is mixed in at all."""
        mask = self.settings.encoder.mask
        return weights.student_share if mask == "student" else float(mask == "own")

    @torch.no_grad()
    def gradient_norms(self, *sides: Flat) -> dict[str, Tensor]:
        """Euclidean norm of the gradient of each part of these sides."""
        within = {id(parameter) for side in sides for parameter in side.parts}
        found: dict[str, list[Tensor]] = {}
        for name, parameter in self.named_parameters():
            if id(parameter) in within and parameter.grad is not None:
                found.setdefault(name.removeprefix("auxiliaries.").partition(".")[0], []).append(parameter.grad)
        return {f"gradient_{part}": torch.stack(torch._foreach_norm(each)).norm() for part, each in found.items()}

    @staticmethod
    def descend(optimizer: torch.optim.Optimizer, side: Flat, clip: float = math.inf) -> None:
        """Clip to a common norm, step, and clear the gradients."""
        side.gather()
        if math.isfinite(clip):
            side.clip(clip)
        optimizer.step()
        side.clear()
