"""CRIS's projector: the sentence becomes a convolution that draws the mask (method.md §7)."""

from __future__ import annotations

from typing import Final

import torch.nn.functional as F
from torch import Tensor, nn

from semore.annotate.segment.cris.clip import SENTENCE_WIDTH
from semore.annotate.segment.cris.neck import WIDTH, conv_bn_relu

CHANNELS: Final = 256
KERNEL: Final = 3


class Projector(nn.Module):
    """Upsamples the map four times; each phrase brings its own 3×3 kernel and bias."""

    def __init__(self) -> None:
        super().__init__()
        self.vis = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"),
            conv_bn_relu(WIDTH, WIDTH, 3),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            conv_bn_relu(WIDTH, CHANNELS, 3),
            nn.Conv2d(CHANNELS, CHANNELS, 1),
        )
        self.txt = nn.Linear(SENTENCE_WIDTH, CHANNELS * KERNEL**2 + 1)

    def forward(self, places: Tensor, sentence: Tensor) -> Tensor:
        """places (B, 512, H, W), sentence (B, 1024) → logits (B, 1, 4H, 4W)."""
        features = self.vis(places)
        spoken = self.txt(sentence)
        kernels, bias = spoken[:, :-1].unflatten(1, (CHANNELS, KERNEL, KERNEL)), spoken[:, -1]
        logits = F.conv2d(features.flatten(0, 1)[None], kernels, bias, padding=KERNEL // 2, groups=len(kernels))
        return logits.transpose(0, 1)
