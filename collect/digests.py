"""The digests of a recorded episode: of every frame and state, and of the large arrays whole, in one pass."""

from __future__ import annotations

from typing import Final

import numpy as np

from semore.datasets.rollouts.store import Arrays, Digested, row_digests, row_end

FEW_BYTES: Final = 4_000_000
"""Below, it takes longer to load compiled code than to digest one after another."""


def digested(arrays: Arrays) -> Digested:
    """The arrays together with those of their frames' and states' digests."""
    rgb, *state = (np.ascontiguousarray(arrays[name]) for name in ("rgb", "ego", "actors", "semantic", "instance"))
    if sum(array.nbytes for array in (rgb, *state)) < FEW_BYTES:
        return Digested({**arrays, "digest": row_digests(rgb), "state_digest": row_digests(*state)}, {})
    from semore.collect.digest_lanes import digests, rows, whole  # with numba

    ends = [np.frombuffer(end, np.uint8) for end in (row_end(rgb), row_end(*state))]
    large = {"rgb": rgb, "semantic": state[2], "instance": state[3]}
    found = digests(rows(rgb, end=ends[0]), rows(*state, end=ends[1]), *map(whole, large.values()))
    frames, states, others = np.split(found, [len(rgb), 2 * len(rgb)])
    known = {name: row.tobytes() for name, row in zip(large, others, strict=True)}
    return Digested({**arrays, "digest": frames, "state_digest": states}, known)
