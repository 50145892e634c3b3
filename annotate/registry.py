"""The registry of producers by the names users type; a learned one is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Final

from semore.annotate.interfaces import Describer, Judge, Producers, Segmenter
from semore.annotate.oracle.describer import PrivilegedDescriber
from semore.annotate.oracle.judge import PrivilegedJudge
from semore.annotate.oracle.segmenter import PrivilegedSegmenter
from semore.annotate.settings import ProducerSettings
from semore.datasets.errors import SemoreError
from semore.extras import require

if TYPE_CHECKING:
    from semore.annotate.vlm.engine import VisionLanguage

ENGINES: Final = ("qwen2-vl", "endpoint")
"""Vision-language engines: each can describe and judge, and does both with the weights loaded once."""
DESCRIBERS: Final = ("privileged", *ENGINES)
JUDGES: Final = ("privileged", *ENGINES, "none")
PRIVILEGED: Final = ProducerSettings(segmenter="privileged")
"""Rules over the simulator's state all the way: exact, instant, and the truth that others are measured against."""


def make_producers(settings: ProducerSettings) -> Producers:
    """The producers that the settings name, without their weights (Producers.load); SemoreError with the choices for an
    unknown name."""
    check_names(settings)

    @cache
    def engine(name: str) -> VisionLanguage:
        return _engine(name, settings)

    return Producers(
        _describer(settings.describer, engine),
        SEGMENTERS[settings.segmenter](settings),
        _judge(settings.judge or settings.describer, engine),
    )


def check_names(settings: ProducerSettings) -> None:
    """SemoreError with the choices for a producer of an unknown name."""
    _check("describer", settings.describer, DESCRIBERS)
    _check("segmenter", settings.segmenter, SEGMENTERS)
    _check("judge", settings.judge or settings.describer, JUDGES)


def check_together(settings: ProducerSettings) -> None:
    """SemoreError for producers that cannot work for each other."""
    if settings.describer in ENGINES and settings.segmenter == "privileged":
        others = ", ".join(name for name in SEGMENTERS if name != "privileged")
        raise SemoreError(
            f"describer {settings.describer!r} writes phrases of its own, and the privileged segmenter finds only "
            f"those of the privileged describer; choose --segmenter {others}, or --describer privileged"
        )


def _engine(name: str, settings: ProducerSettings) -> VisionLanguage:
    require("annotate")
    if name == "endpoint":
        from semore.annotate.vlm.endpoint import Endpoint

        return Endpoint(settings.endpoint)
    from semore.annotate.vlm.qwen2_vl import Qwen2VL

    return Qwen2VL(settings.qwen)


def _describer(name: str, engine: Callable[[str], VisionLanguage]) -> Describer:
    if name == "privileged":
        return PrivilegedDescriber()
    from semore.annotate.vlm.describer import PromptedDescriber

    return PromptedDescriber(engine(name))


def _judge(name: str, engine: Callable[[str], VisionLanguage]) -> Judge | None:
    if name in ("privileged", "none"):
        return PrivilegedJudge() if name == "privileged" else None
    from semore.annotate.vlm.judge import PromptedJudge

    return PromptedJudge(engine(name))


def _cris(settings: ProducerSettings) -> Segmenter:
    require("annotate")
    from semore.annotate.segment.cris.segmenter import CrisSegmenter

    return CrisSegmenter(settings.cris)


def _cris_tiny(settings: ProducerSettings) -> Segmenter:
    from semore.annotate.segment.cris_tiny.segmenter import CrisTinySegmenter

    return CrisTinySegmenter(settings.cris_tiny)


def _clipseg(settings: ProducerSettings) -> Segmenter:
    require("annotate")
    from semore.annotate.segment.clipseg import ClipSegSegmenter

    return ClipSegSegmenter(settings.clipseg)


SEGMENTERS: Final[Mapping[str, Callable[[ProducerSettings], Segmenter]]] = {
    "privileged": lambda _: PrivilegedSegmenter(),
    "cris-tiny": _cris_tiny,
    "cris": _cris,
    "clipseg": _clipseg,
}


def _check(role: str, name: str, known: Mapping[str, object] | tuple[str, ...]) -> None:
    if name not in known:
        raise SemoreError(f"unknown {role} {name!r}; this version has: {', '.join(known)}")
