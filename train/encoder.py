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
from semore.train.student import EmptyMask, StudentMask, make_student, watched


class Features(NamedTuple):
    """What one pass over B frames gives: maps (B,C,g,g) for the necks, the student's mask logits (B,s,s), and the
    features (B,C,g,g) of the mask that was used, None where none is read."""

    semantic: Tensor
    motion: Tensor
    student: Tensor
    known: Tensor | None

    def detach(self) -> Features:
        """The same without a gradient."""
        known = None if self.known is None else self.known.detach()
        return Features(self.semantic.detach(), self.motion.detach(), self.student.detach(), known)


class Latents(NamedTuple):
    """What a neck makes of a batch of Features: z (B, EncoderSettings.fused), and the latents (B, latent) of the two
    streams."""

    fused: Tensor
    motion: Tensor
    semantic: Tensor


class Silence(nn.Module):
    """A stream that says nothing: in the place of nn.Identity between a stream and what reads it."""

    def forward(self, stream: Tensor) -> Tensor:
        """Zeros of its shape."""
        return torch.zeros_like(stream)


class DualStream(nn.Module):
    """Static frame (B,3,S,S) and residuals (B,6,S,S), float in [0,1] and [−1,1], to Features.

    H_ka enters at the settings' mask_side: the cached mask where `use_cached` says so, else the student's own
    (stop-gradient), so that training meets what acting meets (design.md §7.2). What the network is to do without is
    replaced: `mask_source`, `semantic_shown`, `motion_shown`, `mask_encoder` and `attention` are modules that others
    can take the place of.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        shape = geometry(settings.size)
        channels = settings.channels
        self.grid, self.width = shape.grid, channels[-1]
        self._autocast = settings.precision == "bf16"
        self._concatenates = settings.concatenates_mask
        self.semantic_stream = _stack(3, channels, shape)
        self.motion_stream = _stack(6, channels, shape)
        self.student_head = make_student(settings, shape)
        self.semantic_shown, self.motion_shown = (
            Silence() if settings.silent == stream else nn.Identity() for stream in ("semantic", "motion")
        )
        self.mask_source: nn.Module = EmptyMask() if settings.mask == "zeros" else StudentMask()
        self.mask_encoder = _mask_encoder(settings, shape)
        self.attention = make_attention(settings.attention, self.width, self.grid, settings.heads)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @staticmethod
    def inputs(frame_BFCHW: Tensor, newest: int) -> tuple[Tensor, ...]:
        """What forward reads of frames (B,F,3,S,S) uint8 as of the one at index `newest`."""
        return static_and_motion(frame_BFCHW, newest)

    def streams(self) -> dict[str, nn.Sequential]:
        """The convolutions by name, in the order of `inputs`."""
        return {"semantic": self.semantic_stream, "motion": self.motion_stream}

    def forward(
        self, static: Tensor, motion: Tensor, cached_Bss: Tensor | None = None, use_cached_B: Tensor | None = None
    ) -> Features:
        """`cached_Bss` is H_ka in [0,1], `use_cached_B` bool says for which samples it replaces the student's mask."""
        with torch.autocast(static.device.type, torch.bfloat16, enabled=self._autocast):
            semantic, student = watched(self.semantic_stream, self.student_head, static)
            moving = self.motion_stream(motion)
            known = self.mask_source(student)
            if cached_Bss is not None and use_cached_B is not None:
                known = torch.where(use_cached_B[:, None, None], cached_Bss, known)
            seen, moving, about = self.attention(
                self.semantic_shown(semantic), self.motion_shown(moving), known, self.mask_encoder
            )
            if self._concatenates and about is None:  # nobody has asked for it yet, and the neck will
                about = self.mask_encoder(known[:, None])
        return Features(seen.float(), moving.float(), student.float(), None if about is None else about.float())

    def known(self, mask_Bss: Tensor) -> Tensor:
        """E_k: the features F_k (B,C,g,g) of masks in [0,1]."""
        with torch.autocast(mask_Bss.device.type, torch.bfloat16, enabled=self._autocast):
            features: Tensor = self.mask_encoder(mask_Bss[:, None])
        return features.float()


