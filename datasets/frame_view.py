"""How training looks at recorded frames: their size, the decisions, the reward, and which masks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """How the pool looks at a recording: frame and mask side in pixels, simulator steps per decision, reward,
    which variant of H_ka it shows (datasets.mask_variants; shuffled by `mask_seed`), and whether all pictures are
    grey."""

    size: int
    mask_side: int
    frame_skip: int
    reward: str
    masks: str = "plain"
    mask_seed: int = 0
    grey: bool = False
