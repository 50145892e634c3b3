"""Bidirectional cross-attention between motion features and knowledge features (method.md §5.3, the paper's form)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from datasets.errors import SemoreError


class CrossAttention(nn.Module):
    """F_m⁺ = F_m + γ1·Δ_m + γ2·Δ_k, where Δ_m has F_m asking F_k and Δ_k has F_k asking F_m.

    Maps (B,C,g,g) become g² tokens of C channels with a learned position; pre-LayerNorm, heads of C/heads channels,
    1/√d scaling. γ start at 0: the module begins as a plain dual stream, and E_k and the projections get their first
    gradient once γ has moved.
    """

    def __init__(self, channels: int, grid: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise SemoreError(f"{heads} attention heads do not divide {channels} channels; choose a divisor")
        self._heads = heads
        self.position = nn.Parameter(0.02 * torch.randn(grid * grid, channels))
        self.motion_norm, self.known_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.motion_asks, self.known_asks = _Attention(channels, heads), _Attention(channels, heads)
        self.gates = nn.Parameter(torch.zeros(2))

    def forward(self, motion: Tensor, known: Tensor) -> Tensor:
        """F_m⁺ (B,C,g,g) from F_m and F_k of that shape."""
        motion_BNC = self.motion_norm(motion.flatten(2).transpose(1, 2) + self.position)
        known_BNC = self.known_norm(known.flatten(2).transpose(1, 2) + self.position)
        delta_m = self.motion_asks(motion_BNC, known_BNC)
        delta_k = self.known_asks(known_BNC, motion_BNC)
        delta: Tensor = self.gates[0] * delta_m + self.gates[1] * delta_k
        return motion + delta.transpose(1, 2).reshape(motion.shape)


class _Attention(nn.Module):
    """Multi-head attention: queries from one sequence (B,N,C), keys and values from the other."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.query, self.key_value = nn.Linear(channels, channels), nn.Linear(channels, 2 * channels)
        self.output = nn.Linear(channels, channels)

    def forward(self, asking_BNC: Tensor, asked_BNC: Tensor) -> Tensor:
        query = self._split(self.query(asking_BNC))
        key, value = (self._split(part) for part in self.key_value(asked_BNC).chunk(2, -1))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.output(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _split(self, tokens_BNC: Tensor) -> Tensor:
        batch, count, channels = tokens_BNC.shape
        return tokens_BNC.view(batch, count, self._heads, channels // self._heads).transpose(1, 2)
