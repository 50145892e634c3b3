"""The CRIS-tiny network: outlines and embeddings from frames, kernels from phrases, masks from both.

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

from semore.annotate.segment.cris_tiny.phrase_vocab import PAD

SIZE: Final = 128
"""Side of the frames it works on, in pixels."""
TOP: Final = 32
"""Only the rows from here on are looked at. The horizon is at 64; above are sky, roofs, and the top of a near truck."""
WIDTHS: Final = (24, 48, 80, 128)
"""Channels at 64², 32², 16² and 8² cells."""
COARSE: Final = 48
"""Channels of the embedding of 4×4 pixels, which knows what stands there."""
PLACES: Final = 4
"""Channels of `places`."""
_PHRASE: Final = 96
_WHOLE: Final = 64


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
    """Of each cell of 2×2 pixels from TOP on: row and column, −1 … 1, and what the ground there would be for a
    camera that never pitches: nearness (1 / distance) and side (distance to the right, squashed), 0 from the horizon
    up. (1, 4, (SIZE − TOP) / 2, 64)."""
    line = torch.linspace(-1.0, 1.0, SIZE // 2)
    row, column = torch.meshgrid(line, line, indexing="ij")
    side = torch.where(row > 0, torch.tanh(column / (4.0 * row.clamp(min=0.01))), 0.0)
    return torch.stack([row, column, row.clamp(min=0.0).sqrt(), side])[None, :, TOP // 2 :]


class Pixels(NamedTuple):
    """Of a picture: outline (B, H, W), the logit of showing an actor, coarse (B, COARSE, H / 4, W / 4)."""

    outline: Tensor
    coarse: Tensor


class Context(nn.Module):
    """What the picture as a whole shows, such as where the ego stands in its lane: tells the cells of other maps how to
    read themselves, (B, channels, 1, 1) scales and shifts for each."""

    def __init__(self, inputs: int, told: tuple[int, ...]) -> None:
        super().__init__()
        self._told = told
        self.read = nn.Sequential(nn.Linear(2 * inputs, _WHOLE), nn.ReLU(inplace=True))
        self.tell = nn.Linear(_WHOLE, 2 * sum(told))

    def forward(self, x: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Also what it read, (B, _WHOLE)."""
        whole = self.read(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))
        parts = self.tell(whole)[:, :, None, None].split([2 * channels for channels in self._told], dim=1)
        return whole, [part.chunk(2, dim=1) for part in parts]


class PixelEncoder(nn.Module):
    """(B, 3, H, W) float32 in [0, 1] to Pixels."""

    place: Tensor

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d = WIDTHS
        self.stem = nn.Sequential(nn.Conv2d(3, a, 6, 2, 2, bias=False), nn.BatchNorm2d(a))
        self.where = nn.Conv2d(PLACES, a, 1, bias=False)
        self.down = nn.ModuleList(
            nn.Sequential(convolution(inputs, outputs, stride=2), *(Residual(outputs) for _ in range(depth)))
            for inputs, outputs, depth in ((a, b, 1), (b, c, 2), (c, d, 3))
        )
        self.context = Context(d, (c, b))
        self.up = nn.ModuleList((Up(d, c), Up(c, b), Up(b, a)))
        self.placed = nn.ModuleList((nn.Conv2d(PLACES, c, 1), nn.Conv2d(PLACES, b, 1)))
        self.edges = convolution(12, a, active=False)
        self.outline = nn.Sequential(convolution(a, a), nn.Conv2d(a, 4, 1))
        self.coarse = nn.Conv2d(b, COARSE, 1)
        self.coarser = nn.Conv2d(c, COARSE, 1)
        self.register_buffer("place", places(), persistent=False)

    def forward(self, rgb: Tensor) -> tuple[Pixels, Tensor]:
        """Also what the context read, (B, _WHOLE)."""
        place = self.place
        rgb = (rgb - 0.45) * 4.0
        maps = [functional.relu(self.stem(rgb) + self.where(place))]
        for down in self.down:
            maps.append(down(maps[-1]))
        above = maps.pop()
        whole, told = self.context(above)
        joined = []
        for up, placed, (scale, shift) in zip(self.up, self.placed, told, strict=False):
            fine = maps.pop()
            here = placed(functional.adaptive_avg_pool2d(place, (fine.shape[2], fine.shape[3])))
            above = functional.relu((up(above, fine) + here) * (1.0 + scale) + shift)
            joined.append(above)
        half = self.up[2](above, maps.pop())
        doubled = functional.interpolate(self.coarser(joined[0]), scale_factor=2.0, mode="nearest")
        fine = self.outline(functional.relu(half + self.edges(functional.pixel_unshuffle(rgb, 2))))
        return Pixels(functional.pixel_shuffle(fine, 2)[:, 0], self.coarse(joined[1]) + doubled), whole


class Kernels(NamedTuple):
    """What a phrase looks for: coarse (…, COARSE) and its bias (…, 1)."""

    coarse: Tensor
    bias: Tensor


class PhraseEncoder(nn.Module):
    """Token numbers (P, L) to Kernels of P phrases: a bag of words, since no two phrases differ by order alone."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(words, _PHRASE, mode="sum", padding_idx=PAD)
        self.mix = nn.Linear(_PHRASE, _PHRASE)
        self.say = nn.Linear(_PHRASE, COARSE + 1)
        nn.init.normal_(self.words.weight, std=0.5)
        nn.init.normal_(self.say.weight, std=0.1)  # kernels of about the size they will have
        nn.init.constant_(self.say.bias[-1:], -2.0)  # most actors are not meant

    def forward(self, tokens: Tensor) -> Kernels:
        bag = self.words(tokens)
        mixed = bag + functional.relu(self.mix(functional.relu(bag)))
        return Kernels(*self.say(mixed).split((COARSE, 1), dim=1))


class CrisTiny(nn.Module):
    """The network of CRIS-tiny; `words` is the number of token numbers. Only training uses `sense`, the lane and
    distance of what a cell shows, and `pose`, how the ego stands in its lane."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.pixels = PixelEncoder()
        self.phrases = PhraseEncoder(words)
        self.sense, self.pose = nn.Linear(COARSE, 2), nn.Linear(_WHOLE, 2)


def answer(pixels: Pixels, kernels: Kernels) -> Tensor:
    """Soft masks (B, K, H, W) in [0, 1] of each frame's K phrases, Kernels of (B, K, …)."""
    meant = (kernels.coarse @ pixels.coarse.flatten(2) + kernels.bias).unflatten(2, pixels.coarse.shape[2:])
    meant = functional.interpolate(meant, scale_factor=4.0, mode="bilinear")
    return torch.sigmoid(pixels.outline)[:, None] * torch.sigmoid(meant)


def embedding_at(pixels: Pixels, points: Tensor) -> Tensor:
    """(B, P, COARSE): the embedding at the pixels `points` (B, P), counted row by row."""
    height, width = pixels.outline.shape[1:]
    row, column = points // width, points % width
    place = torch.stack([(2 * column + 1) / width - 1.0, (2 * row + 1) / height - 1.0], dim=-1)[:, None]
    coarse = functional.grid_sample(pixels.coarse, place, padding_mode="border", align_corners=False)
    return coarse[:, :, 0].transpose(1, 2)


def meant(embedding: Tensor, kernels: Kernels) -> Tensor:
    """Logits (B, P, Q) that what stands where the embedding (B, P, COARSE) is from is meant by each of the same Q
    phrases, Kernels of (Q, …)."""
    return embedding @ kernels.coarse.T + kernels.bias[:, 0]
