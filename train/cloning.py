"""Behaviour cloning alone: the driver's actions, without critics."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from semore.datasets.frame_pool import Batch
from semore.train import losses
from semore.train.agent_settings import AgentSettings, LossWeights
from semore.train.augment import augmented
from semore.train.encoder import make_backbone, make_neck
from semore.train.flat import Flat
from semore.train.learner import Learner
from semore.train.networks import mlp, parameters


class CloningAgent(Learner):
    """Encoder and actor, and nothing else."""

    def __init__(self, settings: AgentSettings) -> None:
        encoder = settings.encoder
        super().__init__(settings, make_backbone(encoder), make_neck(encoder), mlp(encoder.fused, settings.hidden, 4))
        self.encoder_side = Flat(parameters(self.backbone))
        self.actor_side = Flat(parameters(self.actor_neck, self.actor))
        self.flats = (self.encoder_side, self.actor_side)
        self.encoder_optimizer = torch.optim.Adam([self.encoder_side.values], settings.lr, fused=True)
        self.actor_optimizer = torch.optim.Adam([self.actor_side.values], settings.lr, fused=True)

    @property
    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        return self.encoder_optimizer, self.actor_optimizer

    def update(self, batch: Batch, weights: LossWeights, watch: bool = False) -> dict[str, Tensor]:
        """One step of encoder and actor towards the driver's actions."""
        batch, seen, _ = augmented(batch, self.settings.shifts)
        features = self.backbone(*self.backbone.inputs(seen, 2))
        loss = losses.cloning_loss(self.policy(features)[0], batch.advice, batch.driver)
        loss.backward()
        norms = self.gradient_norms(*self.flats) if watch else {}
        self.descend(self.actor_optimizer, self.actor_side, self.settings.clip / 5)
        self.descend(self.encoder_optimizer, self.encoder_side, self.settings.clip)
        self.updates += 1
        return {"cloning": loss.detach()} | norms
