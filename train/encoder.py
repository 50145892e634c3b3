"""The encoders: Semore's two streams with knowledge between them, and the rivals' single stream (method.md §3, §5).

The semantic stream sees the newest frame, the motion stream the frame residuals, and the single stream all three frames
stacked. All have the same convolutions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from semore.train.attention import make_attention
from semore.train.encoder_settings import EncoderSettings, Geometry, geometry
from semore.train.networks import orthogonal
from semore.train.pictures import stack_of_three, static_and_motion


class Features(NamedTuple):
    """What one pass over B frames gives: maps (B,C,g,g) for the necks, the student's mask logits (B,g,g), and the
    features (B,C,g,g) of the mask that was used, None without attention."""

    semantic: Tensor
    motion: Tensor
    student: Tensor
    known: Tensor | None

    def detach(self) -> Features:
        """The same without a gradient."""
        known = None if self.known is None else self.known.detach()
        return Features(self.semantic.detach(), self.motion.detach(), self.student.detach(), known)


class Latents(NamedTuple):
    """What a neck makes of a batch of Features: z (B, 2·latent), and the latents (B, latent) of the two streams."""

    fused: Tensor
    motion: Tensor
    semantic: Tensor


class StudentMask(nn.Module):
    """What stands in for H_ka where none is cached: the student's own mask, without a gradient."""

    def forward(self, student_Bgg: Tensor) -> Tensor:
        """Logits to a mask in [0, 1]."""
        return student_Bgg.detach().float().sigmoid()


class EmptyMask(nn.Module):
    """Knowledge of nothing anywhere, as the public code acts."""

    def forward(self, student_Bgg: Tensor) -> Tensor:
        """Zeros of its shape."""
        return torch.zeros_like(student_Bgg).float()


class Silence(nn.Module):
    """A stream that says nothing: in the place of nn.Identity between a stream and what reads it."""

    def forward(self, stream: Tensor) -> Tensor:
        """Zeros of its shape."""
        return torch.zeros_like(stream)


class DualStream(nn.Module):
    """Static frame (B,3,S,S) and residuals (B,6,S,S), float in [0,1] and [−1,1], to Features.

    H_ka enters on the feature grid: the cached mask where `use_cached` says so, else the student's own (stop-gradient),
    so that training meets what acting meets (design.md §7.2). What the network is to do without is replaced:
    `mask_source`, `semantic_shown`, `motion_shown` and `attention` are modules that others can take the place of.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        shape = geometry(settings.size)
        channels = settings.channels
        self.grid, self.width = shape.grid, channels[-1]
        self._autocast = settings.precision == "bf16"
        self.semantic_stream = _stack(3, channels, shape)
        self.motion_stream = _stack(6, channels, shape)
        self.student_head = nn.Conv2d(self.width, 1, 1)
        self.semantic_shown, self.motion_shown = (
            Silence() if settings.silent == stream else nn.Identity() for stream in ("semantic", "motion")
        )
        self.mask_source: nn.Module = EmptyMask() if settings.mask == "zeros" else StudentMask()
        self.mask_encoder = nn.Sequential(
            nn.Conv2d(1, self.width, 3, padding=1), nn.ReLU(), nn.Conv2d(self.width, self.width, 3, padding=1)
        )
        self.attention = make_attention(settings.attention, self.width, self.grid, settings.heads)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @staticmethod
    def inputs(frame_BFCHW: Tensor, newest: int) -> tuple[Tensor, ...]:
        """What forward reads of frames (B,F,3,S,S) uint8 as of the one at index `newest`."""
        return static_and_motion(frame_BFCHW, newest)

    def streams(self) -> dict[str, nn.Module]:
        """The convolutions by name, in the order of `inputs`."""
        return {"semantic": self.semantic_stream, "motion": self.motion_stream}

    def forward(
        self, static: Tensor, motion: Tensor, cached_Bgg: Tensor | None = None, use_cached_B: Tensor | None = None
    ) -> Features:
        """`cached_Bgg` is H_ka in [0,1], `use_cached_B` bool says for which samples it replaces the student's mask."""
        with torch.autocast(static.device.type, torch.bfloat16, enabled=self._autocast):
            semantic, moving = self.semantic_stream(static), self.motion_stream(motion)
            student = self.student_head(semantic).squeeze(1)
            known = self.mask_source(student)
            if cached_Bgg is not None and use_cached_B is not None:
                known = torch.where(use_cached_B[:, None, None], cached_Bgg, known)
            seen, moving, about = self.attention(
                self.semantic_shown(semantic), self.motion_shown(moving), known, self.mask_encoder
            )
        return Features(seen.float(), moving.float(), student.float(), None if about is None else about.float())


