"""A pass of an encoder as one would first write it: frames to maps, the student's mask, and the mask's features."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from semore.train.encoder_settings import EncoderSettings


class Maps(NamedTuple):
    """Of one pass: both streams' maps, the student's logits, and the features of the mask where one is read."""

    semantic: Tensor
    motion: Tensor
    student: Tensor
    known: Tensor | None = None


def encode(s: EncoderSettings, encoder: Any, frames: Tensor, newest: int, mask: Tensor, use: Tensor) -> Maps:
    """A pass over frames (B,4,3,S,S) uint8 as of the one at `newest`, with `mask` (B,s,s) where `use` says so."""
    f1, f2, f3 = (frames[:, newest - back].to(mask.dtype) / 255.0 for back in (2, 1, 0))
    if s.streams == "single":
        every = layers_of(encoder.stream, torch.cat([f1, f2, f3], 1))
        return Maps(every[-1], every[-1], student_of(encoder.student_head, every))
    every = layers_of(encoder.semantic_stream, f3)
    semantic = every[-1]
    motion = through(encoder.motion_stream, torch.cat([f3 - f2, f2 - f1], 1))
    student = student_of(encoder.student_head, every)
    semantic, motion = (
        0.0 * maps if s.silent == name else maps for name, maps in (("semantic", semantic), ("motion", motion))
    )
    if s.attention == "none" and s.mask_path == "gated":
        return Maps(semantic, motion, student)
    instead = student.sigmoid().detach() * (0.0 if s.mask == "zeros" else 1.0)
    chosen = torch.where(use[:, None, None], mask, instead)
    known = through(encoder.mask_encoder, chosen[:, None])
    semantic, motion, _ = encoder.attention(semantic, motion, chosen, lambda _: known)
    return Maps(semantic, motion, student, known)


def student_of(head: Any, every: list[Tensor]) -> Tensor:
    """Logits (B,s,s) from what each layer of a stream gave: of the last map a weight per channel, or cell by cell of
    a block of what two maps say."""
    if isinstance(head, nn.Conv2d):
        return nn.Conv2d.forward(head, every[-1])[:, 0]

    def nearest(maps: Tensor) -> Tensor:
        line = torch.arange(head.side) * maps.shape[-1] // head.side
        return maps[:, :, line][:, :, :, line]

    fine, coarse = head.fine(every[head.early]), head.coarse(every[-1])
    cells = head.cells((nearest(fine) + nearest(coarse)).clamp(min=0.0))
    block = math.isqrt(cells.shape[1])
    logits = torch.zeros(len(cells), block * head.side, block * head.side, dtype=cells.dtype)
    for place in range(block**2):
        logits[:, place // block :: block, place % block :: block] = cells[:, place]
    return logits


def through(layers: nn.Sequential, maps: Tensor) -> Tensor:
    """One layer after the other, each as PyTorch has it."""
    return layers_of(layers, maps)[-1]


def layers_of(layers: nn.Sequential, maps: Tensor) -> list[Tensor]:
    """What each of them gives."""
    given = []
    for layer in layers:
        maps = nn.Conv2d.forward(layer, maps) if isinstance(layer, nn.Conv2d) else layer(maps)
        given.append(maps)
    return given
