"""The metrics of an audit: overlap of masks with the truth, actors found, phrases that hit, change over time.

Every ratio is NaN where there was nothing to count."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Masks = NDArray[np.bool_]
"""(B, H, W) bool."""

OBJECT_SHARE = 0.5
"""A key actor is found when at least this share of its pixels is in H_ka."""


def share(part: float, whole: float) -> float:
    """part / whole, or NaN where both are 0."""
    return part / whole if whole else math.nan


@dataclass
class Overlap:
    """Pixels summed over frames: in H_ka, in the truth, and in both."""

    frames: int = 0
    pixels: int = 0
    mask: int = 0
    truth: int = 0
    both: int = 0

    def add(self, mask: Masks, truth: Masks) -> None:
        """Count B frames."""
        self.frames += len(mask)
        self.pixels += mask.size
        self.mask += int(mask.sum())
        self.truth += int(truth.sum())
        self.both += int((mask & truth).sum())

    @property
    def iou(self) -> float:
        """Intersection over union of the pixels of all frames."""
        return share(self.both, self.mask + self.truth - self.both)

    @property
    def precision(self) -> float:
        """Share of H_ka's pixels that are true."""
        return share(self.both, self.mask)

    @property
    def recall(self) -> float:
        """Share of the true pixels that are in H_ka."""
        return share(self.both, self.truth)

    @property
    def coverage(self) -> float:
        """Mean share of the picture in H_ka."""
        return share(self.mask, self.pixels)

    @property
    def truth_coverage(self) -> float:
        """Mean share of the picture in the truth."""
        return share(self.truth, self.pixels)


@dataclass
class Actors:
    """Key actors seen in frames with knowledge: how many, how many of them named and found, their pixels in the truth
    and in H_ka. An actor counts once in each frame."""

    actors: int = 0
    named: int = 0
    found: int = 0
    pixels: int = 0
    covered: int = 0

    def add(self, named: NDArray[np.bool_], pixels: NDArray[np.int64], covered: NDArray[np.int64]) -> None:
        """Count actors: (N,) named, their pixels, and those in H_ka."""
        self.actors += len(pixels)
        self.named += int(named.sum())
        self.found += int((covered >= OBJECT_SHARE * pixels).sum())
        self.pixels += int(pixels.sum())
        self.covered += int(covered.sum())

    @property
    def naming(self) -> float:
        """Share of the actors whose class one of the frame's phrases names: what the describer does right."""
        return share(self.named, self.actors)

    @property
    def recall(self) -> float:
        """Share of their pixels that are in H_ka, whatever phrase put them there."""
        return share(self.covered, self.pixels)

    @property
    def object_recall(self) -> float:
        """Share of the actors of which H_ka covers OBJECT_SHARE or more."""
        return share(self.found, self.actors)


@dataclass
class Phrases:
    """Uses of a phrase, or of all phrases of a class: how often said, how often it lit up anything, pixels lit, those
    on any key actor, and those on an actor of the class it names (any class, for a phrase of none)."""

    said: int = 0
    lit: int = 0
    pixels: int = 0
    on_key: int = 0
    on_class: int = 0

    def __iadd__(self, other: Phrases) -> Phrases:
        self.said += other.said
        self.lit += other.lit
        self.pixels += other.pixels
        self.on_key += other.on_key
        self.on_class += other.on_class
        return self

    @property
    def lighting(self) -> float:
        """Share of the uses that lit up anything."""
        return share(self.lit, self.said)

    @property
    def precision(self) -> float:
        """Of the pixels lit, the share on key actors of the class named."""
        return share(self.on_class, self.pixels)


@dataclass
class Change:
    """How masks and truth change from a frame to the next, over the same pairs: pixels of the symmetric difference, and
    of the union."""

    pairs: int = 0
    mask: int = 0
    mask_union: int = 0
    truth: int = 0
    truth_union: int = 0

    def add(self, masks: Masks, truths: Masks, neighbours: NDArray[np.bool_]) -> None:
        """Count those of the B − 1 consecutive pairs that are `neighbours`."""
        before, after = masks[:-1][neighbours], masks[1:][neighbours]
        self.pairs += len(before)
        self.mask += int((before ^ after).sum())
        self.mask_union += int((before | after).sum())
        before, after = truths[:-1][neighbours], truths[1:][neighbours]
        self.truth += int((before ^ after).sum())
        self.truth_union += int((before | after).sum())

    @property
    def of_mask(self) -> float:
        """Share of H_ka's pixels, of either frame of a pair, that are in one of the two only: 0 still, 1 all new."""
        return share(self.mask, self.mask_union)

    @property
    def of_truth(self) -> float:
        """The same of the truth: what motion alone changes."""
        return share(self.truth, self.truth_union)

    @property
    def flicker(self) -> float:
        """What H_ka changes beyond the truth's own change: above 0 it flickers, below 0 it lags or blurs."""
        return self.of_mask - self.of_truth
