"""Signatures of failure, by name: what went wrong when an audit looks like this, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from semore.annotate.audit.metrics import share

if TYPE_CHECKING:
    from semore.annotate.audit.measure import Audit

ENOUGH: Final = 20
"""Frames a check needs before it says anything."""
MISALIGNED_GAIN: Final = 0.1
"""IoU that moving, mirroring or transposing all masks alike must gain."""
EMPTY: Final = 0.5
"""Share of the frames with key objects in view and phrases named whose masks are all below the threshold."""
BRIGHT: Final = 0.3
"""H_ka's mean value or coverage from which on it is too bright, when it is also BRIGHT_RATIO times the truth's."""
BRIGHT_RATIO: Final = 3.0
CONSTANT: Final = 0.9
"""Share of the frames with phrases that have the same set of them."""
CONSTANT_EXCESS: Final = 0.1
"""By so much more often than the truth's own commonest set."""
NO_KNOWLEDGE: Final = 0.1
"""Share of the described frames that failed, gave no usable answer or miss a mask."""


class FailedCheck(NamedTuple):
    """A failure's name, what was seen, and what to do."""

    name: str
    seen: str
    advice: str


def failed_checks(audit: Audit) -> list[FailedCheck]:
    """The checks that an audit fails; none for healthy knowledge."""
    found = (_misaligned(audit), _empty(audit), _bright(audit), _constant(audit), _no_knowledge(audit))
    return [check for check in found if check is not None]


def too_few(audit: Audit) -> list[str]:
    """What there were too few frames of for the checks to say anything, with how many there were."""
    seen = {
        "frames": audit.frames,
        "frames with key objects": audit.shown,
        "frames with key objects and phrases": audit.shown_named,
    }
    return [f"{count:,} {what}" for what, count in seen.items() if count < ENOUGH]


def _misaligned(audit: Audit) -> FailedCheck | None:
    fit, iou = audit.alignment.best(), audit.overall.iou
    if audit.shown < ENOUGH or not fit.iou >= iou + MISALIGNED_GAIN:
        return None
    return FailedCheck(
        "masks misaligned",
        f"IoU would be {fit.iou:.2f} instead of {iou:.2f} if the masks were {fit.change}",
        "look at the segmenter's pre- and post-processing: letterbox, resize, (x, y) order, flips",
    )


def _empty(audit: Audit) -> FailedCheck | None:
    if audit.shown_named < ENOUGH or audit.empty_named <= EMPTY * audit.shown_named:
        return None
    return FailedCheck(
        "masks empty",
        f"in {audit.empty_named:,} of {audit.shown_named:,} frames with key objects and phrases nothing reaches the "
        f"threshold {audit.threshold:g}; the masks' mean peak is {audit.peak:.2f}",
        "check the segmenter's weights; if the peak is just below, audit with a lower --threshold (CRIS's own: 0.35)",
    )


def _bright(audit: Audit) -> FailedCheck | None:
    bright, truth = max(audit.brightness, audit.overall.coverage), audit.overall.truth_coverage
    if audit.overall.frames < ENOUGH or not (bright >= BRIGHT and bright >= BRIGHT_RATIO * truth):
        return None
    return FailedCheck(
        "everything bright",
        f"H_ka covers {audit.overall.coverage:.0%} of the picture, mean value {audit.brightness:.2f}, while key "
        f"objects cover {truth:.1%}",
        "look at the phrases (road and buildings are no key objects) and at the segmenter's sigmoid and scaling",
    )


def _constant(audit: Audit) -> FailedCheck | None:
    ((phrases, count),) = audit.phrase_sets.most_common(1) or [((), 0)]
    frames = audit.phrase_sets.total()
    truth = max(audit.truth_sets.values(), default=0)
    often, natural = share(count, frames), share(truth, audit.truth_sets.total())
    if frames < ENOUGH or not (often >= CONSTANT and often >= natural + CONSTANT_EXCESS):
        return None
    return FailedCheck(
        "phrases constant",
        f"{often:.0%} of the frames are described by the same phrases ({', '.join(phrases)}); the truth's commonest "
        f"set stands on {natural:.0%}",
        "check that the describer sees the picture (image tokens, upscaling), and that the prompt holds no answer",
    )


def _no_knowledge(audit: Audit) -> FailedCheck | None:
    if audit.frames < ENOUGH or audit.without <= NO_KNOWLEDGE * audit.frames:
        return None
    common = "; ".join(f"{count:,} x {reason}" for reason, count in audit.reasons.most_common(2))
    return FailedCheck(
        "no knowledge",
        f"{audit.without:,} of {audit.frames:,} frames are of no use to training: {common}",
        "mend the cause, then annotate again: what failed is asked again",
    )
