"""The Semore agent: dual stream, DeepMDP heads and SAC, with the whole update on one screen (method.md §3, §4)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from datasets.frame_pool import Batch
from train import losses
from train.encoder import DualStream, EncoderSettings, Features, Neck, orthogonal, static_and_motion

ACTIONS = 2


@dataclass(frozen=True)
class AgentSettings:
    """The method's knobs; docs/fidelity.md gives the paper's and the public code's values."""

    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    """Shape of the encoder."""
    hidden: int = 256
    """Width of the actor's and critics' hidden layers."""
    model_hidden: int = 512
    """Width of the transition and reward heads."""
    lr: float = 1e-3
    """Adam's rate for encoder, critics, heads and actor."""
    alpha_lr: float = 3e-4
    """Adam's rate for log α."""
    initial_alpha: float = 0.03
    """SAC's entropy weight at the start."""
    target_entropy: float = -2.0
    """Entropy H̄ that α is tuned towards."""
    gamma: float = 0.99
    """Discount per decision."""
    tau: float = 0.01
    """Soft-update rate of the target critics."""
    encoder_tau: float = 0.05
    """Soft-update rate of the target encoder and neck."""
    actor_every: int = 2
    """Critic updates per actor update."""
    semantic_weight: float = 1.0
    """λ_sem, the weight of the semantic loss."""
    semantic_loss: str = "balanced_bce"
    """balanced_bce, balanced_l1, or plain_l1 (collapses on sparse masks: laptop.md 3)."""
    transition_latent: str = "motion"
    """Latent the transition model predicts: motion (as the public code), or fused."""
    clip: float = 50.0
    """Largest gradient norm of the critic side; the actor's is a fifth of it."""


@dataclass(frozen=True)
class Weights:
    """What the schedule says for one update."""

    cloning: float = 0.0
    """λ of the behaviour-cloning term."""
    cloning_shapes_encoder: bool = False
    """Whether its gradient reaches the encoder (the offline phase)."""
    student_share: float = 0.5
    """Probability that the student's mask replaces a cached one."""