class SingleStream(nn.Module):
    """Three frames (B,9,S,S) in [0,1], oldest first, to Features with one and the same map for both latents."""

    attention = None

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        shape = geometry(settings.size)
        self.grid, self.width = shape.grid, settings.channels[-1]
        self._autocast = settings.precision == "bf16"
        self.stream = _stack(9, settings.channels, shape)
        self.student_head = nn.Conv2d(self.width, 1, 1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @staticmethod
    def inputs(frame_BFCHW: Tensor, newest: int) -> tuple[Tensor, ...]:
        """As DualStream.inputs."""
        return (stack_of_three(frame_BFCHW, newest),)

    def streams(self) -> dict[str, nn.Module]:
        """As DualStream.streams."""
        return {"single": self.stream}

    def forward(self, stack: Tensor, cached_Bgg: Tensor | None = None, use_cached_B: Tensor | None = None) -> Features:
        """The knowledge is not read: it may teach the student's mask, no more."""
        with torch.autocast(stack.device.type, torch.bfloat16, enabled=self._autocast):
            seen = self.stream(stack)
            student = self.student_head(seen).squeeze(1)
        return Features(seen.float(), seen.float(), student.float(), None)


Backbone = DualStream | SingleStream


def make_backbone(settings: EncoderSettings) -> Backbone:
    """The encoder of the settings, which `agent_settings.check` has found sound."""
    return DualStream(settings) if settings.streams == "dual" else SingleStream(settings)


class Neck(nn.Module):
    """Maps to latents: z_s = LN(fc(F_s)), z_m = LN(fc(F_m⁺)), fused z = LN(Bilinear(z_s, z_m)) (method.md §5.4)."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        flat = settings.channels[-1] * geometry(settings.size).grid ** 2
        latent = settings.latent
        self.semantic = nn.Sequential(nn.Flatten(), nn.Linear(flat, latent), nn.LayerNorm(latent))
        self.motion = nn.Sequential(nn.Flatten(), nn.Linear(flat, latent), nn.LayerNorm(latent))
        self.fuse = nn.Bilinear(latent, latent, 2 * latent) if settings.fusion == "bilinear" else None
        self.norm = nn.LayerNorm(2 * latent)
        self.apply(orthogonal)
        if self.fuse is not None:
            # LayerNorm cancels the scale of these weights, Adam's steps do not grow with it: at PyTorch's own scale a
            # learning rate of 1e-3 rebuilds the sum of latent² products every few updates, and Q never settles.
            with torch.no_grad():
                self.fuse.weight.mul_(latent**0.5)

    def forward(self, features: Features) -> Latents:
        """z, z_m and z_s."""
        semantic, motion = self.semantic(features.semantic), self.motion(features.motion)
        if self.fuse is None:
            return Latents(self.norm(torch.cat([semantic, motion], 1)), motion, semantic)
        # nn.Bilinear's own forward loops over its outputs; one matrix product over the outer product is 10× faster.
        outer = (semantic[:, :, None] * motion[:, None, :]).flatten(1)
        fused = self.norm(nn.functional.linear(outer, self.fuse.weight.flatten(1), self.fuse.bias))
        return Latents(fused, motion, semantic)


class SingleNeck(nn.Module):
    """The map of a single stream to z = LN(fc(F)), as wide as Semore's fused latent."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        flat, width = settings.channels[-1] * geometry(settings.size).grid ** 2, 2 * settings.latent
        self.latent = nn.Sequential(nn.Flatten(), nn.Linear(flat, width), nn.LayerNorm(width))
        self.apply(orthogonal)

    def forward(self, features: Features) -> Latents:
        """z three times over: the streams have no latents of their own."""
        z = self.latent(features.semantic)
        return Latents(z, z, z)


def make_neck(settings: EncoderSettings) -> nn.Module:
    """The neck that fits `make_backbone`'s."""
    return Neck(settings) if settings.streams == "dual" else SingleNeck(settings)


def _stack(inputs: int, channels: tuple[int, ...], shape: Geometry) -> nn.Sequential:
    layers: list[nn.Module] = []
    for outputs, kernel, stride in zip(channels, shape.kernels, shape.strides, strict=True):
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, shape.padding)
        # PyTorch's default shrinks the signal layer by layer; residuals are small already, and the stream dies.
        nn.init.orthogonal_(convolution.weight, nn.init.calculate_gain("relu"))
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        layers += [convolution, nn.ReLU(inplace=True)]
        inputs = outputs
    return nn.Sequential(*layers)
