"""The truth an audit measures against, from recorded states: which actors matter, their class, distance and pixels."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semore.annotate.interfaces import FrameBatch
from semore.annotate.oracle.presence import missing_state
from semore.annotate.oracle.rules import PHRASES, look
from semore.datasets.knowledge.merge import max_pool
from semore.datasets.rollouts.store import Episode

CLASSES: Final = ("pedestrian", "cyclist", "car", "police car", "fire truck", "ambulance")
"""Classes of key actors; a car is any of the passenger cars that is no police car."""
OTHER: Final = "other"
"""The class of a phrase that names no key actor, such as "traffic light"."""

_MOTOR: Final = ("car", "police car", "fire truck", "ambulance")
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("pedestrian", "person", "people", "man", "men", "woman", "women", "walker"), ("pedestrian",)),
    **dict.fromkeys(("child", "children"), ("pedestrian",)),
    **dict.fromkeys(("cyclist", "bicyclist", "bicycle", "bike", "biker", "rider", "motorcyclist"), ("cyclist",)),
    **dict.fromkeys(("car", "sedan", "suv", "sports car", "automobile"), ("car", "police car")),
    **dict.fromkeys(("police car", "police vehicle", "police cruiser"), ("police car",)),
    **dict.fromkeys(("fire truck", "fire engine", "firetruck"), ("fire truck",)),
    **dict.fromkeys(("ambulance", "van"), ("ambulance",)),
    "truck": ("fire truck", "ambulance"),
    "emergency vehicle": ("ambulance", "fire truck", "police car"),
    "vehicle": _MOTOR,
}
_NOUN: Final = re.compile(rf"\b({'|'.join(sorted(map(re.escape, _WORDS), key=len, reverse=True))})(?:s|es)?\b")


class Noun(NamedTuple):
    """The class a phrase counts for, and all the classes it is right about: "a truck" counts for fire truck, and is
    right about an ambulance too."""

    counts: str
    right: tuple[str, ...]


@lru_cache(maxsize=4096)
def noun_of(phrase: str) -> Noun:
    """By the first known noun of the phrase, in singular or plural, the longest where several begin; else OTHER."""
    found = _NOUN.search(phrase.lower())
    if found is None:
        return Noun(OTHER, ())
    right = _WORDS[found[1]]
    return Noun(right[0], right)


_CLASS_OF_CODE: Final = np.array([CLASSES.index(noun_of(phrase).counts) for phrase in PHRASES], np.int64)


@dataclass(frozen=True)
class Truth:
    """What the privileged describer and segmenter say of B frames of up to A actors.

    mask (B, H, W) bool: the true H_ka. phrases: B tuples. id (B, A), kind (B, A) index into CLASSES, distance (B, A)
    metres; only where key (B, A) bool. known (B,) bool: False where the recorded state is missing; the rest then says
    nothing.
    """

    mask: NDArray[np.bool_]
    phrases: list[tuple[str, ...]]
    known: NDArray[np.bool_]
    key: NDArray[np.bool_]
    id: NDArray[np.int64]
    kind: NDArray[np.int64]
    distance: NDArray[np.float32]

    def pixels_of(self, batch: FrameBatch, frame: int, classes: Collection[str]) -> NDArray[np.bool_]:
        """(H, W) bool: the key actors of these classes in one frame."""
        wanted = np.isin(self.kind[frame], [CLASSES.index(name) for name in classes])
        found: NDArray[np.bool_] = np.isin(batch.instance[frame], self.id[frame][self.key[frame] & wanted])
        return found


def truth_of(batch: FrameBatch) -> Truth:
    """Of the actors that matter in a batch (annotate.oracle.rules), those whose phrase is among the frame's."""
    scene = look(batch)
    phrases = [scene.phrases(frame) for frame in range(len(batch))]
    said = np.zeros((len(batch), len(PHRASES)), np.bool_)
    for frame, named in enumerate(phrases):
        said[frame, [PHRASES.index(phrase) for phrase in named]] = True
    key = (scene.code >= 0) & np.take_along_axis(said, np.maximum(scene.code, 0), axis=1)
    mask = np.zeros(batch.instance.shape, np.bool_)
    for frame in range(len(batch)):
        mask[frame] = np.isin(batch.instance[frame], scene.id[frame][key[frame]])
    kind = _CLASS_OF_CODE[np.maximum(scene.code, 0)]
    known = np.array([not lack for lack in missing_state(batch)], np.bool_)
    return Truth(mask, phrases, known, key, scene.id, kind, scene.distance)


def true_grids(episode: Episode, rows: NDArray[np.int64], grid: int) -> NDArray[np.uint8]:
    """The true H_ka of an episode's rows on the feature grid, max-pooled: (N, grid, grid) uint8, 0 or 255."""
    batch = FrameBatch.read(episode, privileged=True).take(rows)
    return max_pool(truth_of(batch).mask.astype(np.uint8) * np.uint8(255), grid)
