"""Attention between knowledge and streams: the paper's cross form and the public code's joint form (method.md §5.3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Encode = Callable[[Tensor], Tensor]
"""E_k: masks (B,1,g,g) in [0,1] to their features F_k (B,C,g,g)."""


class CrossAttention(nn.Module):
    """F_m⁺ = F_m + γ1·Δ_m + γ2·Δ_k, where Δ_m has F_m asking F_k and Δ_k has F_k asking F_m.

    Maps (B,C,g,g) become g² tokens of C channels with a learned position; pre-LayerNorm, heads of C/heads channels,
    1/√d scaling. γ start at 0: the module begins as a plain dual stream, and E_k and the projections get their first
    gradient once γ has moved.
    """

    def __init__(self, channels: int, grid: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.position = nn.Parameter(0.02 * torch.randn(grid * grid, channels))
        self.motion_norm, self.known_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.motion_asks, self.known_asks = _Attention(channels, heads), _Attention(channels, heads)
        self.gates = nn.Parameter(torch.zeros(2))

    def forward(
        self, semantic: Tensor, motion: Tensor, mask_Bgg: Tensor, encode: Encode
    ) -> tuple[Tensor, Tensor, Tensor]:
        """F_s as it is, F_m⁺ from F_m and F_k, and F_k, all (B,C,g,g); F_k is the mask's (in [0,1]) by `encode`."""
        known = encode(mask_Bgg[:, None])
        motion_BNC, known_BNC = self._tokens(motion, known)
        delta_m = self.motion_asks(motion_BNC, known_BNC)
        delta_k = self.known_asks(known_BNC, motion_BNC)
        delta: Tensor = self.gates[0] * delta_m + self.gates[1] * delta_k
        return semantic, motion + delta.transpose(1, 2).reshape(motion.shape), known

    @torch.no_grad()
    def looks(self, motion: Tensor, known: Tensor) -> Tensor:
        """(B, g²) summing to 1: where in F_k the cells of F_m look, mean over these and the heads; for pictures."""
        weights_BHNN: Tensor = self.motion_asks.weights(*self._tokens(motion, known))
        return weights_BHNN.mean(dim=(1, 2))

    def _tokens(self, motion: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        motion_BNC = self.motion_norm(motion.flatten(2).transpose(1, 2) + self.position)
        known_BNC = self.known_norm(known.flatten(2).transpose(1, 2) + self.position)
        return motion_BNC, known_BNC


class JointAttention(nn.Module):
    """The public code's form, as it was meant (method.md §5.3): queries from the mask features, keys from both streams,
    one joint map A = softmax(softmax(Q·K_s) + softmax(Q·K_m)) over the N = g² cells, without 1/√d; what A gathers of
    each stream goes through an MLP N·C → 50 → N·C and is added to that stream."""

    def __init__(self, channels: int, grid: int) -> None:
        super().__init__()
        narrow, flat = max(channels // 4, 1), channels * grid * grid
        self.query = nn.Conv2d(channels, narrow, 1)
        self.semantic_key, self.motion_key = nn.Conv2d(channels, narrow, 1), nn.Conv2d(channels, narrow, 1)
        self.semantic_value, self.motion_value = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.semantic_change, self.motion_change = (
            nn.Sequential(nn.Linear(flat, 50), nn.ReLU(), nn.Linear(50, flat)) for _ in range(2)
        )

    def forward(
        self, semantic: Tensor, motion: Tensor, mask_Bgg: Tensor, encode: Encode
    ) -> tuple[Tensor, Tensor, Tensor]:
        """F_s⁺ and F_m⁺ from F_s, F_m and F_k, and F_k, as in CrossAttention."""
        known = encode(mask_Bgg[:, None])
        query_BNC = self.query(known).flatten(2).transpose(1, 2)
        maps = [
            (query_BNC @ key(stream).flatten(2)).softmax(-1)
            for key, stream in ((self.semantic_key, semantic), (self.motion_key, motion))
        ]
        joint_BNN = (maps[0] + maps[1]).softmax(-1)
        return (
            self._changed(semantic, self.semantic_value, self.semantic_change, joint_BNN),
            self._changed(motion, self.motion_value, self.motion_change, joint_BNN),
            known,
        )

    @staticmethod
    def _changed(stream: Tensor, value: nn.Module, change: nn.Module, joint_BNN: Tensor) -> Tensor:
        gathered_BCN = value(stream).flatten(2) @ joint_BNN.transpose(1, 2)
        changed: Tensor = stream + change(gathered_BCN.flatten(1)).view(stream.shape)
        return changed


class NoAttention(nn.Module):
    """Two streams that nobody tells anything: no mask is read."""

    def forward(
        self, semantic: Tensor, motion: Tensor, mask_Bgg: Tensor, encode: Encode
    ) -> tuple[Tensor, Tensor, None]:
        """Both streams as they are, and no features of the mask."""
        return semantic, motion, None


def make_attention(kind: str, channels: int, grid: int, heads: int) -> nn.Module:
    """The attention of an encoder's setting: cross, joint or none."""
    if kind == "cross":
        return CrossAttention(channels, grid, heads)
    return JointAttention(channels, grid) if kind == "joint" else NoAttention()


class _Attention(nn.Module):
    """Multi-head attention: queries from one sequence (B,N,C), keys and values from the other."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.query, self.key_value = nn.Linear(channels, channels), nn.Linear(channels, 2 * channels)
        self.output = nn.Linear(channels, channels)

    def forward(self, asking_BNC: Tensor, asked_BNC: Tensor) -> Tensor:
        query, key, value = self._heads_of(asking_BNC, asked_BNC)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.output(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def weights(self, asking_BNC: Tensor, asked_BNC: Tensor) -> Tensor:
        """(B, heads, N, N) softmaxed, as forward mixes with."""
        query, key, _ = self._heads_of(asking_BNC, asked_BNC)
        weights: Tensor = (query @ key.transpose(2, 3) / key.shape[-1] ** 0.5).softmax(-1)
        return weights

    def _heads_of(self, asking_BNC: Tensor, asked_BNC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        key, value = self.key_value(asked_BNC).chunk(2, -1)
        return self._split(self.query(asking_BNC)), self._split(key), self._split(value)

    def _split(self, tokens_BNC: Tensor) -> Tensor:
        batch, count, channels = tokens_BNC.shape
        return tokens_BNC.view(batch, count, self._heads, channels // self._heads).transpose(1, 2)
