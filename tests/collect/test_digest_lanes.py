"""Digests in vector lanes are those of hashlib, for every length and however the bytes lie in pieces."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from semore.collect import digests as module
from semore.collect.digest_lanes import LANES, digests, rows, whole
from semore.collect.digests import digested
from semore.datasets.rollouts.store import checksum, row_digests


def random_bytes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape).astype(np.uint8)


def plain(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


@pytest.mark.parametrize("count", [1, LANES, 3 * LANES + 1])
def test_every_length_and_number(count):
    rng = np.random.default_rng(count)
    for lengths in ([0, 1, 7, 8, 127, 128, 129], [255, 256, 257, 1000], [5000, 3, 128]):
        arrays = [random_bytes(rng, lengths[n % len(lengths)]) for n in range(count)]
        found = digests(*map(whole, arrays))
        assert [row.tobytes() for row in found] == [plain(array.tobytes()) for array in arrays]


def test_rows_of_several_arrays_and_what_is_put_behind_them():
    rng = np.random.default_rng(0)
    for widths in ((68, 0, 300), (128, 128), (1, 2, 3), (0, 0), (131, 5000)):
        arrays, end = [random_bytes(rng, 9, width) for width in widths], random_bytes(rng, 17)
        found = digests(rows(*arrays, end=end))
        expected = [plain(b"".join(each[row].tobytes() for each in (*arrays,)) + end.tobytes()) for row in range(9)]
        assert [row.tobytes() for row in found] == expected


def test_an_episode_s_digests_are_the_same_in_lanes_and_one_after_another(monkeypatch):
    rng = np.random.default_rng(1)
    arrays = {
        "rgb": random_bytes(rng, 7, 24, 24, 3),
        "semantic": random_bytes(rng, 7, 24, 24),
        "instance": rng.integers(0, 9, (7, 24, 24)).astype(np.uint16),
        "actors": np.zeros((7, 0, 14), np.float32),
        "ego": rng.random((7, 17)).astype(np.float32),
        "reward": rng.random(6).astype(np.float32),
    }
    made = []
    for few in (10**9, 0):
        monkeypatch.setattr(module, "FEW_BYTES", few)
        made.append(digested(arrays))
        assert np.array_equal(row_digests(arrays["rgb"]), made[-1]["digest"])
        assert checksum(made[-1]) == checksum(dict(made[-1]))
    slow, fast = made
    assert not slow.known
    assert set(fast.known) == {"rgb", "semantic", "instance"}
    assert list(slow) == list(fast)
    for name, array in slow.items():
        assert np.array_equal(array, fast[name]), name
    assert checksum(slow) == checksum(fast)
    assert slow["digest"][3].tobytes() == plain(arrays["rgb"][3].tobytes() + b"[((24, 24, 3), 'uint8')]")
