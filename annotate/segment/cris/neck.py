"""CRIS's neck: it fuses the sentence into the picture's feature pyramid (method.md §7)."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semore.annotate.segment.cris.clip import SENTENCE_WIDTH

PYRAMID: Final = (512, 1024, 1024)
"""Channels of C3, C4, C5."""
WIDTH: Final = 512
"""Channels of the fused map."""


class ImageFeatures(NamedTuple):
    """What a picture is, whatever is asked about it; of a (N, 3, H, W) input: f3 (N, 256, H/16, W/16),
    f4 (N, 512, H/16, W/16), f5 (N, 1024, H/32, W/32)."""

    f3: Tensor
    f4: Tensor
    f5: Tensor

    def take(self, rows: Tensor) -> ImageFeatures:
        """The pictures `rows` (M,) int64, a picture as often as phrases are asked about it."""
        return ImageFeatures(*(feature[rows] for feature in self))


def conv_bn_relu(width_in: int, width_out: int, kernel: int) -> nn.Sequential:
    """Convolution without bias that keeps the size, batch norm, ReLU."""
    convolution = nn.Conv2d(width_in, width_out, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width_out), nn.ReLU())


def twice_as_large(x: Tensor) -> Tensor:
    """Upsample by 2, bilinear, corners not aligned."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class CoordConv(nn.Module):
    """A convolution that also sees its place: x and y in [−1, 1] as two more channels."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.conv1 = conv_bn_relu(width_in + 2, width_out, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in, H, W) → (B, width_out, H, W)."""
        batch, _, height, width = x.shape
        across = torch.linspace(-1, 1, width, dtype=x.dtype, device=x.device).expand(batch, 1, height, width)
        down = torch.linspace(-1, 1, height, dtype=x.dtype, device=x.device)[:, None].expand(batch, 1, height, width)
        return self.conv1(torch.cat([x, across, down], 1))  # type: ignore[no-any-return]


class Neck(nn.Module):
    """Feature pyramid: the coarsest map is multiplied by the sentence, and flows into the finer ones."""

    def __init__(self) -> None:
        super().__init__()
        c3, c4, c5 = PYRAMID
        self.txt_proj = nn.Sequential(nn.Linear(SENTENCE_WIDTH, c5, bias=False), nn.BatchNorm1d(c5), nn.ReLU())
        self.f1_v_proj = conv_bn_relu(c5, c5, 1)
        self.norm_layer = nn.Sequential(nn.BatchNorm2d(c5), nn.ReLU())
        self.f2_v_proj = conv_bn_relu(c4, WIDTH, 3)
        self.f2_cat = conv_bn_relu(c5 + WIDTH, WIDTH, 1)
        self.f3_v_proj = conv_bn_relu(c3, WIDTH // 2, 3)
        self.f3_cat = conv_bn_relu(WIDTH // 2 + WIDTH, WIDTH, 1)
        self.f4_proj5 = conv_bn_relu(c5, WIDTH, 3)
        self.f4_proj4 = conv_bn_relu(WIDTH, WIDTH, 3)
        self.f4_proj3 = conv_bn_relu(WIDTH, WIDTH, 3)
        self.aggr = conv_bn_relu(3 * WIDTH, WIDTH, 1)
        self.coordconv = nn.Sequential(CoordConv(WIDTH, WIDTH), conv_bn_relu(WIDTH, WIDTH, 3))

    def project(self, c3: Tensor, c4: Tensor, c5: Tensor) -> ImageFeatures:
        """The part that no phrase changes: done once per picture."""
        return ImageFeatures(F.avg_pool2d(self.f3_v_proj(c3), 2), self.f2_v_proj(c4), self.f1_v_proj(c5))

    def forward(self, image: ImageFeatures, sentence: Tensor) -> Tensor:
        """Features of B pictures, sentence (B, 1024) → fused map (B, 512, H/16, W/16)."""
        text = self.txt_proj(sentence)[:, :, None, None]
        f5 = self.norm_layer(image.f5 * text)
        f4 = self.f2_cat(torch.cat([image.f4, twice_as_large(f5)], 1))
        f3 = self.f3_cat(torch.cat([image.f3, f4], 1))
        levels = [self.f4_proj3(f3), self.f4_proj4(f4), twice_as_large(self.f4_proj5(f5))]
        return self.coordconv(self.aggr(torch.cat(levels, 1)))  # type: ignore[no-any-return]
