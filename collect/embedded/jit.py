"""Numba compilation of the embedded world's inner loops, cached on disk by a digest of all their sources."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

from semore.collect.embedded.kernel_cache import folder_for
from semore.datasets.rollouts import schema

Function = TypeVar("Function")


@cache
def _cache_folder() -> str:
    """Folder for machine code, keyed by every source of the world, since a kernel can draw on any: numba itself looks
    only at a function's own file and would go on running old code after a change in a function, tuple or constant it
    uses. Empty when there is no place for one."""
    here = Path(__file__).parent
    digest = hashlib.blake2b(Path(schema.__file__).read_bytes(), digest_size=8)
    for source in sorted(here.rglob("*.py")):
        digest.update(source.read_bytes())
    config: Any = numba.config
    return folder_for(f"numba-{digest.hexdigest()}", here / "__pycache__", config.CACHE_DIR)


def kernel(function: Function) -> Function:
    """`function` compiled on first call (numba nopython, GIL released, no zero-division checks, strict IEEE order)."""
    config: Any = numba.config
    folder, before = _cache_folder(), config.CACHE_DIR
    config.CACHE_DIR = folder
    try:
        compiled: Any = numba.njit(cache=bool(folder), nogil=True, error_model="numpy")(cast(Any, function))
    finally:
        config.CACHE_DIR = before
    return cast(Function, compiled)
