"""CRIS's decoder: every cell of the fused map attends to all cells and to the phrase's words (method.md §7)."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

WIDTH: Final = 512
HEADS: Final = 8
LAYERS: Final = 3
HIDDEN: Final = 2048
DROPOUT: Final = 0.1


def sine_positions(length: int, width: int, device: torch.device) -> Tensor:
    """(length, width): sine on even channels, cosine on odd ones, wavelengths from 2π to 10,000·2π."""
    frequency = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000.0) / width))
    angle = torch.arange(length, device=device)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], 2).flatten(1)


def sine_positions_2d(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """(height·width, channels): the first half tells x, the second y."""
    across = sine_positions(width, channels // 2, device)[None, :].expand(height, -1, -1)
    down = sine_positions(height, channels // 2, device)[:, None].expand(-1, width, -1)
    return torch.cat([across, down], 2).flatten(0, 1)


class DecoderLayer(nn.Module):
    """Pre-norm layer; each attention's output is normalised once more before it is added."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn_norm = nn.LayerNorm(WIDTH)
        self.cross_attn_norm = nn.LayerNorm(WIDTH)
        self.self_attn = nn.MultiheadAttention(WIDTH, HEADS, dropout=DROPOUT, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(WIDTH, HEADS, dropout=DROPOUT, batch_first=True)
        self.ffn = nn.Sequential(
            nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, WIDTH)
        )
        self.norm1 = nn.LayerNorm(WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.norm3 = nn.LayerNorm(WIDTH)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, places: Tensor, words: Tensor, place_positions: Tensor, keys: Tensor, padding: Tensor) -> Tensor:
        """places (B, P, 512), words and keys (words with their positions) (B, L, 512), padding (B, L) bool."""
        normed = self.norm1(places)
        located = normed + place_positions
        attended = self.self_attn(located, located, normed, need_weights=False)[0]
        places = places + self.dropout(self.self_attn_norm(attended))
        located = self.norm2(places) + place_positions
        attended = self.multihead_attn(located, keys, words, key_padding_mask=padding, need_weights=False)[0]
        places = places + self.dropout(self.cross_attn_norm(attended))
        return places + self.dropout(self.ffn(self.norm3(places)))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Three decoder layers and a final LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, fused: Tensor, words: Tensor, padding: Tensor) -> Tensor:
        """fused (B, 512, H, W), words (B, L, 512), padding (B, L) bool, True hides a word → (B, 512, H, W)."""
        height, width = fused.shape[-2:]
        place_positions = sine_positions_2d(height, width, WIDTH, fused.device)
        keys = words + sine_positions(words.shape[1], WIDTH, fused.device)
        places = fused.flatten(2).transpose(1, 2)
        for layer in self.layers:
            places = layer(places, words, place_positions, keys, padding)
        return self.norm(places).transpose(1, 2).unflatten(2, (height, width))  # type: ignore[no-any-return]
