"""Pictures of training: what the network is shown and the masks it makes of it, newest frames first."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from semore.datasets.atomic_io import atomic_file
from semore.train.attention import CrossAttention
from semore.train.encoder import DualStream
from semore.train.learner import Learner
from semore.train.pictures import in_unit, stacked
from semore.train.replay import SelectiveReplay

SHOWN: Final = 4
"""Frames in a picture."""
APART: Final = 25
"""Transitions from one frame to the next."""
SIDE: Final = 128
"""Pixels of a panel."""
PANELS: Final = ("newest frame", "H_ka", "student's mask", "attention to H_ka", "motion residual")


@torch.no_grad()
def draw(agent: Learner, replay: SelectiveReplay) -> NDArray[np.uint8]:
    """(H, W, 3): a row for each of the newest frames, a column for each of PANELS; black where there is none."""
    index = replay.latest(SHOWN * APART).flip(0)[::APART][:SHOWN]
    device = agent.device
    frames = stacked(replay.pool.observation(index).to(device))
    frame = in_unit(frames)
    known = in_unit(replay.pool.masks[index].to(device))
    features = agent.backbone(*agent.backbone.inputs(frames, 2))
    student = features.student.sigmoid() if agent.teaches_mask else torch.zeros_like(known)
    residual = (frame[:, 2] - frame[:, 1]).abs().amax(1)
    attention = _attention(agent, frames, known)
    columns = [
        _enlarged(frame[:, 2]),
        *(_enlarged(part[:, None].expand(-1, 3, -1, -1)) for part in (known, student, attention, residual / 0.5)),
    ]
    rows = torch.cat(columns, 3).permute(0, 2, 3, 1).flatten(0, 1)
    picture = Image.fromarray(rows.clamp(0, 1).mul(255).byte().cpu().numpy())
    pen = ImageDraw.Draw(picture)
    for number, name in enumerate(PANELS):
        pen.text((number * SIDE + 3, 2), name, fill=(255, 255, 0))
    return np.asarray(picture)


def save(picture: NDArray[np.uint8], path: Path) -> None:
    """Write it as PNG, atomically."""
    with atomic_file(path) as temporary:
        Image.fromarray(picture).save(temporary, format="png")


def _attention(agent: Learner, frames: Tensor, known: Tensor) -> Tensor:
    """(B, g, g) in [0, 1]: where the motion stream looks in the features of H_ka, the brightest cell 1."""
    backbone = agent.backbone
    if not isinstance(backbone, DualStream) or not isinstance(backbone.attention, CrossAttention):
        return torch.zeros_like(known)
    motion = backbone.motion_stream(backbone.inputs(frames, 2)[1])
    features = backbone.mask_encoder(known[:, None])
    looks: Tensor = backbone.attention.looks(motion, features).unflatten(1, features.shape[2:])
    return looks / looks.amax((1, 2), keepdim=True)


def _enlarged(pictures: Tensor) -> Tensor:
    """(B, 3, SIDE, SIDE)."""
    return functional.interpolate(pictures, (SIDE, SIDE), mode="nearest")
