"""The network: frames to outlines and embeddings, phrases to kernels; a mask is where something stands and is meant.

The text-to-pixel idea of CRIS (method.md §7) at a hundredth of its size, in two factors: does this pixel show an actor
at all (full resolution), and is what stands here what the phrase means (4×4 pixels). All work on pixels is done once
per frame; a phrase then costs a dot product per 4×4 pixels. Most convolutions work at half the resolution and below;
three thin ones see the picture itself, so that objects of a few pixels keep their exact outline."""

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
"""Channels at full resolution, which know outlines,"""
EDGES: Final = 16
"""and of those among them that come from the picture itself."""
COARSE: Final = 48
"""Channels of the embedding of 4×4 pixels, which knows what stands there."""
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
    """Of a picture: outline (B, H, W), the logit of showing an actor, coarse (B, COARSE, H / 4, W / 4)."""

    outline: Tensor
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
        self.edges = convolution(3, EDGES)
        self.detail = nn.Conv2d(EDGES, FINE, 3, padding=1)
        self.outline = nn.Conv2d(FINE, 1, 3, padding=1)
        self.coarse = nn.Conv2d(b, COARSE, 1)
        self.coarser = nn.Conv2d(c, COARSE, 1)
        self.register_buffer("place", places(), persistent=False)

    def forward(self, rgb: Tensor, place: Tensor | None = None) -> Pixels:
        """`place` (B, 2, H / 2, W / 2): where in the picture rgb was cut out; default: rgb is whole pictures."""
        where = self.where(self.place if place is None else place)
        rgb = (rgb - 0.45) * 4.0
        maps = [functional.relu(self.stem(rgb) + where)]
        for down in self.down:
            maps.append(down(maps[-1]))
        sixteenth, eighth, quarter = maps.pop(), maps.pop(), maps.pop()
        eighth = self.up[0](sixteenth, eighth)
        quarter = self.up[1](eighth, quarter)
        half = self.up[2](quarter, maps.pop())
        doubled = functional.interpolate(self.coarser(eighth), scale_factor=2.0, mode="nearest")
        fine = functional.relu(functional.pixel_shuffle(self.fine(half), 2) + self.detail(self.edges(rgb)))
        return Pixels(self.outline(fine)[:, 0], self.coarse(quarter) + doubled)


class Kernels(NamedTuple):
    """What a phrase looks for: coarse (…, COARSE) and its bias (…, 1)."""

    coarse: Tensor
    bias: Tensor


class PhraseEncoder(nn.Module):
    """Token numbers (P, L) to Kernels of P phrases."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, _WORD, padding_idx=PAD)
        self.read = nn.GRU(_WORD, _PHRASE, batch_first=True)
        self.say = nn.Linear(_PHRASE, COARSE + 1)
        nn.init.normal_(self.say.weight, std=0.2)  # kernels of about the size they will have
        nn.init.constant_(self.say.bias[-1:], -2.0)  # most actors are not meant

    def forward(self, tokens: Tensor) -> Kernels:
        states, _ = self.read(self.words(tokens))
        last = (tokens != PAD).sum(dim=1) - 1
        return Kernels(*self.say(states[torch.arange(len(tokens)), last]).split((COARSE, 1), dim=1))


class CrisTiny(nn.Module):
    """Pixels and phrases together; `words` is the number of token numbers."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.pixels = PixelEncoder()
        self.phrases = PhraseEncoder(words)


def answer(pixels: Pixels, kernels: Kernels) -> Tensor:
    """Soft masks (B, K, H, W) in [0, 1] of each frame's K phrases, Kernels of (B, K, …)."""
    meant = (kernels.coarse @ pixels.coarse.flatten(2) + kernels.bias).unflatten(2, pixels.coarse.shape[2:])
    meant = functional.interpolate(meant, scale_factor=4.0, mode="bilinear")
    return torch.sigmoid(pixels.outline)[:, None] * torch.sigmoid(meant)


def meant_at(pixels: Pixels, points: Tensor, kernels: Kernels) -> Tensor:
    """Logits (B, P, Q) that what stands at the pixels `points` (B, P), counted row by row, is meant by each of the same
    Q phrases, Kernels of (Q, …)."""
    height, width = pixels.outline.shape[1:]
    row, column = points // width, points % width
    place = torch.stack([(2 * column + 1) / width - 1.0, (2 * row + 1) / height - 1.0], dim=-1)[:, None]
    coarse = functional.grid_sample(pixels.coarse, place, padding_mode="border", align_corners=False)
    return coarse[:, :, 0].transpose(1, 2) @ kernels.coarse.T + kernels.bias[:, 0]
