"""BLAKE2b-128 of many byte strings at once, side by side in the processor's vector lanes: three times as fast as one
after another, on one thread.

A digest is a chain, each block waiting for the one before; four chains that have nothing to do with one another fill
the same instructions. The digests are those of hashlib. The interpreter lock is released meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from llvmlite import ir
from numba import types, uint64
from numba.extending import intrinsic
from numpy.typing import NDArray

from semore.collect.kernels import inlined, kernels

Words = NDArray[np.uint64]
Table = NDArray[np.int64]
"""(M, P, 2): for each of M byte strings the addresses and lengths of up to P pieces it consists of."""
Mix = tuple[Any, Any, Any, Any]

kernel = kernels("digests", Path(__file__).parent, [Path(__file__)])

LANES: Final = 4
"""An episode's longest chain, the colours of all its frames, is a quarter of all that is digested of it."""
_BLOCK: Final = 128
_STATE, _MESSAGE, _COUNT, _LAST = 0, 8 * LANES, 24 * LANES, 25 * LANES  # places in a flat room, a row of lanes each
_IV: Final = tuple(
    np.uint64(word)
    for word in (
        0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
        0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
    )
)  # fmt: skip
_PARAMETERS: Final = np.uint64(0x01010000 ^ 16)  # no key, one leaf, 16 bytes of digest
_ALL: Final = np.uint64(2**64 - 1)
_ORDER: Final = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
    (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
    (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
    (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
    (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
)
"""RFC 7693's: in which order each round takes the words of a block."""


def rows(*arrays: NDArray[Any], end: NDArray[np.uint8]) -> Table:
    """A byte string for each row: its bytes in every one of the contiguous `arrays`, then those of `end`."""
    table = np.empty((len(arrays[0]), len(arrays) + 1, 2), np.int64)
    for place, array in enumerate(arrays):
        table[:, place, 0] = array.ctypes.data + array.strides[0] * np.arange(len(array))
        table[:, place, 1] = array.nbytes // max(len(array), 1)
    table[:, -1] = end.ctypes.data, end.nbytes
    return table


def whole(array: NDArray[Any]) -> Table:
    """The contiguous array's bytes."""
    return np.array([[[array.ctypes.data, array.nbytes]]])


def digests(*tables: Table) -> NDArray[np.uint8]:
    """(M, 16): the digest of each byte string, in order. The arrays of which the tables were made must be alive still:
    they are read where they lie."""
    most = max(table.shape[1] for table in tables)
    together = np.concatenate([np.pad(table, ((0, 0), (0, most - table.shape[1]), (0, 0))) for table in tables])
    order = np.argsort(-together[:, :, 1].sum(axis=1), kind="stable")  # the longest first: no lane is late with one
    found = np.empty((len(together), 16), np.uint8)
    found[order] = _digest(together[order], LANES).view(np.uint8)
    return found


@kernel
def _digest(table: Table, lanes: int) -> Words:
    """(M, 2) words. `lanes` is LANES, told while running: loops over a known number are unrolled, not vectorized."""
    room = np.zeros(26 * LANES, np.uint64)
    mine, piece, at, left = np.full((4, lanes), -1, np.int64)
    found = np.empty((table.shape[0], 2), np.uint64)
    following, done = 0, 0
    while done < table.shape[0]:
        for lane in range(lanes):
            if mine[lane] < 0 and following < table.shape[0]:
                mine[lane], piece[lane], at[lane] = following, 0, 0
                left[lane] = table[following, :, 1].sum()
                for row in range(8):
                    room[row * LANES + lane] = _IV[row]
                room[lane] ^= _PARAMETERS
                room[_COUNT + lane] = uint64(0)
                following += 1
            if mine[lane] >= 0:
                taken = _fetch(table[mine[lane]], piece, at, left[lane], lane, room)
                left[lane] -= taken
                room[_COUNT + lane] += uint64(taken)
                room[_LAST + lane] = _ALL if left[lane] == 0 else uint64(0)
        for lane in range(lanes):
            _compress(room, lane)
        for lane in range(lanes):
            if mine[lane] >= 0 and left[lane] == 0:
                found[mine[lane], 0], found[mine[lane], 1] = room[lane], room[LANES + lane]
                mine[lane] = -1
                done += 1
    return found


@inlined
def _fetch(pieces: Table, piece: Table, at: Table, left: int, lane: int, room: Words) -> int:
    """Put a lane's next block into the room, zeros behind its end; how many bytes it has."""
    if at[lane] + _BLOCK <= pieces[piece[lane], 1]:
        start = pieces[piece[lane], 0] + at[lane]
        for word in range(16):
            room[_MESSAGE + word * LANES + lane] = _word_at(start + 8 * word)
        at[lane] += _BLOCK
        return _BLOCK
    count = int(min(_BLOCK, left))
    for word in range(16):
        room[_MESSAGE + word * LANES + lane] = uint64(0)
    for place in range(count):
        while at[lane] == pieces[piece[lane], 1]:
            piece[lane] += 1
            at[lane] = 0
        byte = _byte_at(pieces[piece[lane], 0] + at[lane])
        room[_MESSAGE + (place >> 3) * LANES + lane] |= uint64(byte) << uint64(8 * (place & 7))
        at[lane] += 1
    return count


@inlined
def _compress(room: Words, lane: int) -> None:
    """Take a lane's block into its state."""
    h = (
        room[lane], room[LANES + lane], room[2 * LANES + lane], room[3 * LANES + lane],
        room[4 * LANES + lane], room[5 * LANES + lane], room[6 * LANES + lane], room[7 * LANES + lane],
    )  # fmt: skip
    b = _MESSAGE + lane
    m = (
        room[b], room[b + LANES], room[b + 2 * LANES], room[b + 3 * LANES],
        room[b + 4 * LANES], room[b + 5 * LANES], room[b + 6 * LANES], room[b + 7 * LANES],
        room[b + 8 * LANES], room[b + 9 * LANES], room[b + 10 * LANES], room[b + 11 * LANES],
        room[b + 12 * LANES], room[b + 13 * LANES], room[b + 14 * LANES], room[b + 15 * LANES],
    )  # fmt: skip
    tail = (_IV[4] ^ room[_COUNT + lane], _IV[5], _IV[6] ^ room[_LAST + lane], _IV[7])
    v = h + (_IV[0], _IV[1], _IV[2], _IV[3]) + tail  # noqa: RUF005  (numba cannot unpack)
    v = _round(v, m, _ORDER[0])
    v = _round(v, m, _ORDER[1])
    v = _round(v, m, _ORDER[2])
    v = _round(v, m, _ORDER[3])
    v = _round(v, m, _ORDER[4])
    v = _round(v, m, _ORDER[5])
    v = _round(v, m, _ORDER[6])
    v = _round(v, m, _ORDER[7])
    v = _round(v, m, _ORDER[8])
    v = _round(v, m, _ORDER[9])
    v = _round(v, m, _ORDER[0])
    v = _round(v, m, _ORDER[1])
    room[lane], room[LANES + lane] = h[0] ^ v[0] ^ v[8], h[1] ^ v[1] ^ v[9]
    room[2 * LANES + lane], room[3 * LANES + lane] = h[2] ^ v[2] ^ v[10], h[3] ^ v[3] ^ v[11]
    room[4 * LANES + lane], room[5 * LANES + lane] = h[4] ^ v[4] ^ v[12], h[5] ^ v[5] ^ v[13]
    room[6 * LANES + lane], room[7 * LANES + lane] = h[6] ^ v[6] ^ v[14], h[7] ^ v[7] ^ v[15]


@inlined
def _round(v: Any, m: Any, s: Any) -> Any:
    v0, v4, v8, v12 = _mix(v[0], v[4], v[8], v[12], m[s[0]], m[s[1]])
    v1, v5, v9, v13 = _mix(v[1], v[5], v[9], v[13], m[s[2]], m[s[3]])
    v2, v6, v10, v14 = _mix(v[2], v[6], v[10], v[14], m[s[4]], m[s[5]])
    v3, v7, v11, v15 = _mix(v[3], v[7], v[11], v[15], m[s[6]], m[s[7]])
    v0, v5, v10, v15 = _mix(v0, v5, v10, v15, m[s[8]], m[s[9]])
    v1, v6, v11, v12 = _mix(v1, v6, v11, v12, m[s[10]], m[s[11]])
    v2, v7, v8, v13 = _mix(v2, v7, v8, v13, m[s[12]], m[s[13]])
    v3, v4, v9, v14 = _mix(v3, v4, v9, v14, m[s[14]], m[s[15]])
    return v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14, v15


@inlined
def _mix(a: Any, b: Any, c: Any, d: Any, x: Any, y: Any) -> Mix:
    a = a + b + x
    d = d ^ a
    d = (d >> uint64(32)) | (d << uint64(32))
    c = c + d
    b = b ^ c
    b = (b >> uint64(24)) | (b << uint64(40))
    a = a + b + y
    d = d ^ a
    d = (d >> uint64(16)) | (d << uint64(48))
    c = c + d
    b = b ^ c
    b = (b >> uint64(63)) | (b << uint64(1))
    return a, b, c, d


def _load(bits: int, result: Any) -> Any:
    """An intrinsic that reads `bits` at an address, aligned or not. Arrays of arrays would cost two atomic operations a
    block for counting who holds them."""

    def read(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer()), align=1)

    def typed(context: Any, address: Any) -> Any:
        return result(types.int64), read

    return cast(Any, intrinsic)(typed)


_byte_at: Any = _load(8, types.uint8)
_word_at: Any = _load(64, types.uint64)
