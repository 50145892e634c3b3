"""Numba compilation, cached on disk by a digest of all the sources a kernel may draw on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

from semore.collect.kernel_cache import folder_for

Function = TypeVar("Function")


def kernels(name: str, beside: Path, sources: Iterable[Path]) -> Callable[[Function], Function]:
    """A decorator that compiles on first call (numba nopython, GIL released, no zero-division checks, strict IEEE
    order). Its machine code lies in `folder(name, beside, sources)`."""
    kept = tuple(sources)

    def kernel(function: Function) -> Function:
        config: Any = numba.config
        place, before = folder(name, beside, kept), config.CACHE_DIR
        config.CACHE_DIR = place
        try:
            compiled: Any = numba.njit(cache=bool(place), nogil=True, error_model="numpy")(cast(Any, function))
        finally:
            config.CACHE_DIR = before
        return cast(Function, compiled)

    return kernel


def inlined(function: Function) -> Function:
    """For a function that kernels call, to become part of each caller's loops, so that these can be vectorized."""
    return cast(Function, numba.njit(forceinline=True)(cast(Any, function)))


@cache
def folder(name: str, beside: Path, sources: tuple[Path, ...]) -> str:
    """Folder for machine code, keyed by every source, since a kernel can draw on any: numba itself looks only at a
    function's own file and would go on running old code after a change in a function, tuple or constant it uses. Empty
    when there is no place for one."""
    digest = hashlib.blake2b(digest_size=8)
    for source in sources:
        digest.update(source.read_bytes())
    config: Any = numba.config
    return folder_for(f"{name}-{digest.hexdigest()}", beside / "__pycache__", config.CACHE_DIR)
