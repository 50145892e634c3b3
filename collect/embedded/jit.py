"""Compiles the world's inner loops with numba, cached on disk in a folder named after all their sources."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

from datasets import schema

Function = TypeVar("Function")


@cache
def _cache_folder() -> str:
    """Folder for machine code, keyed by every source of the world, since a kernel can draw on any: numba itself looks
    only at a function's own file and would go on running old code after a change in a function, tuple or constant it
    uses."""
    here = Path(__file__).parent
    digest = hashlib.blake2b(Path(schema.__file__).read_bytes(), digest_size=8)
    for source in sorted(here.glob("*.py")):
        digest.update(source.read_bytes())
    return str(here / "__pycache__" / f"numba-{digest.hexdigest()}")


def kernel(function: Function) -> Function:
    """`function` compiled on first call (numba nopython, GIL released, no zero-division checks, strict IEEE order)."""
    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = _cache_folder()
    try:
        compiled: Any = numba.njit(cache=True, nogil=True, error_model="numpy")(cast(Any, function))
    finally:
        config.CACHE_DIR = before
    return cast(Function, compiled)