class Agent(nn.Module):
    """Networks, targets and optimisers. The actor reads the critic's backbone maps, detached, through its own neck."""

    def __init__(self, settings: AgentSettings) -> None:
        super().__init__()
        self.settings = settings
        encoder = settings.encoder
        motion, fused = encoder.latent, 2 * encoder.latent
        predicted = fused if settings.transition_latent == "fused" else motion
        self.backbone = DualStream(encoder)
        self.neck, self.actor_neck = Neck(encoder), Neck(encoder)
        self.q1, self.q2 = (_mlp(fused + ACTIONS, settings.hidden, 1) for _ in range(2))
        self.actor = _mlp(fused, settings.hidden, 2 * ACTIONS)
        self.transition = _head(predicted + ACTIONS, settings.model_hidden, predicted)
        self.reward = _head(fused + ACTIONS, settings.model_hidden, 1)
        self.log_alpha = nn.Parameter(torch.tensor(math.log(settings.initial_alpha)))
        self.target = nn.ModuleDict(
            {name: copy.deepcopy(getattr(self, name)) for name in ("backbone", "neck", "q1", "q2")}
        ).requires_grad_(False)
        self.critic_side = _parameters(self.backbone, self.neck, self.q1, self.q2, self.transition, self.reward)
        self.actor_side = _parameters(self.actor_neck, self.actor)
        self.critic_optimizer = torch.optim.Adam(self.critic_side, settings.lr, fused=True)
        self.actor_optimizer = torch.optim.Adam(self.actor_side, settings.lr, fused=True)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], settings.alpha_lr, betas=(0.5, 0.999))
        self.updates = 0

    @property
    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        """Critic side, actor side, α."""
        return self.critic_optimizer, self.actor_optimizer, self.alpha_optimizer

    def update(self, batch: Batch, weights: Weights) -> dict[str, Tensor]:
        """One step of method.md §4 on a batch; returns detached scalars. Losses share the passes
        online(s), online(s'), target(s')."""
        s = self.settings
        alpha = self.log_alpha.exp().detach()
        frame = batch.frames.float().div_(255.0)
        use_cached = batch.mask_valid & (torch.rand_like(batch.mask[:, :, 0, 0]) >= weights.student_share)
        now, then = static_and_motion(frame, 2), static_and_motion(frame, 3)

        # Targets: a' ~ π(s'), y, and z' from the online encoder; no gradient.
        with torch.no_grad():
            next_online = self.backbone(*then, batch.mask[:, 1], use_cached[:, 1])
            next_target = self.target["backbone"](*then, batch.mask[:, 1], use_cached[:, 1])
            next_action, next_log_pi = sample_action(*self.policy(next_online))
            zq = torch.cat([self.target["neck"](next_target)[0], next_action], 1)
            y = losses.q_target(
                batch.reward, batch.not_done, s.gamma, self.target["q1"](zq), self.target["q2"](zq), alpha, next_log_pi
            )
            next_latent = self._predicted_latent(*self.neck(next_online))

        # L = L_Q + L_trans + L_rew + λ_sem·L_sem (+ λ_bc·L_BC offline), one backward into the critic side.
        features = self.backbone(*now, batch.mask[:, 0], use_cached[:, 0])
        z, z_motion = self.neck(features)
        za = torch.cat([z, batch.action], 1)
        latent = self._predicted_latent(z, z_motion)
        parts = {
            "q": losses.q_loss(self.q1(za), self.q2(za), y),
            "transition": losses.transition_loss(self.transition(torch.cat([latent, batch.action], 1)), next_latent),
            "reward": losses.reward_loss(self.reward(za), batch.reward),
            "semantic": losses.semantic_loss(
                features.student, batch.mask[:, 0], batch.mask_valid[:, 0], s.semantic_loss
            ),
        }
        total = parts["q"] + parts["transition"] + parts["reward"] + s.semantic_weight * parts["semantic"]
        cloning_now = weights.cloning > 0 and weights.cloning_shapes_encoder
        if cloning_now:
            parts["cloning"] = losses.cloning_loss(self.policy(features)[0], batch.action, batch.driver)
            total = total + weights.cloning * parts["cloning"]
        self._step(self.critic_optimizer, total, self.critic_side, s.clip)
        if cloning_now:
            self._step(self.actor_optimizer, None, self.actor_side, s.clip / 5)

        self.updates += 1
        if self.updates % s.actor_every == 0:
            parts |= self._update_actor(Features(*(part.detach() for part in features)), z.detach(), batch, weights)
            self._move_targets()
        parts |= {"target_q": y.mean(), "alpha": alpha}
        return {name: value.detach() for name, value in parts.items()}

    def policy(self, features: Features) -> tuple[Tensor, Tensor]:
        """Mean and log σ (B,2) before tanh; log σ = −10 + 6·(tanh(x) + 1) (method.md §3.3)."""
        mean, spread = self.actor(self.actor_neck(features)[0]).chunk(2, 1)
        return mean, -10.0 + 6.0 * (torch.tanh(spread) + 1.0)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Acting: mean and log σ (B,2), and the student's mask (B,g,g) in [0,1] that stands in for H_ka
        (method.md §5.5), for observations (B,9,S,S) uint8."""
        frame = observation.float().div(255.0).unflatten(1, (3, 3))
        features = self.backbone(*static_and_motion(frame, 2))
        return *self.policy(features), features.student.sigmoid()

    def _update_actor(self, features: Features, z: Tensor, batch: Batch, weights: Weights) -> dict[str, Tensor]:
        """L_π (+ λ_bc·L_BC) on detached maps trains the actor's neck and MLP alone; then α."""
        mean, log_std = self.policy(features)
        action, log_pi = sample_action(mean, log_std)
        za = torch.cat([z, action], 1)
        q1, q2 = self.q1(za), self.q2(za)
        parts = {"actor": losses.actor_loss(self.log_alpha.exp().detach(), log_pi, q1, q2)}
        total = parts["actor"]
        if weights.cloning > 0:
            parts["cloning"] = losses.cloning_loss(mean, batch.action, batch.driver)
            # Q grows as it learns; in units of its own size it cannot drown the imitation (as in TD3+BC).
            scale = torch.minimum(q1, q2).detach().abs().mean().clamp_min(1.0)
            total = total / scale + weights.cloning * parts["cloning"]
        self._step(self.actor_optimizer, total, self.actor_side, self.settings.clip / 5)
        alpha = losses.alpha_loss(self.log_alpha, log_pi, self.settings.target_entropy)
        self._step(self.alpha_optimizer, alpha, [self.log_alpha], math.inf)
        return parts | {"alpha_loss": alpha, "entropy": -log_pi.mean(), "spread": log_std.exp().mean()}

    def _predicted_latent(self, z: Tensor, z_motion: Tensor) -> Tensor:
        return z if self.settings.transition_latent == "fused" else z_motion

    def _step(
        self, optimizer: torch.optim.Optimizer, loss: Tensor | None, parameters: list[nn.Parameter], clip: float
    ) -> None:
        """Backward (unless the gradients are there already), clip, step, and clear every gradient the pass left."""
        if loss is not None:
            loss.backward()
        if math.isfinite(clip):
            nn.utils.clip_grad_norm_(parameters, clip, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if optimizer is self.actor_optimizer:
            # L_π also ran through the critics; their gradients must not leak into the next critic step.
            self.critic_optimizer.zero_grad(set_to_none=True)

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
