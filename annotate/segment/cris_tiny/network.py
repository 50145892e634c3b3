"""The network: frames to embeddings of pixels, phrases to kernels; a phrase's mask is where its two kernels both fire.

The text-to-pixel idea of CRIS (method.md §7) at a hundredth of its size. All work on pixels is done once per frame; a
phrase then costs a short dot product per pixel and a longer one per 4×4 pixels. Convolutions stay at half the
resolution and below: 2×2 pixels come out as channels, so that objects of a few pixels keep their exact outline."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from annotate.segment.cris_tiny.words import PAD

SIZE: Final = 128
"""Side of the frames it works on, in pixels."""
WIDTHS: Final = (24, 48, 80, 128)
"""Channels at 64², 32², 16² and 8² cells."""
FINE: Final = 12
"""Channels of a pixel's embedding, which knows outlines,"""
COARSE: Final = 48
"""and of the embedding of 4×4 pixels, which knows what stands there."""
_WORD: Final = 48
_PHRASE: Final = 96


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, active: bool = True) -> nn.Sequential:
    """Convolution, normalisation and, when `active`, ReLU."""
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if active else []))


def fold(network: nn.Module) -> None:
    """Let every convolution do its normalisation's work, in place: the same answers, for evaluation only."""
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential) and len(module) > 1 and isinstance(module[1], nn.BatchNorm2d):
            plain = module[0]
            assert isinstance(plain, nn.Conv2d)
            module[0], module[1] = fuse_conv_bn_eval(plain, module[1]), nn.Identity()


class Residual(nn.Module):
    """A convolution beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.change = convolution(channels, channels, active=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.change(x))


class Up(nn.Module):
    """Twice as fine: the coarse map, reduced and doubled, joins the finer one."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.reduce = convolution(coarse, fine, kernel=1, active=False)
        self.mix = convolution(fine, fine)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        doubled = functional.interpolate(self.reduce(coarse), scale_factor=2.0, mode="nearest")
        mixed: Tensor = self.mix(functional.relu(doubled + fine))
        return mixed


def places() -> Tensor:
    """Row and column of each cell of 2×2 pixels of a whole picture, −1 … 1: (1, 2, 64, 64)."""
    line = torch.linspace(-1.0, 1.0, SIZE // 2)
    return torch.stack(torch.meshgrid(line, line, indexing="ij"))[None]


class Pixels(NamedTuple):
    """What is known of a picture: fine (B, 4 · FINE, H / 2, W / 2), for each of the 2×2 pixels of a cell, and coarse
    (B, COARSE, H / 4, W / 4)."""

    fine: Tensor
    coarse: Tensor


class PixelEncoder(nn.Module):
    """(B, 3, H, W) float32 in [0, 1] to Pixels."""

    place: Tensor

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d = WIDTHS
        self.stem = nn.Sequential(nn.Conv2d(3, a, 6, 2, 2, bias=False), nn.BatchNorm2d(a))
        self.where = nn.Conv2d(2, a, 1, bias=False)
        self.down = nn.ModuleList(
            nn.Sequential(convolution(inputs, outputs, stride=2), Residual(outputs))
            for inputs, outputs in ((a, b), (b, c), (c, d))
        )
        self.up = nn.ModuleList((Up(d, c), Up(c, b), Up(b, a)))
        self.fine = nn.Conv2d(a, 4 * FINE, 1)
        self.coarse = nn.Conv2d(b, COARSE, 1)
        self.coarser = nn.Conv2d(c, COARSE, 1)
        self.register_buffer("place", places(), persistent=False)

    def forward(self, rgb: Tensor, place: Tensor | None = None) -> Pixels:
        """`place` (B, 2, H / 2, W / 2): where in the picture rgb was cut out; default: rgb is whole pictures."""
        where = self.where(self.place if place is None else place)
        maps = [functional.relu(self.stem((rgb - 0.45) * 4.0) + where)]
        for down in self.down:
            maps.append(down(maps[-1]))
        sixteenth, eighth, quarter = maps.pop(), maps.pop(), maps.pop()
        eighth = self.up[0](sixteenth, eighth)
        quarter = self.up[1](eighth, quarter)
        half = self.up[2](quarter, maps.pop())
        doubled = functional.interpolate(self.coarser(eighth), scale_factor=2.0, mode="nearest")
        return Pixels(self.fine(half), self.coarse(quarter) + doubled)


class Kernels(NamedTuple):
    """What a phrase looks for: fine (…, FINE), coarse (…, COARSE) and their biases (…, 2)."""

    fine: Tensor
    coarse: Tensor
    bias: Tensor


class PhraseEncoder(nn.Module):
    """Token numbers (P, L) to Kernels of P phrases."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, _WORD, padding_idx=PAD)
        self.read = nn.GRU(_WORD, _PHRASE, batch_first=True)
        self.say = nn.Linear(_PHRASE, FINE + COARSE + 2)
        nn.init.normal_(self.say.weight, std=0.2)  # kernels of about the size they will have
        nn.init.constant_(self.say.bias[-2:], -2.0)  # most pixels belong to no phrase

    def forward(self, tokens: Tensor) -> Kernels:
        states, _ = self.read(self.words(tokens))
        last = (tokens != PAD).sum(dim=1) - 1
        return Kernels(*self.say(states[torch.arange(len(tokens)), last]).split((FINE, COARSE, 2), dim=1))


class CrisTiny(nn.Module):
    """Pixels and phrases together; `words` is the number of token numbers."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.pixels = PixelEncoder()
        self.phrases = PhraseEncoder(words)


def answer(pixels: Pixels, kernels: Kernels) -> Tensor:
    """Soft masks (B, K, H, W) in [0, 1] of each frame's K phrases, Kernels of (B, K, …): where both kernels fire."""
    frames, _, height, width = pixels.fine.shape
    groups = pixels.fine.reshape(frames, 4, FINE, height * width)
    fine = (kernels.fine[:, None] @ groups + kernels.bias[:, None, :, :1]).reshape(frames, 2, 2, -1, height, width)
    fine = fine.permute(0, 3, 4, 1, 5, 2).reshape(frames, -1, 2 * height, 2 * width)
    coarse = (kernels.coarse @ pixels.coarse.flatten(2) + kernels.bias[..., 1:]).unflatten(2, pixels.coarse.shape[2:])
    coarse = functional.interpolate(coarse, scale_factor=4.0, mode="bilinear")
    return torch.sigmoid(fine) * torch.sigmoid(coarse)


def answer_at(pixels: Pixels, points: Tensor, kernels: Kernels) -> Tensor:
    """As `answer`, (B, P, Q), for single pixels `points` (B, P), counted row by row, and the same Q phrases for all,
    Kernels of (Q, …)."""
    frames, _, height, width = pixels.fine.shape
    row, column = points // (2 * width), points % (2 * width)
    groups = pixels.fine.reshape(frames, 4, FINE, height * width)
    frame = torch.arange(frames)[:, None]
    fine = groups[frame, 2 * (row % 2) + column % 2, :, row // 2 * width + column // 2] @ kernels.fine.T
    place = torch.stack([(column + 0.5) / width - 1.0, (row + 0.5) / height - 1.0], dim=-1)[:, None]
    coarse = functional.grid_sample(pixels.coarse, place, padding_mode="border", align_corners=False)
    coarse = coarse[:, :, 0].transpose(1, 2) @ kernels.coarse.T
    return torch.sigmoid(fine + kernels.bias[:, 0]) * torch.sigmoid(coarse + kernels.bias[:, 1])
