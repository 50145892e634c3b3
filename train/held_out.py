"""Recorded validation episodes, on which the student's mask is measured by the simulator's truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from semore.annotate.audit.truth import true_grids
from semore.datasets.frame_pool import FramePool, rows_of
from semore.datasets.frame_view import View
from semore.datasets.knowledge.cache import KnowledgeSet
from semore.datasets.rollouts.store import Episode
from semore.train.health import MaskQuality, mask_quality
from semore.train.learner import Learner


class HeldOut(NamedTuple):
    """Their frames and, whatever the knowledge set says, the simulator's own masks, (frames, s, s) uint8."""

    pool: FramePool
    truth: NDArray[np.uint8]

    @staticmethod
    def of(view: View, episodes: Sequence[Episode], knowledge: KnowledgeSet) -> HeldOut:
        """Read those of the episodes that are held out."""
        episodes = [episode for episode in episodes if episode.attributes["split"] == "validation"]
        rows = [rows_of(episode, view.frame_skip) for episode in episodes]
        pool = FramePool(view, max(sum(map(len, rows)), 1))
        for episode in episodes:
            pool.add(episode, knowledge)
        masks = [true_grids(episode, own, view.mask_side) for episode, own in zip(episodes, rows, strict=True)]
        return HeldOut(pool, np.concatenate([np.zeros((0, view.mask_side, view.mask_side), np.uint8), *masks]))

    def quality(self, agent: Learner, trained_on: FramePool, resamples: int) -> MaskQuality | None:
        """The student's mask beside the constant map of the means that it was trained on; None where no loss teaches
        it, or there is no object to find. The interval comes from `resamples` bootstrap draws (0: none)."""
        if not agent.teaches_mask:
            return None
        known = trained_on.masks[: trained_on.size][trained_on.mask_valid[: trained_on.size]]
        constant = known.float().mean(0).div(255.0) if len(known) else torch.zeros(trained_on.masks.shape[1:])
        return self.quality_beside(agent, constant.numpy(), resamples)

    def quality_beside(self, agent: Learner, constant_ss: NDArray[np.float32], resamples: int) -> MaskQuality | None:
        """`quality` beside any constant map."""
        pool, truth = self
        device = agent.device
        with torch.inference_mode():
            parts = [agent(pool.observation(part).to(device))[2].cpu() for part in torch.arange(pool.size).split(256)]
        student = torch.cat(parts).numpy() if parts else truth.astype(np.float32)
        return mask_quality(
            student, truth.astype(np.float32) / 255.0, constant_ss, pool.start[: pool.size].numpy(), resamples=resamples
        )
