"""Small charts as inline SVG: text stays text, and colours are the page's CSS variables, which follow its theme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from semore.evaluate.report.figures import number

WIDTH: Final = 520
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 24, 38
ROW: Final = 48
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """A line of (N, 2) points; `style` is a CSS class (thin, bold, dashed), `colour` a CSS class too (c0, c1, … or
    ink)."""

    label: str
    points: Points
    colour: str
    style: str = "bold"


@dataclass(frozen=True)
class Dots:
    """A row of an interval chart: every episode, their mean and its interval."""

    label: str
    note: str
    values: Points
    mean: float
    low: float
    high: float
    colour: str


@dataclass(frozen=True)
class Scale:
    """Data to pixels along one axis."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)

    def ticks(self, most: int = 5) -> list[float]:
        places = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        return [float(place) for place in places if self.low - 1e-9 <= place <= self.high + 1e-9]


def curves(name: str, title: str, series: Sequence[Series], x: str, y: str, height: int = 300) -> Markup:
    """Lines over a shared x axis, each bold one labelled at its end; empty Markup when there is nothing to draw."""
    drawn = [one for one in series if len(one.points)]
    if not drawn:
        return Markup("")
    every = np.concatenate([one.points for one in drawn])
    every = every[np.isfinite(every).all(1)]
    across, up = _scales(every, height)
    parts = _grid(across, up, x, y, height)
    for one in drawn:
        path = " ".join(f"{across(px)},{up(py)}" for px, py in one.points if np.isfinite(py))
        parts.append(Markup('<polyline class="line {} {}" points="{}"/>').format(one.style, one.colour, path))
        if one.style == "bold":
            end = one.points[-1]
            parts.append(
                Markup('<circle class="dot {}" cx="{}" cy="{}" r="4"/>').format(one.colour, across(end[0]), up(end[1]))
            )
    return _svg(name, title, _about(drawn), parts, height)


def areas(name: str, title: str, series: Sequence[Series], x: str, y: str, height: int = 240) -> Markup:
    """Shares stacked from 0 to 1, the first at the bottom; all series have the same x."""
    if not series or not len(series[0].points):
        return Markup("")
    xs = series[0].points[:, 0]
    across = Scale(xs.min(), max(xs.max(), xs.min() + 1), LEFT, WIDTH - RIGHT)
    up = Scale(0.0, 1.0, height - BOTTOM, TOP)
    parts = _grid(across, up, x, y, height)
    below = np.zeros(len(xs))
    for one in series:
        above = below + np.interp(xs, one.points[:, 0], one.points[:, 1])
        edge = [*zip(xs, above, strict=True), *reversed(list(zip(xs, below, strict=True)))]
        path = " ".join(f"{across(px)},{up(py)}" for px, py in edge)
        parts.append(Markup('<polygon class="area {}" points="{}"/>').format(one.colour, path))
        below = above
    return _svg(name, title, _about(series), parts, height)


def intervals(name: str, title: str, rows: Sequence[Dots], x: str, zero: bool = False) -> Markup:
    """A row each: label, every episode as a faint dot, the mean with its interval on top."""
    if not rows:
        return Markup("")
    low, high = _range(np.concatenate([np.append(row.values, (row.low, row.high)) for row in rows]), zero)
    height = len(rows) * ROW + TOP + BOTTOM
    across = Scale(low, high, 14, WIDTH - RIGHT)
    parts = []
    for tick in across.ticks(6):
        kind = "zero" if tick == 0 and zero else "grid"
        parts.append(_line(kind, across(tick), TOP, across(tick), height - BOTTOM))
        parts.append(_text("tick", across(tick), height - BOTTOM + 16, number(tick), "middle"))
    parts.append(_text("axis", WIDTH - RIGHT, height - 4, x, "end"))
    jitter = np.random.default_rng(0)
    for place, row in enumerate(rows):
        y = TOP + place * ROW + 28
        parts.append(_text("row", 14, y - 14, row.label))
        parts.append(_text("note", WIDTH - RIGHT, y - 14, row.note, "end"))
        dots = [
            Markup('<circle cx="{}" cy="{}" r="2.4"/>').format(across(value), round(y + offset, 1))
            for value, offset in zip(row.values, jitter.uniform(-6, 6, len(row.values)), strict=True)
        ]
        parts.append(Markup('<g class="cloud {}">{}</g>').format(row.colour, Markup("").join(dots)))
        parts.append(_line(f"whisker {row.colour}", across(row.low), y, across(row.high), y))
        parts.append(Markup('<circle class="mean {}" cx="{}" cy="{}" r="5"/>').format(row.colour, across(row.mean), y))
    told = "; ".join(f"{row.label}: {number(row.mean)}, {number(row.low)} to {number(row.high)}" for row in rows)
    return _svg(name, title, told, parts, height)


def _about(series: Sequence[Series]) -> str:
    bold = [one for one in series if one.style != "thin"]
    return "; ".join(f"{one.label}: from {number(one.points[0, 1])} to {number(one.points[-1, 1])}" for one in bold)


def _range(values: Points, zero: bool) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    margin = 0.04 * (high - low) or 1.0
    return low - margin, high + margin


def _scales(points: Points, height: int) -> tuple[Scale, Scale]:
    low, high = _range(points[:, 1], zero=False)
    left, right = float(points[:, 0].min()), float(points[:, 0].max())
    across = Scale(left, right if right > left else left + 1, LEFT, WIDTH - RIGHT - 4)
    return across, Scale(low, high, height - BOTTOM, TOP)


def _grid(across: Scale, up: Scale, x: str, y: str, height: int) -> list[Markup]:
    parts = []
    for tick in up.ticks():
        parts.append(_line("grid", LEFT, up(tick), WIDTH - RIGHT, up(tick)))
        parts.append(_text("tick", LEFT - 7, up(tick) + 4, number(tick, None if abs(tick) >= 10 else 2), "end"))
    for tick in across.ticks(6):
        parts.append(_text("tick", across(tick), height - BOTTOM + 16, number(tick, 0), "middle"))
    parts.append(_text("axis", WIDTH - RIGHT, height - 2, x, "end"))
    parts.append(_text("axis", 2, 11, y))
    return parts


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, x1, y1, x2, y2)


def _text(kind: str, x: float, y: float, text: str, anchor: str = "start") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, text)


def _svg(name: str, title: str, told: str, parts: Sequence[Markup], height: int) -> Markup:
    """Labelled for screen readers by a title and what the chart says in numbers."""
    return Markup(
        '<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-labelledby="{n}-title {n}-about">'
        '<title id="{n}-title">{t}</title><desc id="{n}-about">{d}</desc>{p}</svg>'
    ).format(w=WIDTH, h=height, n=escape(name), t=title, d=told, p=Markup("").join(parts))
