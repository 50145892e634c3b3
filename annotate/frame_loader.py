"""Loads frames for producers: a chunk in, batches out; the next batch is read while one is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from semore.annotate.interfaces import FrameBatch
from semore.annotate.scheduling.chunks import WorkChunk
from semore.annotate.scheduling.plan import Part
from semore.datasets.rollouts.store import Episode

T = TypeVar("T")


class Reader:
    """Reads the frames of chunks. It keeps the last episode in memory, since the next chunk mostly goes on with it."""

    def __init__(self) -> None:
        self._last: tuple[str, bool, FrameBatch] | None = None

    def __reduce__(self) -> tuple[type[Reader], tuple[()]]:
        """A copy for another process reads for itself."""
        return type(self), ()

    def read(self, chunk: WorkChunk, size: int, privileged: bool) -> Iterator[tuple[tuple[Part, ...], FrameBatch]]:
        """The chunk's frames in batches of at most `size`, across episodes of one camera."""
        for group in chunk.batches(size):
            pieces = [self._episode(part.episode, privileged).take(part.rows) for part in group]
            for same in _alike(pieces):
                yield tuple(group[place] for place in same), FrameBatch.joined([pieces[place] for place in same])

    def _episode(self, episode: Episode, privileged: bool) -> FrameBatch:
        known = (f"{episode.path} {episode.attributes.get('checksum')}", privileged)
        if self._last is None or self._last[:2] != known:
            self._last = (*known, FrameBatch.read(episode, privileged))
        return self._last[2]


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The items in order; the next one is made in another thread while one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def _alike(pieces: Sequence[FrameBatch]) -> list[list[int]]:
    """Places of the pieces by picture size."""
    sizes: dict[tuple[int, ...], list[int]] = {}
    for place, piece in enumerate(pieces):
        sizes.setdefault(piece.rgb.shape[1:], []).append(place)
    return list(sizes.values())
