"""The scores of CRIS-tiny as tables by phrase, size, distance, weather and scenario, and its model card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.annotate.oracle.rules import PHRASES
from semore.annotate.segment.cris_tiny.evaluation import Scores
from semore.annotate.segment.cris_tiny.scenes import CELLS
from semore.collect.scenarios import SCENARIOS, WEATHERS
from semore.datasets.atomic_io import write_text
from semore.datasets.errors import SemoreError

CLEAN: Final = 4
"""An absent object's mask is clean with fewer pixels found than this."""
LARGE: Final = 20
"""Pixels of the truth from which an object is no longer called small."""
CARD: Final = Path(__file__).with_name("MODEL_CARD.md")
_BANDS: Final = (0, 10, 20, 40, 60, 100)  # m to the nearest of the actors meant
_SIZES: Final = (4, 10, 20, 50, 200, 1 << 14)  # pixels
_BEGIN: Final = "<!-- tables: written by --evaluate_only -->"
_END: Final = "<!-- end of tables -->"

Rows = NDArray[np.bool_]


def groups(scores: Scores) -> dict[str, Rows]:
    """The columns of the tables."""
    cyclists, pedestrians = scores.of("cyclist"), scores.of("pedestrian")
    return {
        "all": np.ones(len(scores.iou), bool),
        "vehicles": ~cyclists & ~pedestrians,
        "cyclists": cyclists,
        "pedestrians": pedestrians,
    }


def mean_iou(scores: Scores, rows: Rows) -> str:
    """Mean IoU over the phrases of `rows` that name something in view, with their number."""
    chosen = scores.iou[rows & scores.present]
    return f"{chosen.mean():.2f} ({len(chosen)})" if len(chosen) else "–"


def clean_share(scores: Scores, rows: Rows) -> float:
    """Fraction of the phrases of `rows` that name nothing in view and whose mask is clean."""
    absent = rows & ~scores.present
    return float((scores.found[absent] < CLEAN).mean()) if absent.any() else float("nan")


def headline(scores: Scores) -> dict[str, float]:
    """The main figures, by name."""
    rows = groups(scores)
    large = scores.present & (scores.truth >= LARGE)

    def mean(chosen: Rows) -> float:
        return float(scores.iou[chosen & scores.present].mean()) if (chosen & scores.present).any() else float("nan")

    return {
        "mean IoU, all phrases": mean(rows["all"]),
        "mean IoU, vehicles": mean(rows["vehicles"]),
        "mean IoU, vehicles and cyclists": mean(rows["vehicles"] | rows["cyclists"]),
        "mean IoU, cyclists": mean(rows["cyclists"]),
        "mean IoU, pedestrians": mean(rows["pedestrians"]),
        f"mean IoU, all phrases of ≥ {LARGE} pixels": mean(large),
        f"mean IoU, vehicles of ≥ {LARGE} pixels": mean(large & rows["vehicles"]),
        f"mean IoU, cyclists of ≥ {LARGE} pixels": mean(large & rows["cyclists"]),
        f"mean IoU, pedestrians of ≥ {LARGE} pixels": mean(large & rows["pedestrians"]),
        "IoU ≥ 0.5, all phrases": float((scores.iou[scores.present] >= 0.5).mean()),
        "absent objects clean": clean_share(scores, rows["all"]),
        "absent objects clean, nobody of that noun named": clean_share(scores, ~scores.noun),
        "absent objects clean, the noun named in another relation": clean_share(scores, scores.noun),
    }


def tables(scores: Scores) -> str:
    """All tables as Markdown."""
    rows = groups(scores)
    names = [scenario for scenario, _ in CELLS]
    weathers = [weather for _, weather in CELLS]
    parts = [
        _table(("figure", "value"), [(name, f"{value:.3f}") for name, value in headline(scores).items()]),
        "Mean IoU (number of frame-phrase pairs) by distance to the nearest of the actors meant:",
        _crossed(scores, "metres", _banded(scores.distance, _BANDS)),
        "By pixels of the truth:",
        _crossed(scores, "pixels", _banded(scores.truth, _SIZES)),
        "By weather and scenario:",
        _table(
            ("weather", *SCENARIOS, *rows),
            [
                (
                    weather,
                    *(mean_iou(scores, _where(weathers, weather, scores) & _where(names, name, scores))
                      for name in SCENARIOS),
                    *(mean_iou(scores, _where(weathers, weather, scores) & row) for row in rows.values()),
                )
                for weather in WEATHERS
            ],
        ),
        "By distance and weather, all phrases:",
        _table(
            ("metres", *WEATHERS),
            [
                (label, *(mean_iou(scores, band & _where(weathers, weather, scores)) for weather in WEATHERS))
                for label, band in _banded(scores.distance, _BANDS)
            ],
        ),
        "By phrase; clean: of the frames that hold nothing it names:",
        _table(
            ("phrase", "mean IoU", f"of ≥ {LARGE} pixels", "clean"),
            [
                (
                    phrase,
                    mean_iou(scores, scores.phrase == code),
                    mean_iou(scores, (scores.phrase == code) & (scores.truth >= LARGE)),
                    f"{clean_share(scores, scores.phrase == code):.3f}",
                )
                for code, phrase in enumerate(PHRASES)
                if (scores.present & (scores.phrase == code)).any()
            ],
        ),
    ]  # fmt: skip
    return "\n\n".join(parts)


def write_tables(text: str, card: Path = CARD) -> None:
    """Write the tables into the model card, between its two marks."""
    whole = card.read_text(encoding="utf-8")
    before, begin, rest = whole.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise SemoreError(f"{card} lacks the lines {_BEGIN!r} and {_END!r} between which the tables belong")
    write_text(card, f"{before}{begin}\n\n{text}\n\n{end}{after}")


def _where(names: Sequence[str], name: str, scores: Scores) -> Rows:
    return np.array([known == name for known in names])[scores.cell]


def _banded(values: NDArray[np.float64] | NDArray[np.int64], edges: Sequence[int]) -> Iterator[tuple[str, Rows]]:
    for low, high in pairwise(edges):
        yield f"{low} … {high}", (values >= low) & (values < high)


def _crossed(scores: Scores, name: str, bands: Iterator[tuple[str, Rows]]) -> str:
    columns = groups(scores)
    lines = [(label, *(mean_iou(scores, band & column) for column in columns.values())) for label, band in bands]
    return _table((name, *columns), lines)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines))