class SingleStream(nn.Module):
    """Three frames (B,9,S,S) in [0,1], oldest first, to Features with one and the same map for both latents."""

    attention = None

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        shape = geometry(settings.size)
        self.grid, self.width = shape.grid, settings.channels[-1]
        self._autocast = settings.precision == "bf16"
        self.stream = _stack(9, settings.channels, shape)
        self.student_head = make_student(settings, shape)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @staticmethod
    def inputs(frame_BFCHW: Tensor, newest: int) -> tuple[Tensor, ...]:
        """As DualStream.inputs."""
        return (stack_of_three(frame_BFCHW, newest),)

    def streams(self) -> dict[str, nn.Sequential]:
        """As DualStream.streams."""
        return {"single": self.stream}

    def forward(self, stack: Tensor, cached_Bss: Tensor | None = None, use_cached_B: Tensor | None = None) -> Features:
        """The knowledge is not read: it may teach the student's mask, no more."""
        with torch.autocast(stack.device.type, torch.bfloat16, enabled=self._autocast):
            seen, student = watched(self.stream, self.student_head, stack)
        return Features(seen.float(), seen.float(), student.float(), None)


Backbone = DualStream | SingleStream


def make_backbone(settings: EncoderSettings) -> Backbone:
    """The encoder of the settings, which `agent_settings.check` has found sound."""
    return DualStream(settings) if settings.streams == "dual" else SingleStream(settings)


class Neck(nn.Module):
    """Maps to latents: z_s = LN(fc(F_s)), z_m = LN(fc(F_m⁺)), fused z = LN(Bilinear(z_s, z_m)) (method.md §5.4), or of
    both side by side. With mask_path concat also z_k = LN(fc(F_k)), which stands beside the product, or with the others
    within the LayerNorm."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        flat = settings.channels[-1] * geometry(settings.size).grid ** 2
        latent = settings.latent
        self.semantic = nn.Sequential(nn.Flatten(), nn.Linear(flat, latent), nn.LayerNorm(latent))
        self.motion = nn.Sequential(nn.Flatten(), nn.Linear(flat, latent), nn.LayerNorm(latent))
        self.fuse = nn.Bilinear(latent, latent, 2 * latent) if settings.fusion == "bilinear" else None
        self.known = (
            nn.Sequential(nn.Flatten(), nn.Linear(flat, latent), nn.LayerNorm(latent))
            if settings.concatenates_mask
            else None
        )
        self.norm = nn.LayerNorm(settings.fused if self.fuse is None else 2 * latent)
        self.apply(orthogonal)
        if self.fuse is not None:
            # LayerNorm cancels the scale of these weights, Adam's steps do not grow with it: at PyTorch's own scale a
            # learning rate of 1e-3 rebuilds the sum of latent² products every few updates, and Q never settles.
            with torch.no_grad():
                self.fuse.weight.mul_(latent**0.5)

    def forward(self, features: Features) -> Latents:
        """z, z_m and z_s."""
        semantic, motion = self.semantic(features.semantic), self.motion(features.motion)
        known = [] if self.known is None else [self.known(features.known)]
        if self.fuse is None:
            return Latents(self.norm(torch.cat([semantic, motion, *known], 1)), motion, semantic)
        # nn.Bilinear's own forward loops over its outputs; one matrix product over the outer product is 10× faster.
        outer = (semantic[:, :, None] * motion[:, None, :]).flatten(1)
        product = self.norm(nn.functional.linear(outer, self.fuse.weight.flatten(1), self.fuse.bias))
        return Latents(torch.cat([product, *known], 1) if known else product, motion, semantic)


class SingleNeck(nn.Module):
    """The map of a single stream to z = LN(fc(F)), as wide as the latents of Semore's two streams together."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        flat, width = settings.channels[-1] * geometry(settings.size).grid ** 2, settings.fused
        self.latent = nn.Sequential(nn.Flatten(), nn.Linear(flat, width), nn.LayerNorm(width))
        self.apply(orthogonal)

    def forward(self, features: Features) -> Latents:
        """z three times over: the streams have no latents of their own."""
        z = self.latent(features.semantic)
        return Latents(z, z, z)


def make_neck(settings: EncoderSettings) -> nn.Module:
    """The neck that fits `make_backbone`'s."""
    return Neck(settings) if settings.streams == "dual" else SingleNeck(settings)


def _mask_encoder(settings: EncoderSettings, shape: Geometry) -> nn.Sequential:
    """E_k: masks (B,1,s,s) in [0,1] to features F_k (B,C,g,g). Behind gates, two convolutions on the mask pooled onto
    the grid; with a latent of its own, a stack like the streams', a convolution of stride 2 for each doubling."""
    width, doublings = settings.channels[-1], (settings.mask_resolution // shape.grid).bit_length() - 1
    if settings.concatenates_mask:
        strides = (2,) * doublings + (1,) * (2 - doublings)
        layers = len(strides)
        return _stack(1, settings.channels[-layers:], Geometry((3,) * layers, strides, 1, shape.grid))
    pooled = [nn.MaxPool2d(2**doublings)] if doublings else []
    return nn.Sequential(*pooled, nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))


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
