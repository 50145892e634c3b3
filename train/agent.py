"""The agent: SAC on an encoder, with what a method learns beside it; its whole update on one screen (method.md §3, §4).

Every part is a setting: presets/methods/ names Semore's and the rivals' (same convolutions, data and schedule)."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from semore.datasets.frame_pool import Batch
from semore.train import losses
from semore.train.agent_settings import AgentSettings, LossWeights, check
from semore.train.augment import augmented
from semore.train.auxiliaries import ACTIONS, Step, make_auxiliaries
from semore.train.cloning import CloningAgent
from semore.train.encoder import DualStream, Features, Latents, make_backbone, make_neck
from semore.train.flat import Flat
from semore.train.learner import Learner
from semore.train.networks import mlp, parameters


class Agent(Learner):
    """Networks, targets and optimisers. The actor reads the critic's backbone maps, detached, through its own neck."""

    def __init__(self, settings: AgentSettings) -> None:
        encoder, fused = settings.encoder, settings.encoder.fused
        backbone, neck, actor_neck = make_backbone(encoder), make_neck(encoder), make_neck(encoder)
        q1, q2 = (mlp(fused + ACTIONS, settings.hidden, 1) for _ in range(2))
        super().__init__(settings, backbone, actor_neck, mlp(fused, settings.hidden, 2 * ACTIONS))
        self.neck, self.q1, self.q2 = neck, q1, q2
        self.auxiliaries = make_auxiliaries(settings)
        self.log_alpha = nn.Parameter(torch.tensor(math.log(settings.initial_alpha)))
        self.target = nn.ModuleDict(
            {name: copy.deepcopy(getattr(self, name)) for name in ("backbone", "neck", "q1", "q2")}
        ).requires_grad_(False)
        self.critic_side = Flat(parameters(backbone, neck, q1, q2, self.auxiliaries))
        self.actor_side, self.alpha_side = Flat(parameters(actor_neck, self.actor)), Flat([self.log_alpha])
        self.target_side = Flat(parameters(*self.target.values()))
        self._encoder_size = sum(part.numel() for part in parameters(backbone, neck))
        self.flats = (self.critic_side, self.actor_side, self.alpha_side, self.target_side)
        self.critic_optimizer = torch.optim.Adam([self.critic_side.values], settings.lr, fused=True)
        self.actor_optimizer = torch.optim.Adam([self.actor_side.values], settings.lr, fused=True)
        self.alpha_optimizer = torch.optim.Adam([self.alpha_side.values], settings.alpha_lr, betas=(0.5, 0.999))

    @property
    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """Critic side, actor side, α."""
        return self.critic_optimizer, self.actor_optimizer, self.alpha_optimizer

    def update(self, batch: Batch, weights: LossWeights, watch: bool = False) -> dict[str, Tensor]:
        """One step of method.md §4 on a batch; returns detached scalars, with `watch` also each part's gradient norm.
        Losses share the passes online(s), online(s'), target(s')."""
        s, alpha = self.settings, self.log_alpha.exp().detach()
        batch, seen, then = augmented(batch, s.shifts)
        cached = batch.mask_valid & (torch.rand_like(batch.mask[:, :, 0, 0]) >= self.student_share(weights))

        # What comes after, from the online and the target encoder: a' ~ π(s'), and y. No gradient.
        with torch.no_grad():
            inputs = *self.backbone.inputs(then, then.shape[1] - 1), batch.mask[:, -1], cached[:, -1]
            after = self.backbone(*inputs)
            y = self._td_target(batch, after, self._target_latents(*inputs).fused, alpha)

        # L = L_Q + Σ λ·L_auxiliary (+ λ_bc·L_BC offline), one backward into the critic side.
        features = self.backbone(*self.backbone.inputs(seen, 2), batch.mask[:, 0], cached[:, 0])
        now = self.neck(features)
        za = torch.cat([now.fused, batch.action], 1)
        following = partial(self._following, then, batch.mask, cached, after)
        known = partial(self._known, batch.mask[:, 0])
        step = Step(batch, features, now, following, za, self._target_of_frames, known)
        parts = {"q": losses.q_loss(self.q1(za), self.q2(za), y)}
        parts |= {name: auxiliary(step) for name, auxiliary in self.auxiliaries.items()}
        scale = {"q": 1.0, **s.auxiliary_weights}
        if weights.cloning_shapes_encoder and weights.clones:
            parts["cloning"] = losses.cloning_loss(self.policy(features)[0], batch.advice, batch.driver)
            scale["cloning"] = weights.cloning
        losses.weighted_sum(parts, scale).backward()
        learning = [self.critic_side, *([self.actor_side] if "cloning" in parts else [])]
        norms = self.gradient_norms(*learning) if watch else {}
        self.descend(self.critic_optimizer, self.critic_side, s.clip)
        if "cloning" in parts:
            self.descend(self.actor_optimizer, self.actor_side, s.clip / 5)

        self.updates += 1
        if self.updates % s.actor_every == 0:
            parts |= self._update_actor(features.detach(), now.fused.detach(), batch, weights, watch)
            self._move_targets()
        parts |= {"target_q": y.mean(), "target_q_max": y.abs().amax(), "alpha": alpha}
        return norms | {name: value.detach() for name, value in parts.items()}

    def _td_target(self, batch: Batch, after: Features, target_z: Tensor, alpha: Tensor) -> Tensor:
        """y (B,1); with shifts its mean over the copies of a transition, as DrQ."""
        action, log_pi = sample_action(*self.policy(after))
        za = torch.cat([target_z, action], 1)
        q1, q2 = self.target["q1"](za), self.target["q2"](za)
        y = losses.q_target(batch.returns, batch.discount, q1, q2, alpha, log_pi)
        copies = self.settings.shifts
        return y.unflatten(0, (copies, -1)).mean(0).repeat(copies, 1) if copies > 1 else y

    def _update_actor(
        self, features: Features, z: Tensor, batch: Batch, weights: LossWeights, watch: bool
    ) -> dict[str, Tensor]:
        """L_π (+ λ_bc·L_BC) on the detached maps and z of before the critic step trains the actor's neck and MLP alone;
        then α."""
        mean, log_std = self.policy(features)
        action, log_pi = sample_action(mean, log_std)
        za = torch.cat([z, action], 1)
        q1, q2 = self.q1(za), self.q2(za)
        parts = {"actor": losses.actor_loss(self.log_alpha.exp().detach(), log_pi, q1, q2)}
        total = parts["actor"]
        if weights.clones:
            parts["cloning"] = losses.cloning_loss(mean, batch.advice, batch.driver)
            # Q grows as it learns; in units of its own size it cannot drown the imitation (as in TD3+BC).
            scale = torch.minimum(q1, q2).detach().abs().mean().clamp_min(1.0)
            total = total / scale + weights.cloning * parts["cloning"]
        # L_π also runs through the critics, which are not to learn from it.
        total.backward(inputs=self.actor_side.parts)
        norms = self.gradient_norms(self.actor_side) if watch else {}
        self.descend(self.actor_optimizer, self.actor_side, self.settings.clip / 5)
        alpha = losses.alpha_loss(self.log_alpha, log_pi, self.settings.target_entropy)
        alpha.backward()
        self.descend(self.alpha_optimizer, self.alpha_side)
        return parts | norms | {"alpha_loss": alpha, "entropy": -log_pi.mean(), "spread": log_std.exp().mean()}

    @torch.no_grad()
    def _following(self, then: Tensor, mask: Tensor, cached: Tensor, after: Features) -> Latents:
        """Of the next state, which is s' unless returns are longer."""
        if mask.shape[1] > 2:
            after = self.backbone(*self.backbone.inputs(then, 3), mask[:, 1], cached[:, 1])
        latents: Latents = self.neck(after)
        return latents

    @torch.no_grad()
    def _known(self, mask: Tensor) -> Tensor:
        assert isinstance(self.backbone, DualStream)  # the settings of who asks were checked
        return self.backbone.known(mask)

    def _target_latents(self, *inputs: Tensor) -> Latents:
        latents: Latents = self.target["neck"](self.target["backbone"](*inputs))
        return latents

    @torch.no_grad()
    def _target_of_frames(self, frames: Tensor) -> Latents:
        return self._target_latents(*self.backbone.inputs(frames, 2))

    @torch.no_grad()
    def _move_targets(self) -> None:
        """The targets lie in the order of what they follow: encoder and neck, then critics."""
        target, online = self.target_side.values, self.critic_side.values
        encoder = self._encoder_size
        target[:encoder].lerp_(online[:encoder], self.settings.encoder_tau)
        target[encoder:].lerp_(online[encoder : len(target)], self.settings.tau)


def make_agent(settings: AgentSettings) -> Learner:
    """The agent of the settings' objective; SemoreError naming what makes no sense in them."""
    check(settings)
    return CloningAgent(settings) if settings.objective == "cloning" else Agent(settings)


def sample_action(mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
    """a = tanh(u), u ~ N(mean, σ), reparameterised, and log π(a) (B,1) with the tanh correction in its stable form."""
    noise = torch.randn_like(mean)
    raw = mean + noise * log_std.exp()
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
    correction = 2.0 * (math.log(2.0) - raw - nn.functional.softplus(-2.0 * raw))
    return torch.tanh(raw), (gaussian - correction).sum(1, keepdim=True)
