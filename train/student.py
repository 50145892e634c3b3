"""The student's mask: on the feature grid a weight per channel, beyond it a light decoder with an early map as well."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from semore.train.encoder_settings import EncoderSettings, Geometry, map_sides


class MaskDecoder(nn.Module):
    """Two maps of a stream to mask logits (B,1,s,s) finer than the feature grid.

    The early map says where edges are, the last what they belong to. Both are brought to a few channels, meet at half
    the mask's side (at the whole side where that is but twice the grid), and one 3×3 convolution makes the cells of a
    2×2 block as channels: at the mask's own side it would cost four times as much.
    """

    def __init__(self, settings: EncoderSettings, shape: Geometry) -> None:
        super().__init__()
        channels, narrow = settings.channels, settings.channels[0]
        block = 2 if settings.mask_resolution > 2 * shape.grid else 1
        self.side = settings.mask_resolution // block
        """Of the maps where they meet."""
        sides = map_sides(settings.size, shape.kernels, shape.strides, shape.padding)
        layer = max(number for number, side in enumerate(sides) if side >= self.side or number == 0)
        self.early = 2 * layer + 1
        """Index in the stream of what is read early: behind the deepest convolution, and its ReLU, that is as fine."""
        self.fine, self.coarse = nn.Conv2d(channels[layer], narrow, 1), nn.Conv2d(channels[-1], narrow, 1)
        self.cells, self.block = nn.Conv2d(narrow, block * block, 3, padding=1), nn.PixelShuffle(block)

    def forward(self, early: Tensor, last: Tensor) -> Tensor:
        """Logits for maps (B,C,e,e) and (B,C',g,g)."""
        meeting = functional.relu(self._spread(self.fine(early)) + self._spread(self.coarse(last)))
        logits: Tensor = self.block(self.cells(meeting))
        return logits

    def _spread(self, maps: Tensor) -> Tensor:
        """To the side at which they meet, each cell from the nearest: an interpolation adds up its gradient in any
        order on a GPU."""
        if maps.shape[-1] == self.side:
            return maps
        return functional.interpolate(maps, (self.side, self.side), mode="nearest")


def make_student(settings: EncoderSettings, shape: Geometry) -> nn.Module:
    """The student's head on a stream of this shape; `watched` reads it."""
    if settings.mask_resolution == shape.grid:
        return nn.Conv2d(settings.channels[-1], 1, 1)
    return MaskDecoder(settings, shape)


def watched(stream: nn.Sequential, student: nn.Module, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """The stream's map (B,C,g,g) of pictures (B,3 or 9,S,S), and its student's logits (B,s,s)."""
    if not isinstance(student, MaskDecoder):
        seen = stream(pictures)
        return seen, student(seen).squeeze(1)
    seen = early = pictures
    for number, layer in enumerate(stream):
        seen = layer(seen)
        if number == student.early:
            early = seen
    return seen, student(early, seen).squeeze(1)


class StudentMask(nn.Module):
    """What stands in for H_ka where none is cached: the student's own mask, without a gradient."""

    def forward(self, student_Bss: Tensor) -> Tensor:
        """Logits to a mask in [0, 1]."""
        return student_Bss.detach().float().sigmoid()


class EmptyMask(nn.Module):
    """Knowledge of nothing anywhere, as the public code acts."""

    def forward(self, student_Bss: Tensor) -> Tensor:
        """Zeros of its shape."""
        return torch.zeros_like(student_Bss).float()
