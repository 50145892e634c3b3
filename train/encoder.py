"""The dual-stream encoder: semantics from the newest frame, motion from frame residuals, knowledge between them
(method.md §3, §5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from datasets.errors import SemoreError
from train.attention import CrossAttention


@dataclass(frozen=True)
class EncoderSettings:
    """Shape of the encoder."""

    size: int = 64
    """Side of the frames the network sees, in pixels."""
    channels: tuple[int, ...] = (8, 16, 32, 32)
    """Filters of the four convolutions of each stream."""
    latent: int = 50
    """Width of the semantic and of the motion latent; the fused latent is twice as wide."""
    attention: str = "cross"
    """cross (bidirectional between motion and H_ka), or none."""
    heads: int = 4
    """Attention heads."""
    fusion: str = "bilinear"
    """bilinear, or concat."""
    precision: str = "fp32"
    """fp32, or bf16 (autocast in the convolutions and the attention only)."""


class Geometry(NamedTuple):
    """Kernels, strides and padding of a four-layer stack, and the side of the map it ends in."""

    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    padding: int
    grid: int


def geometry(size: int) -> Geometry:
    """The stack for pictures of `size` pixels: the first of DMR's (128²), and milder ones for smaller pictures, whose
    map is 6×6 to 9×9 (design.md §7.1). SemoreError when none fits."""
    stacks = (
        ((5, 3, 3, 3), (2, 2, 2, 2), 0),
        ((3, 3, 3, 3), (2, 2, 2, 1), 0),
        ((3, 3, 3, 3), (2, 2, 2, 1), 1),
        ((3, 3, 3, 3), (2, 2, 1, 1), 1),
    )
    for kernels, strides, padding in stacks:
        side = size
        for kernel, stride in zip(kernels, strides, strict=True):
            side = (side + 2 * padding - kernel) // stride + 1
        if 6 <= side <= 9:
            return Geometry(kernels, strides, padding, side)
    raise SemoreError(f"no stack of four convolutions gives a 6×6 to 9×9 map for size {size}; try 32, 64, 84 or 128")


class Features(NamedTuple):
    """What one pass over B frames gives: maps (B,C,g,g) for the necks, and the student's mask logits (B,g,g)."""

    semantic: Tensor
    motion: Tensor
    student: Tensor


class DualStream(nn.Module):
    """Static frame (B,3,S,S) and residuals (B,6,S,S), float in [0,1] and [−1,1], to Features.

    H_ka enters on the feature grid: the cached mask where `use_cached` says so, else the student's own (stop-gradient),
    so that training meets what acting meets (design.md §7.2).
    """

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        shape = geometry(settings.size)
        channels = settings.channels
        if len(channels) != len(shape.kernels):
            raise SemoreError(f"channels {list(channels)} must name {len(shape.kernels)} widths, one per convolution")
        if settings.attention not in ("cross", "none"):
            raise SemoreError(f"unknown attention {settings.attention!r}; choose cross or none")
        if settings.precision not in ("fp32", "bf16"):
            raise SemoreError(f"unknown precision {settings.precision!r}; choose fp32 or bf16")
        self.grid, self.width = shape.grid, channels[-1]
        self._autocast = settings.precision == "bf16"
        self.semantic_stream = _stack(3, channels, shape)
        self.motion_stream = _stack(6, channels, shape)
        self.student_head = nn.Conv2d(self.width, 1, 1)
        self.mask_encoder = nn.Sequential(
            nn.Conv2d(1, self.width, 3, padding=1), nn.ReLU(), nn.Conv2d(self.width, self.width, 3, padding=1)
        )
        cross = settings.attention == "cross"
        self.attention = CrossAttention(self.width, self.grid, settings.heads) if cross else None
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self, static: Tensor, motion: Tensor, cached_Bgg: Tensor | None = None, use_cached_B: Tensor | None = None
    ) -> Features:
        """`cached_Bgg` is H_ka in [0,1], `use_cached_B` bool says for which samples it replaces the student's mask."""
        with torch.autocast(static.device.type, torch.bfloat16, enabled=self._autocast):
            semantic = self.semantic_stream(static)
            moving = self.motion_stream(motion)
            student = self.student_head(semantic).squeeze(1)
            if self.attention is not None:
                known = student.detach().float().sigmoid()
                if cached_Bgg is not None and use_cached_B is not None:
                    known = torch.where(use_cached_B[:, None, None], cached_Bgg, known)
                moving = self.attention(moving, self.mask_encoder(known[:, None]))
        return Features(semantic.float(), moving.float(), student.float())


