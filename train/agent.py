"""The agent: encoder, SAC, DeepMDP heads and what rivals add, with the whole update on one screen (method.md §3, §4).

Every part is a setting: Semore's are the defaults, and presets/methods/ names the rivals' (same convolutions, data and
schedule)."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from semore.datasets.frame_pool import Batch
from semore.train import losses
from semore.train.agent_settings import MASK_LOSSES, AgentSettings, LossWeights, check
from semore.train.augment import random_shift
from semore.train.encoder import Features, Neck, make_backbone, make_neck, orthogonal

ACTIONS = 2


class Agent(nn.Module):
    """Networks, targets and optimisers. The actor reads the critic's backbone maps, detached, through its own neck."""

    def __init__(self, settings: AgentSettings) -> None:
        super().__init__()
        check(settings)
        self.settings = settings
        encoder = settings.encoder
        fused = 2 * encoder.latent
        apart = settings.transition_latent == "motion" and encoder.streams == "dual"
        predicted = encoder.latent if apart else fused
        self.backbone = make_backbone(encoder)
        self.neck, self.actor_neck = make_neck(encoder), make_neck(encoder)
        self.q1, self.q2 = (_mlp(fused + ACTIONS, settings.hidden, 1) for _ in range(2))
        self.actor = _mlp(fused, settings.hidden, 2 * ACTIONS)
        self.transition = _head(predicted + ACTIONS, settings.model_hidden, predicted)
        self.reward = _head(fused + ACTIONS, settings.model_hidden, 1)
        flat = encoder.channels[-1] * self.backbone.grid**2
        self.known = nn.Linear(flat, encoder.latent) if settings.semantic_loss == "nt_xent" else None
        self.contrast = nn.Parameter(torch.eye(fused) / fused**0.5) if settings.contrast_weight else None
        self.log_alpha = nn.Parameter(torch.tensor(math.log(settings.initial_alpha)))
        self.target = nn.ModuleDict(
            {name: copy.deepcopy(getattr(self, name)) for name in ("backbone", "neck", "q1", "q2")}
        ).requires_grad_(False)
        parts = [self.backbone, self.neck, self.q1, self.q2, self.transition, self.reward]
        self.critic_side = _parameters(*parts, *([self.known] if self.known else []))
        self.critic_side += [self.contrast] if self.contrast is not None else []
        self.actor_side = _parameters(self.actor_neck, self.actor)
        self.critic_optimizer = torch.optim.Adam(self.critic_side, settings.lr, fused=True)
        self.actor_optimizer = torch.optim.Adam(self.actor_side, settings.lr, fused=True)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], settings.alpha_lr, betas=(0.5, 0.999))
        self.updates = 0

    @property
    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        """Critic side, actor side, α."""
        return self.critic_optimizer, self.actor_optimizer, self.alpha_optimizer

    @property
    def teaches_mask(self) -> bool:
        """Whether any loss shapes the student's mask."""
        return self.settings.teaches_mask

    def student_share(self, weights: LossWeights) -> float:
        """Probability that the student's mask replaces a cached one: the schedule's, where it is mixed in at all."""
        return weights.student_share if self.settings.encoder.mask == "student" else 0.0

    def update(self, batch: Batch, weights: LossWeights, watch: bool = False) -> dict[str, Tensor]:
        """One step of method.md §4 on a batch; returns detached scalars, with `watch` also each part's gradient norm.
        Losses share the passes online(s), online(s'), target(s')."""
        s = self.settings
        if s.objective == "cloning":
            return self._imitate(batch, watch)
        alpha = self.log_alpha.exp().detach()
        batch, seen, following = self._looks(batch)
        use_cached = batch.mask_valid & (torch.rand_like(batch.mask[:, :, 0, 0]) >= self.student_share(weights))
        now, then = self.backbone.inputs(seen, 2), self.backbone.inputs(following, 3)

        # Targets: a' ~ π(s'), y, and z' from the online encoder; no gradient.
        with torch.no_grad():
            next_online = self.backbone(*then, batch.mask[:, 1], use_cached[:, 1])
            next_target = self.target["backbone"](*then, batch.mask[:, 1], use_cached[:, 1])
            next_action, next_log_pi = sample_action(*self.policy(next_online))
            zq = torch.cat([self.target["neck"](next_target)[0], next_action], 1)
            y = losses.q_target(
                batch.reward, batch.not_done, s.gamma, self.target["q1"](zq), self.target["q2"](zq), alpha, next_log_pi
            )
            if s.shifts > 1:
                y = y.unflatten(0, (s.shifts, -1)).mean(0).repeat(s.shifts, 1)
            next_latent = self._predicted_latent(*self.neck(next_online))

        # L = L_Q + L_trans + L_rew + λ_sem·L_sem (+ λ_bc·L_BC offline), one backward into the critic side.
        features = self.backbone(*now, batch.mask[:, 0], use_cached[:, 0])
        z, z_motion = self.neck(features)
        za = torch.cat([z, batch.action], 1)
        parts = {"q": losses.q_loss(self.q1(za), self.q2(za), y)}
        total = parts["q"]
        if s.transition_weight:
            latent = torch.cat([self._predicted_latent(z, z_motion), batch.action], 1)
            parts["transition"] = losses.transition_loss(self.transition(latent), next_latent)
            total = total + s.transition_weight * parts["transition"]
        if s.reward_weight:
            parts["reward"] = losses.reward_loss(self.reward(za), batch.reward)
            total = total + s.reward_weight * parts["reward"]
        if s.semantic_weight:
            parts["semantic"] = self._semantic_loss(features, batch)
            total = total + s.semantic_weight * parts["semantic"]
        if s.contrast_weight:
            parts["contrast"] = self._contrast_loss(z, batch)
            total = total + s.contrast_weight * parts["contrast"]
        cloning_now = weights.cloning > 0 and weights.cloning_shapes_encoder
        if cloning_now:
            parts["cloning"] = losses.cloning_loss(self.policy(features)[0], batch.advice, batch.driver)
            total = total + weights.cloning * parts["cloning"]
        total.backward()
        norms = self.gradient_norms() if watch else {}
        self._step(self.critic_optimizer, self.critic_side, s.clip)
        if cloning_now:
            self._step(self.actor_optimizer, self.actor_side, s.clip / 5)

        self.updates += 1
        if self.updates % s.actor_every == 0:
            parts |= self._update_actor(features.detach(), z.detach(), batch, weights, watch)
            self._move_targets()
        parts |= {"target_q": y.mean(), "target_q_max": y.abs().amax(), "alpha": alpha}
        return norms | {name: value.detach() for name, value in parts.items()}

    def policy(self, features: Features) -> tuple[Tensor, Tensor]:
        """Mean and log σ (B,2) before tanh; log σ = −10 + 6·(tanh(x) + 1) (method.md §3.3)."""
        mean, spread = self.actor(self.actor_neck(features)[0]).chunk(2, 1)
        return mean, -10.0 + 6.0 * (torch.tanh(spread) + 1.0)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Acting: mean and log σ (B,2), and the student's mask (B,g,g) in [0,1] that stands in for H_ka
        (method.md §5.5), for observations (B,9,S,S) uint8."""
        frame = observation.float().div(255.0).unflatten(1, (3, 3))
        features = self.backbone(*self.backbone.inputs(frame, 2))
        return *self.policy(features), features.student.sigmoid()

    @torch.no_grad()
    def gradient_norms(self, side: str = "") -> dict[str, Tensor]:
        """Euclidean norm of the gradient of each part that has one, of those whose names begin with `side`."""
        found: dict[str, list[Tensor]] = {}
        for name, parameter in self.named_parameters():
            if parameter.grad is not None and name.startswith(side):
                found.setdefault(name.partition(".")[0], []).append(parameter.grad)
        return {f"gradient_{part}": torch.stack(torch._foreach_norm(each)).norm() for part, each in found.items()}

    def _looks(self, batch: Batch) -> tuple[Batch, Tensor, Tensor]:
        """The frames in [0,1] as s and as s' are seen, and the batch; with shifts, so many copies of all three."""
        frame = batch.frames.float().div_(255.0)
        copies = self.settings.shifts
        if not copies:
            return batch, frame, frame
        seen, following = (torch.cat([random_shift(frame) for _ in range(copies)]) for _ in range(2))
        repeated = (part.repeat(copies, *[1] * (part.dim() - 1)) for part in batch[1:])
        return Batch(batch.frames, *repeated), seen, following

    def _semantic_loss(self, features: Features, batch: Batch) -> Tensor:
        """Of s; its mask is H_ka pooled onto the feature grid (method.md §5.2)."""
        kind, valid = self.settings.semantic_loss, batch.mask_valid[:, 0]
        if kind in MASK_LOSSES:
            return losses.semantic_loss(features.student, batch.mask[:, 0], valid, kind)
        assert features.known is not None
        if self.known is None:
            return losses.feature_l1_loss(features.semantic, features.known, valid)
        assert isinstance(self.neck, Neck)
        return losses.nt_xent_loss(self.neck.semantic(features.semantic), self.known(features.known.flatten(1)), valid)

    def _contrast_loss(self, z: Tensor, batch: Batch) -> Tensor:
        """CURL: the key is the same frames under another shift, seen by the target encoder."""
        with torch.no_grad():
            other = random_shift(batch.frames.float().div_(255.0))
            key = self.target["neck"](self.target["backbone"](*self.backbone.inputs(other, 2)))[0]
        assert self.contrast is not None
        return losses.contrast_loss(z[: len(key)], key, self.contrast)

    def _imitate(self, batch: Batch, watch: bool) -> dict[str, Tensor]:
        """Behaviour cloning alone: one step of encoder and actor towards the driver's actions."""
        batch, seen, _ = self._looks(batch)
        features = self.backbone(*self.backbone.inputs(seen, 2))
        loss = losses.cloning_loss(self.policy(features)[0], batch.advice, batch.driver)
        loss.backward()
        norms = self.gradient_norms() if watch else {}
        self._step(self.actor_optimizer, self.actor_side, self.settings.clip / 5)
        self._step(self.critic_optimizer, self.critic_side, self.settings.clip)
        self.updates += 1
        return {"cloning": loss.detach()} | norms

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
        if weights.cloning > 0:
            parts["cloning"] = losses.cloning_loss(mean, batch.advice, batch.driver)
            # Q grows as it learns; in units of its own size it cannot drown the imitation (as in TD3+BC).
            scale = torch.minimum(q1, q2).detach().abs().mean().clamp_min(1.0)
            total = total / scale + weights.cloning * parts["cloning"]
        total.backward()
        norms = self.gradient_norms("actor") if watch else {}
        self._step(self.actor_optimizer, self.actor_side, self.settings.clip / 5)
        # L_π also ran through the critics; their gradients must not leak into the next critic step.
        self.critic_optimizer.zero_grad(set_to_none=True)
        alpha = losses.alpha_loss(self.log_alpha, log_pi, self.settings.target_entropy)
        alpha.backward()
        self._step(self.alpha_optimizer, [self.log_alpha], math.inf)
        return parts | norms | {"alpha_loss": alpha, "entropy": -log_pi.mean(), "spread": log_std.exp().mean()}

    def _predicted_latent(self, z: Tensor, z_motion: Tensor) -> Tensor:
        return z if self.settings.transition_latent == "fused" else z_motion

    @staticmethod
    def _step(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], clip: float) -> None:
        """Clip, step, and clear the gradients."""
        if math.isfinite(clip):
            nn.utils.clip_grad_norm_(parameters, clip, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def _move_targets(self) -> None:
        rates = {"backbone": self.settings.encoder_tau, "neck": self.settings.encoder_tau}
        for name, target in self.target.items():
            online = list(getattr(self, name).parameters())
            torch._foreach_lerp_(list(target.parameters()), online, rates.get(name, self.settings.tau))


def sample_action(mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
    """a = tanh(u), u ~ N(mean, σ), reparameterised, and log π(a) (B,1) with the tanh correction in its stable form."""
    noise = torch.randn_like(mean)
    raw = mean + noise * log_std.exp()
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
    correction = 2.0 * (math.log(2.0) - raw - nn.functional.softplus(-2.0 * raw))
    return torch.tanh(raw), (gaussian - correction).sum(1, keepdim=True)


def _parameters(*modules: nn.Module) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters()]


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    layers = nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )
    return layers.apply(orthogonal)


def _head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    layers = nn.Sequential(nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    return layers.apply(orthogonal)
