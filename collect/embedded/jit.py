"""Numba compilation of the embedded world's inner loops, cached on disk by a digest of all their sources."""

from __future__ import annotations

from pathlib import Path

from semore.collect.kernels import folder, kernels
from semore.datasets.rollouts import schema

_HERE = Path(__file__).parent
_SOURCES = (Path(schema.__file__), *sorted(_HERE.rglob("*.py")))

kernel = kernels("numba", _HERE, _SOURCES)
"""The decorator of every loop of this world."""


def cache_folder() -> str:
    """Where its machine code lies; "" when there is no place."""
    return folder("numba", _HERE, _SOURCES)
