"""The update as one would first write it, every loss encoding for itself; what it costs, and that it learns the same.

Passes of one update, in order; "+" marks those with a backward pass:

    1   online(s')    a' ~ π(s')                         no gradient
    2   target(s')    Q'(s', a'), hence y                no gradient
    3 + online(s)     L_Q
    4   online(s')    z', which the transition predicts  no gradient
    5 + online(s)     L_trans
    6 + online(s)     L_rew
    7 + online(s)     L_sem
    8   online(s)     π(a|s) for L_π                     no gradient, every second update
    9   online(s)     z for Q(s, a) in L_π               no gradient, every second update

The shared form (train.agent) has three: online(s'), target(s') and + online(s). Beyond that, this form leaves PyTorch's
defaults as they are: contiguous memory, unfused Adam, float32. Networks, losses, optimiser rates and target networks
are the same objects. One thing differs by intent: passes 8 and 9 come after the critic's step and see its weights, the
shared form's actor step sees the maps of before; at a rate of zero both give the same gradients.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from semore.datasets.frame_pool import Batch
from semore.train import losses
from semore.train.agent import Agent, sample_action
from semore.train.agent_settings import AgentSettings, LossWeights
from semore.train.encoder import Features


class UnsharedAgent(Agent):
    """Agent whose update shares nothing; for dual streams, without behaviour cloning."""

    def __init__(self, settings: AgentSettings) -> None:
        super().__init__(settings)
        self.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.critic_optimizer = torch.optim.Adam(self.critic_side, settings.lr)
        self.actor_optimizer = torch.optim.Adam(self.actor_side, settings.lr)

    def update(self, batch: Batch, weights: LossWeights, watch: bool = False) -> dict[str, Tensor]:
        """As Agent.update, in the order of the pass list."""
        s = self.settings
        alpha = self.log_alpha.exp().detach()
        use_cached = batch.mask_valid & (torch.rand_like(batch.mask[:, :, 0, 0]) >= weights.student_share)

        def encode(backbone: nn.Module, which: int) -> Features:
            """Of s (0) or s' (1), from its stack of three frames."""
            f1, f2, f3 = (batch.frames[:, which + age].float() / 255.0 for age in range(3))
            motion = torch.cat([f3 - f2, f2 - f1], 1)
            features: Features = backbone(f3, motion, batch.mask[:, which], use_cached[:, which])
            return features

        with torch.no_grad():
            next_action, next_log_pi = sample_action(*self.policy(encode(self.backbone, 1)))
            zq = torch.cat([self.target["neck"](encode(self.target["backbone"], 1))[0], next_action], 1)
            next_q = self.target["q1"](zq), self.target["q2"](zq)
            y = losses.q_target(batch.reward, batch.not_done, s.gamma, *next_q, alpha, next_log_pi)

        parts: dict[str, Tensor] = {}
        za = torch.cat([self.neck(encode(self.backbone, 0))[0], batch.action], 1)
        parts["q"] = losses.q_loss(self.q1(za), self.q2(za), y)
        parts["q"].backward()
        with torch.no_grad():
            next_latent = self._predicted_latent(*self.neck(encode(self.backbone, 1)))
        latent = self._predicted_latent(*self.neck(encode(self.backbone, 0)))
        parts["transition"] = losses.transition_loss(self.transition(torch.cat([latent, batch.action], 1)), next_latent)
        (s.transition_weight * parts["transition"]).backward()
        za = torch.cat([self.neck(encode(self.backbone, 0))[0], batch.action], 1)
        parts["reward"] = losses.reward_loss(self.reward(za), batch.reward)
        (s.reward_weight * parts["reward"]).backward()
        parts["semantic"] = self._semantic_loss(encode(self.backbone, 0), batch)
        (s.semantic_weight * parts["semantic"]).backward()
        self._step(self.critic_optimizer, self.critic_side, s.clip)

        self.updates += 1
        if self.updates % s.actor_every == 0:
            with torch.no_grad():
                features = encode(self.backbone, 0)
            action, log_pi = sample_action(*self.policy(features))
            with torch.no_grad():
                z = self.neck(encode(self.backbone, 0))[0]
            za = torch.cat([z, action], 1)
            parts["actor"] = losses.actor_loss(alpha, log_pi, self.q1(za), self.q2(za))
            parts["actor"].backward()
            self._step(self.actor_optimizer, self.actor_side, s.clip / 5)
            self.critic_optimizer.zero_grad(set_to_none=True)
            parts["alpha_loss"] = losses.alpha_loss(self.log_alpha, log_pi, s.target_entropy)
            parts["alpha_loss"].backward()
            self._step(self.alpha_optimizer, [self.log_alpha], math.inf)
            self._move_targets()
        return {name: value.detach() for name, value in parts.items()}
