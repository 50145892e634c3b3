"""Variants of H_ka for counterfactuals: shuffled, empty, inverted (docs/counterfactual.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.records import Digests

MASKS: Final = ("plain", "shuffled", "empty", "inverted")
"""As they are; with each mask's cells in an order of its own; zeros; what is object and what is not exchanged."""

Cell = TypeVar("Cell", np.uint8, np.float32)


def replaced(
    masks: NDArray[Cell], variant: str, generators: Iterable[np.random.Generator], full: int = 255
) -> NDArray[Cell]:
    """Masks (N, g, g) of values 0 … `full` under one of MASKS; `generators` has one per mask, drawn from by shuffled
    alone. Shuffled keeps each mask's values and loses their places: were the order the same for all masks, a network
    could learn to undo it. SemoreError naming the choices for another variant."""
    if variant == "plain":
        return masks
    if variant == "empty":
        return np.zeros_like(masks)
    if variant == "inverted":
        inverted: NDArray[Cell] = masks.dtype.type(full) - masks
        return inverted
    if variant == "shuffled":
        shuffled = np.empty_like(masks)
        for own, mask, generator in zip(shuffled, masks, generators, strict=True):
            own[:] = generator.permutation(mask.ravel()).reshape(mask.shape)
        return shuffled
    raise SemoreError(f"unknown masks {variant!r}; choose one of {', '.join(MASKS)}")


def frame_generators(frames: Digests, seed: int) -> Iterator[np.random.Generator]:
    """A generator for each frame digest (N, 16): the same frame is shuffled alike whenever it is read."""
    for digest in np.ascontiguousarray(frames).view("<u4"):
        yield np.random.default_rng([seed, *digest.tolist()])
