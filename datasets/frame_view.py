"""How training looks at recorded frames: their size, the decisions, the reward, and which masks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """How the pool looks at a recording: frame and mask side in pixels, simulator steps per decision, reward,
    which variant of H_ka it shows (datasets.mask_variants; shuffled by `mask_seed`), whether all pictures are grey, and
    over how many decisions returns are summed (datasets.returns), discounted by so much at each."""

    size: int
    mask_side: int
    frame_skip: int
    reward: str
    masks: str = "plain"
    mask_seed: int = 0
    grey: bool = False
    n_step: int = 1
    discount: float = 0.99

    @property
    def window(self) -> int:
        """Frames of a transition: three that end in s, the next one, and with longer returns three that end in s'."""
        return 4 if self.n_step == 1 else 7
