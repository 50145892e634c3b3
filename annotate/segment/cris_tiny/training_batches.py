"""Training batches of CRIS-tiny: whole masks of a few phrases, and single pixels for a great many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semore.annotate.segment.cris_tiny.network import SIZE, TOP
from semore.annotate.segment.cris_tiny.phrase_vocab import (
    MAX_WORDS,
    NOUN_WORDS,
    PAD,
    UNKNOWN,
    open_phrases,
    taught,
    tokens,
    vocabulary,
)
from semore.annotate.segment.cris_tiny.scenes import FIRST_ACTOR, MAX_ACTORS, Scenes

ASKED: Final = 3
"""Phrases of the describer whose whole masks are asked for in each frame."""
_PRESENT: Final = 2
"""Largest number of these phrases that name something in view."""
_TWIN: Final = 0.6
"""Fraction of the other phrases that have a word in common with something in view."""
POINTS: Final = 128
"""Pixels drawn from each frame, all of them on actors, and small actors as often as large ones. Each pixel is scored
against every phrase of the describer."""
_OPEN: Final = 16
"""Number of phrases in other words that each pixel is scored against as well."""
_USUAL_POSE: Final = np.array([0.05, 0.2], np.float32)  # rad, lanes
_STRANGE_WORD: Final = 0.1
_STRANGE_NOUN: Final = 0.05


@dataclass(frozen=True)
class TrainingBatch:
    """B frames and what is asked of them: rgb (B, 3, H, W) float32 in [0, 1], channels last, H = SIZE − TOP, W = SIZE.

    tokens (B, K, L) int64 and truth (B, K, H, W) float32 of the masks; points (B, P) int64, pixels of the
    window row by row, words (Q, L) int64 and meant (B, P, Q) float32 of the pixels. actors (B, H, W) int64:
    which actor each pixel shows, 0 for none. senses (B, P, 2) float32: place (lanes) and log of the distance of the
    actor at each point, as far as it is on one; pose (B, 2) float32: of the ego, in units of its usual size."""

    rgb: Tensor
    tokens: Tensor
    truth: Tensor
    points: Tensor
    words: Tensor
    meant: Tensor
    actors: Tensor
    senses: Tensor
    pose: Tensor


class BatchMaker:
    """Makes training batches: batch n of a seed is always the same. The more there is to name in a frame, the more
    often it is drawn."""

    def __init__(self, scenes: Scenes, seed: int, batch: int) -> None:
        self._scenes, self._seed, self._batch = scenes, seed, batch
        described = taught()
        phrases = (*described, *open_phrases())
        self._described = len(described)
        self._tokens = tokens([phrase.words for phrase in phrases])
        known = vocabulary()
        self._nouns = np.array([known[word] for word in sorted(NOUN_WORDS) if word in known])
        self._twins = _twins(self._tokens[: self._described])
        meanings = list(dict.fromkeys(phrase.meaning() for phrase in phrases))
        self._meaning = np.array([meanings.index(phrase.meaning()) for phrase in phrases])
        self._scenery = np.array([meaning.scenery for meaning in meanings])
        self._actors = np.stack([meaning.actors(scenes) for meaning in meanings], axis=1)
        self._there = np.any(self._actors, axis=2)[:, self._meaning[: self._described]]
        weight = 1.0 + self._there.sum(axis=1)
        self._weight = weight / weight.sum()

    def batch(self, number: int) -> TrainingBatch:
        """Training batch `number`, from 0 on."""
        rng = np.random.default_rng([self._seed, 0xA5, number])
        frames = rng.choice(len(self._scenes), self._batch, p=self._weight)
        asked = np.stack([self._ask(frame, rng) for frame in frames])
        others = rng.integers(self._described, len(self._tokens), _OPEN)
        words, unheard = self._strange(self._tokens[others], rng)
        words = np.concatenate([self._tokens[: self._described], words])
        everything = np.concatenate([np.arange(self._described), others])
        heard = np.concatenate([np.ones(self._described, bool), ~unheard])
        rgb = np.empty((self._batch, SIZE - TOP, SIZE, 3), np.float32)
        truth = np.empty((*asked.shape, SIZE - TOP, SIZE), np.float32)
        points = np.empty((self._batch, POINTS), np.int64)
        actors = np.empty((self._batch, SIZE - TOP, SIZE), np.int64)
        meant = np.empty((self._batch, POINTS, len(words)), np.float32)
        senses = np.zeros((self._batch, POINTS, 2), np.float32)
        for row, frame in enumerate(frames):
            label = self._scenes.label[frame, TOP:]
            rgb[row] = self._scenes.rgb[frame, TOP:] / np.float32(255.0)
            truth[row] = self._table(frame, asked[row])[:, label]
            actors[row] = np.where(label >= FIRST_ACTOR, label.astype(np.int64) - FIRST_ACTOR + 1, 0)
            points[row] = _points(label.reshape(-1), rng)
            senses[row] = self._senses(frame)[actors[row].reshape(-1)[points[row]]]
            meant[row] = (self._table(frame, everything) & heard[:, None])[:, label.reshape(-1)[points[row]]].T
        arrays = rgb.transpose(0, 3, 1, 2), self._tokens[asked], truth, points, words, meant, actors, senses
        pose = self._scenes.pose[frames] / _USUAL_POSE
        return TrainingBatch(*(torch.from_numpy(array) for array in (*arrays, pose)))

    def _table(self, frame: int, phrases: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(P, labels): which values of `Scenes.label` the phrases mean in a frame."""
        table = np.zeros((len(phrases), FIRST_ACTOR + MAX_ACTORS), bool)
        meanings = self._meaning[phrases]
        table[:, FIRST_ACTOR:] = self._actors[frame, meanings]
        scenery = self._scenery[meanings]
        table[scenery >= 0, scenery[scenery >= 0]] = True
        return table

    def _senses(self, frame: int) -> NDArray[np.float32]:
        """(1 + A, 2): place and log distance of no actor and of each."""
        place, distance = self._scenes.place[frame].clip(-4.0, 4.0), self._scenes.distance[frame].clip(1.0, 200.0)
        return np.pad(np.stack([place, np.log(distance / 20.0)], axis=1), ((1, 0), (0, 0)))

    def _ask(self, frame: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """(ASKED,) of the describer's phrases for a frame."""
        there = self._there[frame]
        present = rng.permutation(np.flatnonzero(there))[:_PRESENT]
        asked = list(present)
        twins = ~there & self._twins[present].any(axis=0)
        while len(asked) < ASKED:
            asked.append(rng.choice(np.flatnonzero(twins if rng.random() < _TWIN and twins.any() else ~there)))
        return np.array(asked)

    def _strange(
        self, words: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Tokens (Q, L) with some unknown words: one thrown in changes nothing, one instead of the noun leaves a phrase
        that means nothing, (Q,) True."""
        words = words.copy()
        draw = rng.random(len(words))
        for index in np.flatnonzero(draw < _STRANGE_WORD):
            row, length = words[index], int((words[index] != PAD).sum())
            if length < MAX_WORDS:
                at = int(rng.integers(length + 1))
                row[at + 1 :] = row[at:-1].copy()
                row[at] = UNKNOWN
        nameless = (draw > 1.0 - _STRANGE_NOUN) & np.isin(words, self._nouns).any(axis=1)
        words[nameless[:, None] & np.isin(words, self._nouns)] = UNKNOWN
        return words, nameless


def _points(label: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.int64]:
    """(POINTS,) pixels of a window, as many on each of its actors; anywhere when it shows none."""
    points = rng.integers(len(label), size=POINTS)
    actors = np.unique(label[label >= FIRST_ACTOR])
    if len(actors):
        for index, actor in enumerate(actors):
            own = slice(index, POINTS, len(actors))
            points[own] = rng.choice(np.flatnonzero(label == actor), len(points[own]))
    return points


def _twins(described: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(D, D): pairs of phrases that share a word."""
    bags = np.zeros((len(described), described.max() + 1), bool)
    np.put_along_axis(bags, described, True, axis=1)
    bags[:, PAD] = False
    twins: NDArray[np.bool_] = np.any(bags[:, None] & bags[None], axis=-1)
    np.fill_diagonal(twins, False)
    return twins
