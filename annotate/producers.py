"""Producers by the names users type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from annotate.describe.privileged import PrivilegedDescriber
from annotate.judge import PrivilegedJudge
from annotate.seams import Describer, Judge, Producers, Segmenter
from annotate.segment.privileged import PrivilegedSegmenter
from datasets.errors import SemoreError

DESCRIBERS: Final[Mapping[str, Callable[[], Describer]]] = {"privileged": PrivilegedDescriber}
SEGMENTERS: Final[Mapping[str, Callable[[], Segmenter]]] = {"privileged": PrivilegedSegmenter}
JUDGES: Final[Mapping[str, Callable[[], Judge | None]]] = {"privileged": PrivilegedJudge, "none": lambda: None}


def make_producers(
    describer: str = "privileged", segmenter: str = "privileged", judge: str = "privileged"
) -> Producers:
    """The producers called so; SemoreError naming the choices otherwise."""
    for role, name, known in (
        ("describer", describer, DESCRIBERS),
        ("segmenter", segmenter, SEGMENTERS),
        ("judge", judge, JUDGES),
    ):
        _check(role, name, known)
    return Producers(DESCRIBERS[describer](), SEGMENTERS[segmenter](), JUDGES[judge]())


def _check(role: str, name: str, known: Mapping[str, object]) -> None:
    if name not in known:
        raise SemoreError(f"unknown {role} {name!r}; this version has: {', '.join(known)}")