class Neck(nn.Module):
    """Maps to latents: z_s = LN(fc(F_s)), z_m = LN(fc(F_m⁺)), fused z = LN(Bilinear(z_s, z_m)) (method.md §5.4)."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        flat = settings.channels[-1] * geometry(settings.size).grid ** 2
        latent = settings.latent
        self.semantic = nn.Sequential(nn.Flatten(), nn.Linear(flat, latent), nn.LayerNorm(latent))
        self.motion = nn.Sequential(nn.Flatten(), nn.Linear(flat, latent), nn.LayerNorm(latent))
        if settings.fusion not in ("bilinear", "concat"):
            raise SemoreError(f"unknown fusion {settings.fusion!r}; choose bilinear or concat")
        self.fuse = nn.Bilinear(latent, latent, 2 * latent) if settings.fusion == "bilinear" else None
        self.norm = nn.LayerNorm(2 * latent)
        self.apply(orthogonal)
        if self.fuse is not None:
            # LayerNorm cancels the scale of these weights, Adam's steps do not grow with it: at PyTorch's own scale a
            # learning rate of 1e-3 rebuilds the sum of latent² products every few updates, and Q never settles.
            with torch.no_grad():
                self.fuse.weight.mul_(latent**0.5)

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """(z (B, 2·latent), z_m (B, latent))."""
        semantic, motion = self.semantic(features.semantic), self.motion(features.motion)
        if self.fuse is None:
            return self.norm(torch.cat([semantic, motion], 1)), motion
        # nn.Bilinear's own forward loops over its outputs; one matrix product over the outer product is 10× faster.
        outer = (semantic[:, :, None] * motion[:, None, :]).flatten(1)
        return self.norm(nn.functional.linear(outer, self.fuse.weight.flatten(1), self.fuse.bias)), motion


def static_and_motion(frame_BFCHW: Tensor, newest: int) -> tuple[Tensor, Tensor]:
    """The two streams' inputs from frames (B,F,3,S,S) in [0,1], oldest first, for the frame at index `newest`.

    Static is that frame; motion is (f3−f2, f2−f1) on channels, newest difference first (method.md §3.2).
    """
    f1, f2, f3 = (frame_BFCHW[:, index] for index in (newest - 2, newest - 1, newest))
    motion = torch.cat([f3 - f2, f2 - f1], 1)
    # Converted once here: several passes read them.
    return f3.contiguous(memory_format=torch.channels_last), motion.contiguous(memory_format=torch.channels_last)


def orthogonal(module: nn.Module) -> None:
    """Linear layers orthogonal with gain 1 and zero bias (method.md §3.3)."""
    if isinstance(module, nn.Linear):
        nn.init.orthogonal_(module.weight)
        nn.init.zeros_(module.bias)


def _stack(inputs: int, channels: tuple[int, ...], shape: Geometry) -> nn.Sequential:
    layers: list[nn.Module] = []
    for outputs, kernel, stride in zip(channels, shape.kernels, shape.strides, strict=True):
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, shape.padding)
        # PyTorch's default shrinks the signal layer by layer; residuals are small already, and the stream dies.
        nn.init.orthogonal_(convolution.weight, nn.init.calculate_gain("relu"))
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        layers += [convolution, nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers)
