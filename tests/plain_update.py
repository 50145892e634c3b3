"""One update of every method written out plainly, for tests: each loss encodes for itself, samples are gone through one
by one, gradients are summed by hand, and clipping, Adam and the targets' moves are the textbook's formulas."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from semore.datasets.frame_pool import Batch
from semore.train.agent import Agent
from semore.train.agent_settings import LossWeights

LOSSES = {
    "semore": ("q", "transition", "reward", "semantic"),
    "sac": ("q",),
    "deepmdp": ("q", "transition", "reward"),
    "drq": ("q",),
    "curl": ("q", "contrast"),
    "sac-segmentation": ("q", "semantic"),
}
"""What each method's critic side learns from."""


def plain_shift(frames: Tensor) -> Tensor:
    """Every sample of (B,F,3,S,S) moved by its own drawn offset, pixel rows and columns looked up one by one."""
    count, side = len(frames), frames.shape[-1]
    reach = max(round(side / 21), 1)
    offset = torch.randint(0, 2 * reach + 1, (2, count, 1))
    moved = torch.empty_like(frames)
    for b in range(count):
        down, right = (int(offset[axis, b, 0]) - reach for axis in range(2))
        rows = [min(max(y + down, 0), side - 1) for y in range(side)]
        columns = [min(max(x + right, 0), side - 1) for x in range(side)]
        moved[b] = frames[b][:, :, rows][:, :, :, columns]
    return moved


