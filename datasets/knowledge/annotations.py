"""What a knowledge set says about an episode, row by row: phrases, H_ka, verdicts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semore.datasets.action_text import action_words
from semore.datasets.knowledge.cache import KnowledgeSet
from semore.datasets.knowledge.records import INVALID, Text
from semore.datasets.rollouts.store import Episode


@dataclass(frozen=True)
class Annotations:
    """Of N rows of an episode. texts: the describer's answer, None where there is none; masks (N, H, W) uint8, 0–255
    for [0, 1], zeros where not valid (N,) bool; verdicts (N,) uint8: 1 reasonable, 0 not, 255 unknown; words: the
    judged actions, "" for the last frame."""

    texts: list[Text | None]
    masks: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    verdicts: NDArray[np.uint8]
    words: list[str]


def read_annotations(episode: Episode, rows: NDArray[np.int64], knowledge: KnowledgeSet | None) -> Annotations:
    """The annotations of these rows; without a knowledge set nothing is known of any."""
    arrays = episode.read("digest", "state_digest", "action")
    acted = rows[rows < episode.steps]
    words = [*action_words(arrays["action"][acted]), *[""] * (len(rows) - len(acted))]
    verdicts = np.full(len(rows), INVALID, np.uint8)
    side = int(episode.layout()["rgb"][0][1])
    if knowledge is None:
        masks, valid = np.zeros((len(rows), side, side), np.uint8), np.zeros(len(rows), np.bool_)
        return Annotations([None] * len(rows), masks, valid, verdicts, words)
    frames, states = arrays["digest"][rows], arrays["state_digest"][rows]
    number = len(acted)
    verdicts[:number] = knowledge.verdicts(frames[:number], states[:number], words[:number])
    masks, valid = knowledge.h_ka(frames, states, size=(side, side))
    return Annotations(knowledge.texts(frames, states), masks, valid, verdicts, words)
