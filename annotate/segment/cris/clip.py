"""CLIP-RN50 as CRIS uses it: three feature maps of a picture, words and sentence of a text (method.md §7)."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCABULARY: Final = 49_408
POSITIONS: Final = 77
TEXT_WIDTH: Final = 512
SENTENCE_WIDTH: Final = 1024
TEXT_LAYERS: Final = 12
TEXT_HEADS: Final = 8
STAGES: Final = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""Per residual stage: inner width, blocks, stride."""
EXPANSION: Final = 4
POOL_GRID: Final = 7
"""Side of the attention pool's grid of positions: CLIP was trained on 224 pixels."""
POOL_HEADS: Final = 32


def _initial(*shape: int, std: float) -> nn.Parameter:
    """Uniform where CLIP began with a normal distribution: a checkpoint is loaded over a network on the meta device,
    and there torch draws a normal one only after importing its compiler, which takes seconds."""
    bound = math.sqrt(3) * std
    return nn.Parameter(nn.init.uniform_(torch.empty(shape), -bound, bound))


class Bottleneck(nn.Module):
    """Residual block whose stride is an average pool before the last convolution (and on the shortcut)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        width_out = width * EXPANSION
        self.conv1 = nn.Conv2d(width_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(width, width_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width_out)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or width_in != width_out:
            projection = nn.Conv2d(width_in, width_out, 1, bias=False)
            parts = {"pool": nn.AvgPool2d(stride), "0": projection, "1": nn.BatchNorm2d(width_out)}
            self.downsample = nn.Sequential(OrderedDict(parts))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in, H, W) → (B, 4·width, H/stride, W/stride)."""
        inner = F.relu(self.bn1(self.conv1(x)))
        inner = self.pool(F.relu(self.bn2(self.conv2(inner))))
        return F.relu(self.bn3(self.conv3(inner)) + self.downsample(x))


class AttentionPool(nn.Module):
    """Self-attention over all places that keeps every one of them (CLIP keeps only a mean token), plus the projected
    input ("connect", which CLIP lacks)."""

    def __init__(self, width: int, width_out: int) -> None:
        super().__init__()
        self.positional_embedding = _initial(POOL_GRID**2 + 1, width, std=width**-0.5)
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, width_out)
        self.connect = nn.Sequential(nn.Conv2d(width, width_out, 1, bias=False), nn.BatchNorm2d(width_out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) → (B, width_out, H, W)."""
        size = x.shape[-2:]
        tokens = x.flatten(2).transpose(1, 2) + self._positions(*size)
        query, key, value = (
            project(tokens).unflatten(-1, (POOL_HEADS, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        pooled = self.c_proj(attended).transpose(1, 2).unflatten(2, size)
        return F.relu(pooled + self.connect(x))

    def _positions(self, height: int, width: int) -> Tensor:
        """(H·W, channels): CLIP's grid without its mean token, resized."""
        grid = self.positional_embedding[1:].T.unflatten(1, (POOL_GRID, POOL_GRID))[None]
        resized = F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)
        return resized[0].flatten(1).T


class Visual(nn.Module):
    """CLIP's ResNet-50: a stem of three convolutions, four stages, the attention pool."""

    def __init__(self) -> None:
        super().__init__()
        stem = STAGES[0][0]
        self.conv1 = nn.Conv2d(3, stem // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem // 2)
        self.conv2 = nn.Conv2d(stem // 2, stem // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem // 2)
        self.conv3 = nn.Conv2d(stem // 2, stem, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(stem)
        width = stem
        stages = []
        for inner, blocks, stride in STAGES:
            first = Bottleneck(width, inner, stride)
            width = inner * EXPANSION
            stages.append(nn.Sequential(first, *(Bottleneck(width, inner, 1) for _ in range(blocks - 1))))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.attnpool = AttentionPool(width, SENTENCE_WIDTH)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) → C3 (B, 512, H/8, W/8), C4 (B, 1024, H/16, W/16), C5 (B, 1024, H/32, W/32)."""
        x = F.relu(self.bn1(self.conv1(image)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.avg_pool2d(F.relu(self.bn3(self.conv3(x))), 2)
        c3 = self.layer2(self.layer1(x))
        c4 = self.layer3(c3)
        return c3, c4, self.attnpool(self.layer4(c4))


class QuickGELU(nn.Module):
    """The activation that CLIP was trained with: x · sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class ResidualAttention(nn.Module):
    """Pre-norm block of the text transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(TEXT_WIDTH, TEXT_HEADS, batch_first=True)
        self.ln_1 = nn.LayerNorm(TEXT_WIDTH)
        hidden = 4 * TEXT_WIDTH
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(TEXT_WIDTH, hidden), gelu=QuickGELU(), c_proj=nn.Linear(hidden, TEXT_WIDTH))
        )
        self.ln_2 = nn.LayerNorm(TEXT_WIDTH)

    def forward(self, x: Tensor, hidden_LL: Tensor) -> Tensor:
        """x (B, L, 512); hidden_LL bool, True where attention may not look."""
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, attn_mask=hidden_LL, need_weights=False)[0]
        x = x + self.mlp(self.ln_2(x))
        return x


class TextTransformer(nn.Module):
    """The causal text transformer: a token attends to itself and to those before it."""

    def __init__(self) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualAttention() for _ in range(TEXT_LAYERS))

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, 512) → (B, L, 512)."""
        length = x.shape[1]
        hidden_LL = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        for block in self.resblocks:
            x = block(x, hidden_LL)
        return x


class CLIP(nn.Module):
    """Both encoders of CLIP. `logit_scale` belongs to CLIP's training; CRIS keeps it in the file and never uses it."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = Visual()
        self.transformer = TextTransformer()
        self.token_embedding = nn.Embedding.from_pretrained(_initial(VOCABULARY, TEXT_WIDTH, std=0.02), freeze=False)
        self.positional_embedding = _initial(POSITIONS, TEXT_WIDTH, std=0.01)
        self.ln_final = nn.LayerNorm(TEXT_WIDTH)
        self.text_projection = _initial(TEXT_WIDTH, SENTENCE_WIDTH, std=TEXT_WIDTH**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_text(self, word: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids (B, L) int64 → words (B, L, 512) before projection, sentence (B, 1024) after it, taken at the end
        token (the highest id)."""
        embedded = self.token_embedding(word) + self.positional_embedding[: word.shape[1]]
        words = self.ln_final(self.transformer(embedded))
        end = words[torch.arange(len(word), device=word.device), word.argmax(1)]
        return words, end @ self.text_projection
