"""How well it finds what the describer says: soft masks in, scores against the privileged truth out.

Scored are pairs of a frame and a phrase of the privileged describer (annotate.oracle.rules.PHRASES); the scenery
is not asked for. Found is what the soft mask gives at least one half, at the full 128×128."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.annotate.oracle.rules import PHRASES
from semore.annotate.segment.cris_tiny.phrase_vocab import DESCRIBED
from semore.annotate.segment.cris_tiny.scenes import Scenes
from semore.datasets.progress import meter

Answer = Callable[[NDArray[np.uint8], Sequence[Sequence[str]]], NDArray[np.uint8]]
"""Frames (B, 128, 128, 3) and each one's phrases to soft masks (M, 128, 128), 0–255."""

_GROUPS: Final = ("car", "police car", "fire truck", "ambulance", "cyclist", "pedestrian")
_HALF: Final = 128
_BATCH: Final = 32


@dataclass(frozen=True)
class Scores:
    """One row per (frame, phrase) asked: phrase (R,) index, cell (R,) of its frame, iou (R,), truth and found (R,)
    pixels, distance (R,) in m (inf where absent), noun (R,) bool: an actor of that noun is named in the frame."""

    phrase: NDArray[np.int64]
    cell: NDArray[np.int64]
    iou: NDArray[np.float64]
    truth: NDArray[np.int64]
    found: NDArray[np.int64]
    distance: NDArray[np.float64]
    noun: NDArray[np.bool_]

    def take(self, rows: NDArray[np.bool_]) -> Scores:
        """Some rows."""
        return Scores(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def present(self) -> NDArray[np.bool_]:
        """(R,) whether the phrase names something in view."""
        return self.truth > 0

    def of(self, group: str) -> NDArray[np.bool_]:
        """(R,) whether the phrase's noun is `group`."""
        return np.array([noun_of(phrase) == group for phrase in PHRASES])[self.phrase]


def noun_of(phrase: str) -> str:
    """The describer's noun in one of its phrases."""
    return max((noun for noun in _GROUPS if noun in phrase), key=len)


def score(answer: Answer, scenes: Scenes) -> Scores:
    """Ask every phrase of the describer of every frame."""
    words = [phrase.words for phrase in DESCRIBED]
    rows: list[tuple[float, ...]] = []
    with meter("evaluate CRIS-tiny", len(scenes), "frames") as progress:
        for start in range(0, len(scenes), _BATCH):
            rgb = scenes.rgb[start : start + _BATCH]
            found = answer(rgb, [words] * len(rgb)).reshape(len(rgb), len(words), *rgb.shape[1:3]) >= _HALF
            for index in range(len(rgb)):
                rows += _frame_rows(scenes.take(start + index), found[index])
            progress.advance(len(rgb))
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    kinds = (np.int64, np.int64, np.float64, np.int64, np.int64, np.float64, np.bool_)
    return Scores(*(column.astype(kind) for column, kind in zip(columns, kinds, strict=True)))


def _frame_rows(scene: Scenes, found: NDArray[np.bool_]) -> Iterator[tuple[float, ...]]:
    """One row of Scores per described phrase of a frame; found (P, 128, 128)."""
    nouns = {noun_of(PHRASES[code]) for code in scene.code[0] if code >= 0}
    for index, phrase in enumerate(DESCRIBED):
        meant = phrase.actors(scene)[0]
        truth = phrase.table(scene)[0][scene.label[0]] if meant.any() else np.zeros_like(found[index])
        union = int((truth | found[index]).sum())
        iou = int((truth & found[index]).sum()) / union if union else 1.0
        distance = float(np.where(meant, scene.distance[0], np.inf).min())
        pixels = int(truth.sum()), int(found[index].sum())
        yield index, int(scene.cell[0]), iou, *pixels, distance, noun_of(phrase.words) in nouns
