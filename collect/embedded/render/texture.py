"""One tile of cloud-like noise, drawn once: the grain of asphalt and grass, puddles, and clouds."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.embedded.jit import kernel

Singles = NDArray[np.float32]

TILE: Final = 128
_MASK: Final = TILE - 1
_BITS: Final = 7  # TILE = 2 ** _BITS
_ROUGHNESS: Final = 1.15  # power of 1/f: 0 is white noise, 2 is smooth
_SHIFT: Final = np.float32(65536.0)  # a multiple of TILE that keeps every coordinate positive


def _noise_tile() -> Singles:
    across, down = np.fft.rfftfreq(TILE), np.fft.fftfreq(TILE)
    frequency = np.hypot(across[None, :], down[:, None])
    frequency[0, 0] = 1.0
    white = np.fft.rfft2(np.random.default_rng(7).normal(size=(TILE, TILE)))
    pink = np.fft.irfft2(white / frequency**_ROUGHNESS, (TILE, TILE)).ravel()
    ranks = np.empty(TILE * TILE, np.float32)
    ranks[np.argsort(pink, kind="stable")] = np.linspace(0.0, 1.0, TILE * TILE, dtype=np.float32)
    return ranks


_TILE: Final = _noise_tile()
"""(TILE²,) float32, uniform in [0, 1] and periodic: 1/f noise from a fixed seed. Kernels hold it as a constant, so that
reading it never waits for a store."""


@kernel
def grain(x: np.float32, y: np.float32) -> np.float32:
    """The tile's cell at (x, y), in cells."""
    i, j = np.int32(x + _SHIFT) & _MASK, np.int32(y + _SHIFT) & _MASK
    value: np.float32 = _TILE[(j << _BITS) | i]
    return value


@kernel
def smooth_grain(x: np.float32, y: np.float32) -> np.float32:
    """The tile at (x, y), in cells, straight lines between its cells."""
    fx, fy = np.floor(x), np.floor(y)
    px, py = x - fx, y - fy
    i, j = np.int32(fx + _SHIFT), np.int32(fy + _SHIFT)
    i0, i1, j0, j1 = i & _MASK, (i + 1) & _MASK, (j & _MASK) << _BITS, ((j + 1) & _MASK) << _BITS
    top = _TILE[j0 | i0] + px * (_TILE[j0 | i1] - _TILE[j0 | i0])
    bottom = _TILE[j1 | i0] + px * (_TILE[j1 | i1] - _TILE[j1 | i0])
    value: np.float32 = top + py * (bottom - top)
    return value


@kernel
def cell(i: int, j: int) -> float:
    """The tile's cell (i, j) for whole numbers of any size."""
    return float(_TILE[((j & _MASK) << _BITS) | (i & _MASK)])


@kernel
def hash_cell(i: int, j: int) -> float:
    """A fixed pseudo-random number in [0, 1] for a cell of the plane."""
    n = (i * 374761393 + j * 668265263) & 0xFFFFFFFF
    n = ((n ^ (n >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((n ^ (n >> 16)) & 0xFFFF) / 65535.0
