"""An audit as tables to read and as JSON to keep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from semore.annotate.audit.failure_checks import ENOUGH, FailedCheck, failed_checks, too_few
from semore.annotate.audit.measure import Audit
from semore.annotate.audit.metrics import Actors, Overlap, Phrases
from semore.annotate.audit.truth import CLASSES, OTHER

SHOWN_PHRASES: Final = 10
SHOWN_REASONS: Final = 3
FORMAT: Final = {"format": "semore-audit", "version": 1}


def show(audit: Audit, console: Console) -> None:
    """Print the tables, and the warnings last."""
    console.print(tables(audit), highlight=False)


def tables(audit: Audit) -> Group:
    """All that an audit says, as people read it."""
    parts: list[RenderableType] = [
        _overlaps(audit), _classes(audit), _distances(audit), _rates(audit), _phrases(audit), *_warnings(audit),
    ]  # fmt: skip
    return Group(*parts)


def to_json(audit: Audit) -> dict[str, Any]:
    """All tables as plain values, ratios in [0, 1], null where there was nothing to count."""
    change = audit.change
    return {
        **FORMAT,
        "knowledge": audit.knowledge,
        "threshold": audit.threshold,
        "texts": dict(audit.texts),
        "sample": {"frames": audit.frames, "without_knowledge": audit.without, "reasons": dict(audit.reasons)},
        "overall": {
            **_overlap_json(audit.overall),
            "frame_iou": _plain(audit.frame_iou),
            "brightness": _plain(audit.brightness),
            "empty_rate": _plain(audit.empty_rate),
            "false_alarm_rate": _plain(audit.alarm_rate),
        },
        "weathers": {name: _overlap_json(overlap) for name, overlap in sorted(audit.weathers.items())},
        "classes": {
            name: {
                **(_actors_json(audit.classes[name]) if name in CLASSES else {}),
                **_phrases_json(audit.phrases_of_class(name)),
            }
            for name in (*CLASSES, OTHER)
        },
        "distances": {band: _actors_json(actors) for band, actors in audit.distances.items()},
        "change": {
            "pairs": change.pairs,
            "mask": _plain(change.of_mask),
            "truth": _plain(change.of_truth),
            "flicker": _plain(change.flicker),
            "blink_rate": _plain(audit.blink_rate),
        },
        "phrases": {phrase: _phrases_json(tally) for phrase, tally in _by_use(audit.phrases)},
        "warnings": [check._asdict() for check in failed_checks(audit)],
    }


def _overlaps(audit: Audit) -> Table:
    table = Table(
        "weather", "frames", "IoU", "precision", "recall", "coverage", "truth's",
        title=f"H_ka of “{audit.knowledge}” against the truth, pixels above {audit.threshold:g}",
    )  # fmt: skip
    rows = sorted(audit.weathers.items())
    for name, overlap in [*rows, ("all", audit.overall)] if len(rows) > 1 else rows:
        ratios = (overlap.iou, overlap.precision, overlap.recall)
        shares = (_percent(overlap.coverage), _percent(overlap.truth_coverage))
        table.add_row(name, f"{overlap.frames:,}", *map(_ratio, ratios), *shares)
    return table


def _classes(audit: Audit) -> Table:
    table = Table(
        "class", "actors", "named", "found", "pixels", "phrases", "lit", "precision",
        caption="key actors named by a phrase of their frame; found: half of their pixels or more in H_ka; share of "
        "their pixels in H_ka. Phrases naming the class; lit up anything; share of that on key actors of the class",
    )  # fmt: skip
    for name in (*CLASSES, OTHER):
        own, said = audit.classes.get(name, Actors()), audit.phrases_of_class(name)
        if own.actors or said.said:
            table.add_row(name, *_actors(own), f"{said.said:,}", _percent(said.lighting), _ratio(said.precision))
    return table


def _distances(audit: Audit) -> Table:
    table = Table("distance", "actors", "named", "found", "pixels")
    for band, actors in audit.distances.items():
        table.add_row(band, *_actors(actors))
    return table


def _rates(audit: Audit) -> Table:
    texts, change = audit.texts, audit.change
    described = texts.total() - texts["missing"]
    table = Table("over the frames", "", show_header=False)
    rows = (
        ("described", f"{described:,} of {texts.total():,} frames"),
        ("texts", f"{texts['ok']:,} ok, {texts['empty']:,} empty, {texts['failed']:,} failed"),
        ("without knowledge", f"{_percent(audit.without_rate)} of {audit.frames:,} sampled"),
        *((f"  {count:,} x", reason) for reason, count in audit.reasons.most_common(SHOWN_REASONS)),
        ("mean IoU of a frame", _ratio(audit.frame_iou)),
        ("empty mask", f"{_percent(audit.empty_rate)} of {audit.shown:,} with key objects in view"),
        ("false alarm", f"{_percent(audit.alarm_rate)} of {audit.absent:,} without any in view"),
        ("H_ka changes by", f"{_percent(change.of_mask)} between {change.pairs:,} pairs of neighbouring frames"),
        ("the truth by", f"{_percent(change.of_truth)}; flicker, the difference: {_percent(change.flicker)}"),
        ("actors that blink", f"{_percent(audit.blink_rate)} of {audit.staying:,} in view in both of a pair"),
    )
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _phrases(audit: Audit) -> Table:
    table = Table("phrase", "said", "lit", "precision", title=f"{len(audit.phrases):,} phrases; the commonest")
    ordered = _by_use(audit.phrases)
    unlit = [(phrase, tally) for phrase, tally in ordered if not tally.lit]
    for phrase, tally in ordered[:SHOWN_PHRASES]:
        table.add_row(Text(phrase), f"{tally.said:,}", _percent(tally.lighting), _ratio(tally.precision))
    if unlit:
        table.add_section()
        table.add_row(f"{len(unlit):,} never found anything, e.g.")
        for phrase, tally in unlit[:SHOWN_PHRASES]:
            table.add_row(Text(f"  {phrase}"), f"{tally.said:,}")
    return table


def _warnings(audit: Audit) -> list[Text]:
    found = failed_checks(audit)
    if few := too_few(audit):
        text = f"too few frames to tell whether anything is broken: {', '.join(few)}; each check needs {ENOUGH}"
        return [*map(_warning, found), Text(text, style="bold")]
    return [*map(_warning, found)] or [Text("no failure signature: nothing looks broken", style="green")]


def _warning(check: FailedCheck) -> Text:
    return Text.assemble((f"warning: {check.name}", "bold red"), f": {check.seen}. What to do: {check.advice}.")


def _actors(actors: Actors) -> tuple[str, ...]:
    found = (_percent(actors.naming), _percent(actors.object_recall), _ratio(actors.recall))
    return (f"{actors.actors:,}", *found) if actors.actors else ("–",) * 4


def _by_use(phrases: Mapping[str, Phrases]) -> list[tuple[str, Phrases]]:
    return sorted(phrases.items(), key=lambda item: (-item[1].said, item[0]))


def _overlap_json(overlap: Overlap) -> dict[str, Any]:
    ratios = ("iou", "precision", "recall", "coverage", "truth_coverage")
    return {"frames": overlap.frames, **{name: _plain(getattr(overlap, name)) for name in ratios}}


def _actors_json(actors: Actors) -> dict[str, Any]:
    ratios = ("naming", "object_recall", "recall")
    return {"actors": actors.actors, **{name: _plain(getattr(actors, name)) for name in ratios}}


def _phrases_json(phrases: Phrases) -> dict[str, Any]:
    return {"said": phrases.said, "lit": phrases.lit, "precision": _plain(phrases.precision)}


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def _ratio(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}%"
