"""Updates of other codes that perf.train measures ours against, on the same convolutions; fixed batches, no replay."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from itertools import cycle
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from perf.train_stack import Stack
from semore.datasets.frame_pool import Batch
from semore.train.augment import random_shift

LATENT = 100
"""Features of SB3's extractor: as wide as ours behind both streams."""


def sb3_sac(stack: Stack, batches: list[Batch]) -> Callable[[], None] | None:
    """Stable-Baselines3's own SAC.train on one stream of three stacked frames; None where it is not installed.

    Its passes per update, with the extractor shared: + actor(s), actor(s') and target(s') without gradient, critic(s)
    twice without gradient; an actor and a target step every time. It gets its batches ready-made.
    """
    if find_spec("stable_baselines3") is None:
        return None
    library: Any = import_module("stable_baselines3")
    samples: Any = import_module("stable_baselines3.common.type_aliases").ReplayBufferSamples
    silent: Any = import_module("stable_baselines3.common.logger")
    model = library.SAC(
        "CnnPolicy",
        _Spaces(stack.size),
        buffer_size=1,
        policy_kwargs={
            "features_extractor_class": _Extractor,
            "features_extractor_kwargs": {"stack": stack},
            "share_features_extractor": True,
            "net_arch": [256, 256],
        },
        device="cpu",
        seed=0,
    )
    model.set_logger(silent.Logger(None, []))
    ready = [
        samples(b.frames[:, :3].flatten(1, 2), b.action, b.frames[:, 1:].flatten(1, 2), 1.0 - b.not_done, b.reward)
        for b in batches
    ]
    model.replay_buffer = _Ready(ready)

    def run() -> None:
        for _ in batches:
            model.train(gradient_steps=1, batch_size=stack.batch)

    return run


class _Spaces(gymnasium.Env[np.ndarray[Any, Any], np.ndarray[Any, Any]]):
    """An environment nobody steps: three stacked frames, two actions."""

    def __init__(self, size: int) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 255, (9, size, size), np.uint8)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)


class _Ready:
    """Stands for SB3's replay buffer and deals the same samples round and round."""

    def __init__(self, samples: list[Any]) -> None:
        self._samples = cycle(samples)

    def sample(self, batch_size: int, env: object = None) -> Any:
        return next(self._samples)


class _Extractor(nn.Sequential):
    """The convolutions, and one layer to the latent."""

    def __init__(self, _space: gymnasium.Space[Any], stack: Stack) -> None:
        self.features_dim = LATENT
        flat = stack.filters * stack.side**2
        super().__init__(
            *convolutions(9, stack.filters), nn.Flatten(), nn.Linear(flat, LATENT), nn.LayerNorm(LATENT), nn.ReLU()
        )


def convolutions(inputs: int, filters: int) -> list[nn.Module]:
    """The stack, as PyTorch makes it."""
    layers: list[nn.Module] = []
    for stride in (2, 1, 1, 1):
        layers += [nn.Conv2d(inputs, filters, 3, stride), nn.ReLU()]
        inputs = filters
    return layers


class DrQv2:
    """DrQ-v2's update, written plainly: random shifts, one encoder without a target, n-step returns taken as given,
    critic and actor every time.

    Passes: + online(s) for both critics' loss, whose maps the actor step reuses, and online(s') without gradient.
    """

    def __init__(self, stack: Stack, hidden: int = 1024, latent: int = 50) -> None:
        torch.manual_seed(0)
        flat = stack.filters * stack.side**2
        self.encoder = nn.Sequential(*convolutions(9, stack.filters), nn.Flatten())
        self.actor = nn.Sequential(*_trunk(flat, latent), *_three(latent, hidden, 2), nn.Tanh())
        self.critic = nn.ModuleDict(
            {
                "trunk": nn.Sequential(*_trunk(flat, latent)),
                "q1": nn.Sequential(*_three(latent + 2, hidden, 1)),
                "q2": nn.Sequential(*_three(latent + 2, hidden, 1)),
            }
        )
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        self.optimizers = [
            torch.optim.Adam(part.parameters(), 1e-4) for part in (self.encoder, self.critic, self.actor)
        ]

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One step on three-frame stacks of s and s'; returns detached losses."""
        s, following = (self._encode(random_shift(f.float())) for f in (batch.frames[:, :3], batch.frames[:, 1:]))
        with torch.no_grad():
            q1, q2 = self._q(self.target, following, self._act(following))
            y = batch.reward + 0.99 * batch.not_done * torch.minimum(q1, q2)
        q1, q2 = self._q(self.critic, s, batch.action)
        critic = functional.mse_loss(q1, y) + functional.mse_loss(q2, y)
        self._step(critic, *self.optimizers[:2])
        s = s.detach()
        actor = -torch.minimum(*self._q(self.critic, s, self._act(s))).mean()
        self._step(actor, self.optimizers[2])
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.critic.parameters(), strict=True):
                slow.lerp_(fast, 0.01)
        return {"critic": critic.detach(), "actor": actor.detach()}

    def _encode(self, frame_BFCHW: Tensor) -> Tensor:
        maps: Tensor = self.encoder(frame_BFCHW.flatten(1, 2) / 255.0 - 0.5)
        return maps

    def _act(self, maps: Tensor) -> Tensor:
        mean = self.actor(maps)
        action: Tensor = mean + (0.2 * torch.randn_like(mean)).clamp(-0.3, 0.3)
        return action.clamp(-1.0, 1.0)

    def _q(self, critic: nn.ModuleDict, maps: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([critic["trunk"](maps), action], 1)
        return critic["q1"](both), critic["q2"](both)

    @staticmethod
    def _step(loss: Tensor, *optimizers: torch.optim.Optimizer) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()


def drqv2(stack: Stack, batches: list[Batch]) -> Callable[[], None]:
    """One update per batch."""
    agent = DrQv2(stack)

    def run() -> None:
        for batch in batches:
            agent.update(batch)

    return run


def _trunk(flat: int, latent: int) -> list[nn.Module]:
    return [nn.Linear(flat, latent), nn.LayerNorm(latent), nn.Tanh()]


def _three(inputs: int, hidden: int, outputs: int) -> list[nn.Module]:
    return [
        *(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()),
        nn.Linear(hidden, outputs),
    ]
