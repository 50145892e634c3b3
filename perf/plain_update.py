"""One update of every method as one would first write it, each loss encoding for itself: what `train.agent` must equal,
and what it is measured against.

Passes of an update, in order; "+" marks those with a backward pass, and each is one per shifted copy:

    1   online(s')    a' ~ π(s')                         no gradient
    2   target(s')    Q'(s', a'), hence y                no gradient
    3   online(next)  z, which the transition predicts   no gradient, with transition; next is s' but with n steps
    4 + online(s)     L_Q
    5 + online(s)     L_trans                            with transition
    6 + online(s)     L_rew                              with reward
    7 + online(s)     L_sem                              with semantic
    8 + online(s)     L_con: the query                   with contrast
    9   target(s)     L_con: the key, another shift      no gradient, with contrast
   10 + online(s)     L_BC                               offline; cloning alone has this pass and no other
   11   online(s)     π(a|s) for L_π                     no gradient, every second update
   12   online(s)     z for Q(s, a) in L_π               no gradient, every second update

The shared form has three: online(s'), target(s') and + online(s), with contrast the key's. Beyond that, this form
leaves PyTorch's defaults as they are: contiguous memory, unfused Adam, one parameter after the other. Layers are the
agent's own; what is done with them, the losses, clipping, α's gradient and the targets' moves are written out anew.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from perf.plain_encoder import Maps, encode, through
from semore.datasets.frame_pool import Batch
from semore.train.agent_settings import LossWeights
from semore.train.learner import Learner


def plain_shift(frames: Tensor) -> Tensor:
    """Every sample of (B,F,3,S,S) moved by its own drawn offset, pixel rows and columns looked up."""
    count, side = len(frames), frames.shape[-1]
    reach = max(round(side / 21), 1)
    offset = torch.randint(0, 2 * reach + 1, (2, count, 1))[..., 0] - reach
    moved = torch.empty_like(frames)
    for b, (down, right) in enumerate(offset.T.tolist()):
        rows, columns = ((torch.arange(side) + by).clamp(0, side - 1) for by in (down, right))
        moved[b] = frames[b][:, :, rows][:, :, :, columns]
    return moved


class PlainTrainer:
    """Trains a copy of an agent's networks by `update`, which draws the random numbers that the agent's own draws; in
    the precision of its weights."""

    def __init__(self, agent: Learner) -> None:
        self.settings, self.updates = agent.settings, agent.updates
        self.net: Any = copy.deepcopy(agent).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        named = dict(self.named_parameters())
        self.actor = [named[name] for name in named if name.startswith("actor")]
        self.critic = [named[name] for name in named if not name.startswith(("actor", "target", "log_alpha"))]
        self.optimizers = [torch.optim.Adam(side, self.settings.lr) for side in (self.critic, self.actor)]
        if "log_alpha" in named:
            self.optimizers.append(torch.optim.Adam([named["log_alpha"]], self.settings.alpha_lr, betas=(0.5, 0.999)))

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Of the networks, by the agent's names."""
        named: Iterator[tuple[str, nn.Parameter]] = self.net.named_parameters()
        return named

    def latents(self, neck: Any, maps: Maps) -> tuple[Tensor, Tensor]:
        """z, and the latent whose successor is predicted."""
        if self.settings.encoder.streams == "single":
            z = neck.latent(maps.semantic)
            return z, z
        semantic, motion = neck.semantic(maps.semantic), neck.motion(maps.motion)
        more = [neck.known(maps.known)] if self.settings.encoder.mask_path == "concat" else []
        if self.settings.encoder.fusion == "bilinear":
            product = torch.einsum("bi,oij,bj->bo", semantic, neck.fuse.weight, motion) + neck.fuse.bias
            z = torch.cat([neck.norm(product), *more], 1)
        else:
            z = neck.norm(torch.cat([semantic, motion, *more], 1))
        return z, z if self.settings.transition_latent == "fused" else motion

    def policy(self, maps: Maps) -> tuple[Tensor, Tensor]:
        """Mean and log σ."""
        out = self.net.actor(self.latents(self.net.actor_neck, maps)[0])
        return out[:, :2], -10.0 + 0.5 * 12.0 * (torch.tanh(out[:, 2:]) + 1.0)

    def draw(self, maps: Maps, noise: Tensor) -> tuple[Tensor, Tensor]:
        """a = tanh(u), u = mean + σ·noise, and log π(a) = Σ log N(u) − log(1 − a²), where 1 − a² = 1 / cosh²(u)."""
        mean, log_spread = self.policy(maps)
        raw = mean + log_spread.exp() * noise
        log_cosh = torch.logaddexp(raw, -raw) - math.log(2.0)
        normal = -0.5 * noise**2 - log_spread - math.log(math.sqrt(2.0 * math.pi))
        return torch.tanh(raw), (normal + 2.0 * log_cosh).sum(1, keepdim=True)

    def critics(self, nets: Any, z: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Q1 and Q2, the online or the target ones."""
        both = torch.cat([z, action], 1)
        return nets.q1(both), nets.q2(both)

    def update(self, batch: Batch, weights: LossWeights, watch: bool = False) -> dict[str, Tensor]:
        """One update; the values of the losses."""
        if self.settings.objective == "cloning":
            return self._imitate(batch)
        net, s, count = self.net, self.settings, len(batch.frames)
        copies, target = max(s.shifts, 1), self.net.target
        seen, following = ([plain_shift(batch.frames) for _ in range(s.shifts)] or [batch.frames] for _ in range(2))
        share = {"student": weights.student_share, "own": 1.0}.get(s.encoder.mask, 0.0)
        coin = torch.rand(copies * count, batch.mask.shape[1], dtype=batch.mask.dtype).chunk(copies)
        use = [batch.mask_valid & (part >= share) for part in coin]

        def now(k: int) -> Maps:
            return encode(self.settings.encoder, net.backbone, seen[k], 2, batch.mask[:, 0], use[k][:, 0])

        def then(k: int, encoder: nn.Module, newest: int = batch.frames.shape[1] - 1) -> Maps:
            which = 1 if newest == 3 else 2
            mask, cached = batch.mask[:, which], use[k][:, which]
            return encode(self.settings.encoder, encoder, following[k], newest, mask, cached)

        noise = torch.randn(copies * count, 2, dtype=batch.mask.dtype).chunk(copies)
        y, successors = torch.zeros_like(batch.reward), []
        with torch.no_grad():
            for k in range(copies):
                action, log_pi = self.draw(then(k, net.backbone), noise[k])
                q1, q2 = self.critics(target, self.latents(target.neck, then(k, target.backbone))[0], action)
                value = torch.where(q1 < q2, q1, q2) - net.log_alpha.exp() * log_pi
                y += (batch.returns + batch.discount * value) / copies
                if "transition" in s.auxiliaries:
                    successors.append(self.latents(net.neck, then(k, net.backbone, 3))[1])

        def q_term(k: int) -> Tensor:
            q1, q2 = self.critics(net, self.latents(net.neck, now(k))[0], batch.action)
            return ((q1 - y) ** 2).mean() + ((q2 - y) ** 2).mean()

        def transition_term(k: int) -> Tensor:
            za = torch.cat([self.latents(net.neck, now(k))[1], batch.action], 1)
            predicted: Tensor = net.auxiliaries["transition"].head(za)
            return (0.5 * (predicted - successors[k]) ** 2).mean()

        def reward_term(k: int) -> Tensor:
            za = torch.cat([self.latents(net.neck, now(k))[0], batch.action], 1)
            predicted: Tensor = net.auxiliaries["reward"].head(za)
            return ((predicted - batch.reward) ** 2).mean()

        def contrast_term(k: int) -> Tensor:
            query, other = self.latents(net.neck, now(k))[0], plain_shift(batch.frames)
            with torch.no_grad():
                nowhere = torch.zeros(count, dtype=torch.bool)
                maps = encode(self.settings.encoder, target.backbone, other, 2, batch.mask[:, 0], nowhere)
                key = self.latents(target.neck, maps)[0]
            scores: Tensor = query @ net.auxiliaries["contrast"].bilinear @ key.T
            return (scores.logsumexp(1) - scores.diagonal()).mean()

        terms: dict[str, tuple[float, Callable[[int], Tensor]]] = {
            "q": (1.0, q_term),
            "transition": (s.transition_weight, transition_term),
            "reward": (s.reward_weight, reward_term),
            "semantic": (s.semantic_weight, lambda k: self._semantic(now(k), batch)),
            "contrast": (s.contrast_weight, contrast_term),
            "semantic_features": (s.semantic_features_weight, lambda k: self._features(now(k), batch)),
            "cloning": (weights.cloning, lambda k: self._imitation(now(k), batch)),
        }
        offline = weights.cloning > 0 and weights.cloning_shapes_encoder
        values: dict[str, Tensor] = {}
        for name in ("q", *s.auxiliaries, *(["cloning"] if offline else [])):
            factor, term = terms[name]
            times = 1 if name == "contrast" else copies
            if factor:
                values[name] = sum((self._backward(term(k) / times, factor) for k in range(times)), torch.zeros(()))
        self.updates += 1
        acts = self.updates % s.actor_every == 0
        if acts:  # the actor reads what there was before the critic's step
            with torch.no_grad():
                behind = [now(k) for k in range(copies)]
                z = torch.cat([self.latents(net.neck, now(k))[0] for k in range(copies)])
        self._descend(0, s.clip)
        if offline:
            self._descend(1, s.clip / 5)
        if acts:
            values |= self._improve(behind, z, batch, weights)
            self._follow()
        return values

    def _improve(self, behind: list[Maps], z: Tensor, batch: Batch, weights: LossWeights) -> dict[str, Tensor]:
        """L_π, then α."""
        net, s = self.net, self.settings
        noise = torch.randn(len(z), 2, dtype=z.dtype).chunk(len(behind))
        drawn = [self.draw(maps, part) for maps, part in zip(behind, noise, strict=True)]
        action, log_pi = torch.cat([part[0] for part in drawn]), torch.cat([part[1] for part in drawn])
        q1, q2 = self.critics(net, z, action)
        smaller, alpha = torch.where(q1 < q2, q1, q2), net.log_alpha.detach().exp()
        loss = total = (alpha * log_pi - smaller).mean()
        values = {"actor": loss.detach()}
        if weights.cloning > 0:
            imitation = torch.stack([self._imitation(maps, batch) for maps in behind]).mean()
            values["cloning"] = imitation.detach()
            total = loss / max(float(smaller.detach().abs().mean()), 1.0) + weights.cloning * imitation
        total.backward(inputs=self.actor)
        self._descend(1, s.clip / 5)
        values["alpha_loss"] = net.log_alpha.grad = alpha * (-log_pi.detach() - s.target_entropy).mean()
        self._descend(2, math.inf)
        return values

    def _imitate(self, batch: Batch) -> dict[str, Tensor]:
        """Behaviour cloning alone: encoder and actor, no critics, no targets."""
        s = self.settings
        seen = [plain_shift(batch.frames) for _ in range(s.shifts)] or [batch.frames]
        nowhere = torch.zeros(len(batch.frames), dtype=torch.bool)
        maps = [
            encode(self.settings.encoder, self.net.backbone, frames, 2, batch.mask[:, 0], nowhere) for frames in seen
        ]
        value = self._backward(torch.stack([self._imitation(part, batch) for part in maps]).mean())
        self.updates += 1
        self._descend(0, s.clip)
        self._descend(1, s.clip / 5)
        return {"cloning": value}

    def _imitation(self, maps: Maps, batch: Batch) -> Tensor:
        apart = ((torch.tanh(self.policy(maps)[0]) - batch.advice) ** 2).mean(1)
        return (batch.driver[:, 0] * apart).sum() / batch.driver.sum()

    def _features(self, maps: Maps, batch: Batch) -> Tensor:
        rows = batch.mask_valid[:, 0]
        known = through(self.net.backbone.mask_encoder, batch.mask[rows, :1])
        return (maps.semantic[rows] - known.detach()).abs().mean()

    def _semantic(self, maps: Maps, batch: Batch) -> Tensor:
        kind, rows = self.settings.semantic_loss, batch.mask_valid[:, 0]
        if kind == "feature_l1":
            return self._features(maps, batch)
        if kind == "nt_xent" and maps.known is not None:
            known = self.net.auxiliaries["semantic"].head(maps.known.flatten(1))
            return nt_xent(self.net.neck.semantic(maps.semantic)[rows], known[rows])
        logit, known = maps.student[rows], batch.mask[rows, 0]
        found = logit.sigmoid()
        if kind == "plain_l1":
            return (found - known).abs().mean()
        hit, quiet = (-logsigmoid(logit), -logsigmoid(-logit)) if kind == "balanced_bce" else (1.0 - found, found)
        return 0.5 * (known * hit).sum() / known.sum() + 0.5 * ((1.0 - known) * quiet).sum() / (1.0 - known).sum()

    def _backward(self, loss: Tensor, factor: float = 1.0) -> Tensor:
        """Adds the gradient of factor·loss to the parameters'; the loss without one."""
        (factor * loss).backward()
        return loss.detach()

    def _descend(self, which: int, clip: float) -> None:
        """Clip to a common norm, step, clear."""
        optimizer = self.optimizers[which]
        moved = [value for group in optimizer.param_groups for value in group["params"] if value.grad is not None]
        norm = math.sqrt(sum(float((value.grad**2).sum()) for value in moved))
        for value in moved:
            value.grad *= min(1.0, clip / (norm + 1e-6))
        optimizer.step()
        optimizer.zero_grad()

    @torch.no_grad()
    def _follow(self) -> None:
        """Targets move a little towards the networks."""
        online = dict(self.named_parameters())
        for name, target in self.net.target.named_parameters():
            rate = self.settings.encoder_tau if name.startswith(("backbone", "neck")) else self.settings.tau
            target.copy_((1.0 - rate) * target + rate * online[name])


def nt_xent(one: Tensor, two: Tensor) -> Tensor:
    """Each of the 2V latents picks its partner among all others by cosine; both directions summed."""
    everyone = torch.cat([one, two])
    everyone = everyone / (everyone**2).sum(1, keepdim=True).sqrt()
    total = torch.zeros(())
    for n in range(len(everyone)):
        scores = everyone @ everyone[n]
        others = torch.cat([scores[:n], scores[n + 1 :]])
        total = total + others.exp().sum().log() - scores[(n + len(one)) % len(everyone)]
    return 2.0 * total / len(everyone)