class PlainTrainer:
    """Trains a copy of an agent's networks by `step`, which draws the random numbers that `Agent.update` draws."""

    def __init__(self, agent: Agent, method: str) -> None:
        self.net, self.s, self.method, self.updates = copy.deepcopy(agent), agent.settings, method, 0
        self.moments: dict[str, tuple[int, Tensor, Tensor]] = {}
        named = dict(self.net.named_parameters())
        self.actor = [name for name in named if name.startswith(("actor.", "actor_neck."))]
        self.critic = [name for name in named if name not in self.actor and not name.startswith(("target", "log_a"))]

    def encode(self, backbone: nn.Module, frames: Tensor, newest: int, mask: Tensor, use: Tensor) -> list[Tensor]:
        """The maps of both streams, the student's logits, and the mask's features."""
        f1, f2, f3 = frames[:, newest - 2], frames[:, newest - 1], frames[:, newest]
        if self.s.encoder.streams == "single":
            maps = backbone.stream(torch.cat([f1, f2, f3], 1))
            return [maps, maps, backbone.student_head(maps)[:, 0]]
        semantic, motion = backbone.semantic_stream(f3), backbone.motion_stream(torch.cat([f3 - f2, f2 - f1], 1))
        student = backbone.student_head(semantic)[:, 0]
        if self.s.encoder.attention == "none":
            return [semantic, motion, student]
        instead = student.sigmoid().detach() * (0.0 if self.s.encoder.mask == "zeros" else 1.0)
        known = torch.stack([mask[b] if use[b] else instead[b] for b in range(len(use))])
        features = backbone.mask_encoder(known[:, None])
        return [*backbone.attention(semantic, motion, features)[:2], student, features]

    def latents(self, neck: nn.Module, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """z, and the latent whose successor is predicted."""
        if self.s.encoder.streams == "single":
            z = neck.latent(maps[0])
            return z, z
        semantic, motion = neck.semantic(maps[0]), neck.motion(maps[1])
        concat = self.s.encoder.fusion == "concat"
        fused = torch.cat([semantic, motion], 1) if concat else nn.Bilinear.forward(neck.fuse, semantic, motion)
        return neck.norm(fused), neck.norm(fused) if self.s.transition_latent == "fused" else motion

    def policy(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and σ."""
        out = self.net.actor(self.latents(self.net.actor_neck, maps)[0])
        return out[:, :2], torch.exp(-10.0 + 0.5 * 12.0 * (torch.tanh(out[:, 2:]) + 1.0))

    def draw(self, maps: list[Tensor], noise: Tensor) -> tuple[Tensor, Tensor]:
        """a = tanh(mean + σ·noise) and log π(a) = Σ log N − log(1 − a²)."""
        mean, spread = self.policy(maps)
        action = torch.tanh(mean + spread * noise)
        density = torch.exp(-0.5 * noise**2) / (spread * math.sqrt(2.0 * math.pi))
        return action, (torch.log(density) - torch.log(1.0 - action**2)).sum(1, keepdim=True)

    def critics(self, z: Tensor, action: Tensor, nets: object) -> list[Tensor]:
        both = torch.cat([z, action], 1)
        return [nets[name](both) for name in ("q1", "q2")]  # type: ignore[index]

    def step(self, batch: Batch, weights: LossWeights) -> dict[str, float]:
        """One update; the values of the losses."""
        if self.method == "cloning":
            return self.imitate(batch)
        net, s = self.net, self.s
        old = copy.deepcopy(net)
        frames = batch.frames.double() / 255.0
        copies = max(s.shifts, 1)
        seen = [plain_shift(frames) if s.shifts else frames for _ in range(copies)]
        following = [plain_shift(frames) if s.shifts else frames for _ in range(copies)]
        coin = torch.rand(copies * len(frames), 2).chunk(copies)
        share = weights.student_share if s.encoder.mask == "student" else 0.0
        use = [batch.mask_valid & (coin[k] >= share) for k in range(copies)]

        def now(k: int, encoder: nn.Module = net.backbone) -> list[Tensor]:
            return self.encode(encoder, seen[k], 2, batch.mask[:, 0], use[k][:, 0])

        def then(k: int, encoder: nn.Module = net.backbone) -> list[Tensor]:
            return self.encode(encoder, following[k], 3, batch.mask[:, 1], use[k][:, 1])

        targets, successors = [], []
        noise = torch.randn(copies * len(frames), 2).chunk(copies)
        for k in range(copies):
            action, log_pi = self.draw(then(k), noise[k])
            q1, q2 = self.critics(
                self.latents(net.target["neck"], then(k, net.target["backbone"]))[0], action, net.target
            )
            value = torch.where(q1 < q2, q1, q2) - net.log_alpha.exp() * log_pi
            targets.append(torch.where(batch.not_done > 0, batch.reward + s.gamma * value, batch.reward).detach())
            successors.append(self.latents(net.neck, then(k))[1].detach())
        y = sum(targets) / copies
        if "contrast" in LOSSES[self.method]:
            other = plain_shift(frames)

        def q_term(k: int) -> Tensor:
            q1, q2 = self.critics(self.latents(net.neck, now(k))[0], batch.action, {"q1": net.q1, "q2": net.q2})
            return ((q1 - y) ** 2).mean() + ((q2 - y) ** 2).mean()

        def transition_term(k: int) -> Tensor:
            predicted = net.transition(torch.cat([self.latents(net.neck, now(k))[1], batch.action], 1))
            return (0.5 * (predicted - successors[k]) ** 2).mean()

        def reward_term(k: int) -> Tensor:
            predicted = net.reward(torch.cat([self.latents(net.neck, now(k))[0], batch.action], 1))
            return ((predicted - batch.reward) ** 2).mean()

        def contrast_term(k: int) -> Tensor:
            query = self.latents(net.neck, now(k))[0]
            nowhere = torch.zeros(len(frames), dtype=torch.bool)
            maps = self.encode(net.target["backbone"], other, 2, batch.mask[:, 0], nowhere)
            key = self.latents(net.target["neck"], maps)[0].detach()
            total = torch.zeros(())
            for b in range(len(query)):
                scores = torch.stack([query[b] @ net.contrast @ key[c] for c in range(len(key))])
                total = total - torch.log(scores[b].exp() / scores.exp().sum())
            return total / len(query)

        terms = {
            "q": (1.0, q_term),
            "transition": (s.transition_weight, transition_term),
            "reward": (s.reward_weight, reward_term),
            "semantic": (s.semantic_weight, lambda k: self.semantic(now(k), batch)),
            "contrast": (s.contrast_weight, contrast_term),
            "cloning": (weights.cloning, lambda k: self.imitation(now(k), batch)),
        }
        chosen = list(LOSSES[self.method])
        cloning_now = weights.cloning > 0 and weights.cloning_shapes_encoder
        chosen += ["cloning"] if cloning_now else []
        values: dict[str, float] = {}
        critic, actor = self.nothing(self.critic), self.nothing(self.actor)
        for name in chosen:
            factor, term = terms[name]
            for k in range(1 if name == "contrast" else copies):
                loss = term(k) / (1 if name == "contrast" else copies)
                values[name] = values.get(name, 0.0) + float(loss.detach())
                self.add(critic, factor * loss)
                if name == "cloning":
                    self.add(actor, factor * loss)
        with torch.no_grad():
            behind = [now(k, old.backbone) for k in range(copies)]  # the actor reads what the critic step left behind
            latent = torch.cat([self.latents(old.neck, maps)[0] for maps in behind])
        self.descend(critic, s.clip, s.lr)
        if cloning_now:
            self.descend(actor, s.clip / 5, s.lr)
        self.updates += 1
        if self.updates % s.actor_every == 0:
            noise = torch.randn(copies * len(frames), 2).chunk(copies)
            values |= self.improve(behind, latent, noise, batch, weights)
            self.follow()
        return values

    def improve(
        self, behind: list[list[Tensor]], latent: Tensor, noise: tuple[Tensor, ...], batch: Batch, weights: LossWeights
    ) -> dict[str, float]:
        """L_π, then α."""
        net, s = self.net, self.s
        drawn = [self.draw(maps, part) for maps, part in zip(behind, noise, strict=True)]
        action, log_pi = torch.cat([part[0] for part in drawn]), torch.cat([part[1] for part in drawn])
        q1, q2 = self.critics(latent, action, {"q1": net.q1, "q2": net.q2})
        smaller = torch.where(q1 < q2, q1, q2)
        alpha = float(net.log_alpha.detach().exp())
        loss = total = (alpha * log_pi - smaller).mean()
        values = {"actor": float(loss.detach())}
        if weights.cloning > 0:
            imitation = sum(self.imitation(maps, batch) for maps in behind) / len(behind)
            values["cloning"] = float(imitation.detach())
            total = loss / max(float(smaller.detach().abs().mean()), 1.0) + weights.cloning * imitation
        actor = self.nothing(self.actor)
        self.add(actor, total)
        self.descend(actor, s.clip / 5, s.lr)
        gap = float((-log_pi.detach() - s.target_entropy).mean())
        self.descend({"log_alpha": torch.tensor(alpha * gap)}, math.inf, s.alpha_lr, first=0.5)
        return values | {"alpha_loss": alpha * gap}

    def imitate(self, batch: Batch) -> dict[str, float]:
        """Behaviour cloning alone: encoder and actor, no critics, no targets."""
        frames, copies = batch.frames.double() / 255.0, max(self.s.shifts, 1)
        seen = [plain_shift(frames) if self.s.shifts else frames for _ in range(copies)]
        nowhere = torch.zeros(len(frames), dtype=torch.bool)
        maps = [self.encode(self.net.backbone, part, 2, batch.mask[:, 0], nowhere) for part in seen]
        loss = sum(self.imitation(part, batch) for part in maps) / copies
        critic, actor = self.nothing(self.critic), self.nothing(self.actor)
        self.add(critic, loss)
        self.add(actor, loss)
        self.descend(critic, self.s.clip, self.s.lr)
        self.descend(actor, self.s.clip / 5, self.s.lr)
        return {"cloning": float(loss.detach())}

    def imitation(self, maps: list[Tensor], batch: Batch) -> Tensor:
        mean, total, weight = torch.tanh(self.policy(maps)[0]), torch.zeros(()), 0.0
        for b in range(len(batch.action)):
            total = total + batch.driver[b, 0] * ((mean[b] - batch.advice[b]) ** 2).sum()
            weight += 2.0 * float(batch.driver[b, 0])
        return total / weight

    def semantic(self, maps: list[Tensor], batch: Batch) -> Tensor:
        kind, rows = self.s.semantic_loss, [b for b in range(len(batch.mask)) if batch.mask_valid[b, 0]]
        if kind == "feature_l1":
            return (maps[0][rows] - maps[3][rows].detach()).abs().mean()
        if kind == "nt_xent":
            semantic = self.net.neck.semantic(maps[0])[rows]
            everyone = torch.cat([semantic, self.net.known(maps[3].flatten(1))[rows]])
            everyone = everyone / (everyone**2).sum(1, keepdim=True).sqrt()
            total = torch.zeros(())
            for n in range(len(everyone)):
                scores = everyone @ everyone[n]
                others = [m for m in range(len(everyone)) if m != n]
                total = total - scores[(n + len(rows)) % len(everyone)] + scores[others].exp().sum().log()
            return 2.0 * total / len(everyone)
        found, known = torch.sigmoid(maps[2][rows]), batch.mask[rows, 0]
        if kind == "plain_l1":
            return (found - known).abs().mean()
        hit, quiet = (-found.log(), -(1 - found).log()) if kind == "balanced_bce" else (1 - found, found)
        return 0.5 * (known * hit).sum() / known.sum() + 0.5 * ((1 - known) * quiet).sum() / (1 - known).sum()

    def nothing(self, names: list[str]) -> dict[str, Tensor | None]:
        return dict.fromkeys(names)

    def add(self, gradients: dict[str, Tensor | None], loss: Tensor) -> None:
        """Sum the gradient of `loss`; what it does not depend on keeps None, which no optimiser moves."""
        named = dict(self.net.named_parameters())
        found = torch.autograd.grad(loss, [named[name] for name in gradients], allow_unused=True, retain_graph=True)
        for name, part in zip(gradients, found, strict=True):
            if part is not None:
                gradients[name] = part if gradients[name] is None else gradients[name] + part

    def descend(self, gradients: dict[str, Tensor | None], clip: float, lr: float, first: float = 0.9) -> None:
        """Clip to a common norm, then Adam (β1 `first`, β2 0.999, ε 1e-8)."""
        present = {name: part for name, part in gradients.items() if part is not None}
        norm = math.sqrt(sum(float((part**2).sum()) for part in present.values()))
        named = dict(self.net.named_parameters())
        for name, part in present.items():
            part = part * min(1.0, clip / (norm + 1e-6))
            count, mean, square = self.moments.get(name, (0, torch.zeros_like(part), torch.zeros_like(part)))
            count, mean, square = count + 1, first * mean + (1 - first) * part, 0.999 * square + 0.001 * part**2
            self.moments[name] = (count, mean, square)
            with torch.no_grad():
                size = (square / (1 - 0.999**count)).sqrt() + 1e-8
                named[name] -= lr * mean / (1 - first**count) / size

    def follow(self) -> None:
        """Targets move a little towards the networks."""
        online = dict(self.net.named_parameters())
        with torch.no_grad():
            for name, target in self.net.target.named_parameters():
                rate = self.s.encoder_tau if name.startswith(("backbone", "neck")) else self.s.tau
                target.copy_((1 - rate) * target + rate * online[name])
