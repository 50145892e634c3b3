"""The agents and batches that perf.train measures: Semore's own, on the convolutions its rivals are published with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar
from unittest.mock import patch

import torch
from torch import Tensor, nn

from semore.datasets.frame_pool import Batch
from semore.datasets.settings import load_settings
from semore.train import encoder, encoder_settings
from semore.train.agent import Agent
from semore.train.agent_settings import AgentSettings, LossWeights
from semore.train.attention import CrossAttention
from semore.train.encoder import DualStream
from semore.train.encoder_settings import EncoderSettings, Geometry
from semore.train.settings import TrainSettings

Kind = TypeVar("Kind", bound=Agent)


class Trained(Protocol):
    """What has an update to measure: an agent, or the plain form of one."""

    def update(self, batch: Batch, weights: LossWeights, watch: bool = False) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class Stack:
    """Four 3×3 convolutions of `filters`, strides 2, 1, 1, 1, no padding, over pictures of `size` pixels."""

    size: int = 84
    filters: int = 32
    batch: int = 128

    @property
    def side(self) -> int:
        """Of the map the stack ends in: 35 at 84 pixels."""
        return (self.size - 3) // 2 + 1 - 3 * 2

    @property
    def pooling(self) -> int:
        """Side of the cells that are averaged where attention reads the map: it leaves 7×7 of 35×35."""
        return max(self.side // 7, 1)

    def grid(self, whole: bool) -> int:
        """Side of the map that mask, attention and necks see."""
        return self.side // self.pooling if whole else self.side


def make_agent(
    kind: Callable[[AgentSettings], Kind],
    stack: Stack,
    whole: bool = False,
    precision: str = "fp32",
    streams: str = "dual",
    changes: Mapping[str, Any] | None = None,
) -> Kind:
    """An agent on the stack, always with the same weights.

    `whole` has attention, behind gates alone, and bilinear fusion; without, both are off. Product encoders end in maps
    of 6×6 to 9×9 (design.md §7.1): attention over this stack's 35² cells would outweigh its convolutions, hence the
    pooling.
    """
    encoder = EncoderSettings(
        stack.size,
        (stack.filters,) * 4,
        streams=streams,
        attention="cross" if whole else "none",
        fusion="bilinear" if whole else "concat",
        precision=precision,
    )
    torch.manual_seed(0)
    with _strides(Geometry((3,) * 4, (2, 1, 1, 1), 0, stack.grid(whole))):
        agent = kind(replace(AgentSettings(encoder), **dict(changes or {})))
    if whole:
        for backbone in (agent.backbone, agent.target["backbone"]):
            assert isinstance(backbone, DualStream)
            assert isinstance(backbone.attention, CrossAttention)
            for stream in (backbone.semantic_stream, backbone.motion_stream):
                stream.append(nn.AvgPool2d(stack.pooling))
            # Closed gates would hide the knowledge path from every comparison of gradients.
            nn.init.constant_(backbone.attention.gates, 0.5)
    return agent


def laptop_agent(method: str) -> Agent:
    """The agent of the laptop preset and a method, always with the same weights."""
    torch.manual_seed(0)
    return Agent(load_settings(TrainSettings, "train", ["--preset", "laptop", "--method", method]).agent)


def make_batches(stack: Stack, whole: bool, count: int = 2) -> list[Batch]:
    """Random transitions for an agent on the stack."""
    return random_batches(stack.size, stack.grid(whole), stack.batch, count)


def random_batches(size: int, grid: int, batch: int, count: int) -> list[Batch]:
    """Random transitions with sparse masks."""
    generator = torch.Generator().manual_seed(0)
    return [_random_batch(size, grid, batch, generator) for _ in range(count)]


def _random_batch(size: int, grid: int, batch: int, generator: torch.Generator) -> Batch:
    frames = torch.randint(0, 256, (batch, 4, 3, size, size), dtype=torch.uint8, generator=generator)
    mask = (torch.rand(batch, 2, grid, grid, generator=generator) > 0.9).float()
    valid = torch.rand(batch, 2, generator=generator) > 0.1
    action = 2.0 * torch.rand(batch, 2, generator=generator) - 1.0
    reward = torch.randn(batch, 1, generator=generator)
    not_done = (torch.rand(batch, 1, generator=generator) > 0.01).float()
    advice = 2.0 * torch.rand(batch, 2, generator=generator) - 1.0
    weight = torch.ones(batch, 1)
    return Batch(frames, mask, valid, action, reward, not_done, reward, 0.99 * not_done, weight, advice)


def plain_loop(agent: Trained, batches: list[Batch]) -> Callable[[], None]:
    """One update per batch; with an even number of batches every call holds as many actor steps as another."""

    def run() -> None:
        for batch in batches:
            agent.update(batch, LossWeights())

    return run


@contextmanager
def _strides(shape: Geometry) -> Iterator[None]:
    """The encoder chooses its strides by picture size, and masks their side by the map these end in. There is no
    setting for them, and these agents need others."""
    with (
        patch.object(encoder, "geometry", lambda size: shape),
        patch.object(encoder_settings, "geometry", lambda size: shape),
    ):
        yield
