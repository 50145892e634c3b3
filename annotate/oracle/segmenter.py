"""The privileged segmenter: it reads which pixels belong to which actor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from semore.annotate.interfaces import FrameBatch
from semore.annotate.oracle.presence import StateMissing, missing_state, without_state
from semore.annotate.oracle.rules import RULES_VERSION, look
from semore.datasets.knowledge.records import Identity


class PrivilegedSegmenter:
    """Paints the actors that the privileged describer means by a phrase."""

    @property
    def identity(self) -> Identity:
        """Kind and rules version."""
        return {"role": "segmenter", "kind": "privileged", "rules": RULES_VERSION, "privileged": True}

    def load(self) -> None:
        """Nothing to load."""

    def segment(self, batch: FrameBatch, phrases: Sequence[Sequence[str]]) -> NDArray[np.uint8]:
        """(M, H, W) uint8, 255 on the actors named; ValueError for a phrase the rules never say, and for one asked of a
        frame without recorded state (annotate.oracle.presence)."""
        for lack, named in zip(missing_state(batch), phrases, strict=True):
            if lack and named:
                raise StateMissing(without_state(lack, "segmenter", "cris-tiny, cris or clipseg"))
        if not any(phrases):
            return np.zeros((0, *batch.rgb.shape[1:3]), np.uint8)
        scene = look(batch)
        masks = np.zeros((sum(map(len, phrases)), *batch.instance.shape[1:]), np.uint8)
        place = 0
        for frame, named in enumerate(phrases):
            for phrase in named:
                for actor in scene.ids(frame, phrase):
                    masks[place] |= batch.instance[frame] == actor
                place += 1
        masks *= 255
        return masks
