"""A road as a reference line of straights and arcs with lanes beside it, and the maps between (x, y) and (s, t).

Frame: CARLA's, left-handed (x forward, y right, headings in radians clockwise seen from above). `s` runs along the
reference line in metres; `t` is the offset from it in metres, **positive to the right** (OpenDRIVE's t is positive to
the left). Lane ids are OpenDRIVE's: −1, −2, … lie to the right and travel along s; +1, +2, … lie to the left and
travel against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from semore.collect.embedded.jit import kernel
from semore.datasets.errors import SemoreError

Floats = NDArray[np.float64]
LaneType = Literal["driving", "shoulder", "sidewalk"]

SEGMENT_FIELDS: Final = ("x0", "y0", "heading", "length", "curvature", "s0", "cos", "sin")
"""Columns of `Road.segments`; curvature in 1/m, positive bends to the right; the last two
spare the ray-caster the heading's cosine and sine."""


@kernel
def pose_at(segments: Floats, s: float, t: float) -> tuple[float, float, float, float]:
    """x, y, heading and curvature of the point `t` metres right of the reference line at `s`.

    `segments` (n, 8) as SEGMENT_FIELDS; before the first and after the last the end segments are prolonged."""
    i = 0
    while i + 1 < segments.shape[0] and s >= segments[i + 1, 5]:
        i += 1
    x, y, heading, curvature = segments[i, 0], segments[i, 1], segments[i, 2], segments[i, 4]
    along = s - segments[i, 5]
    if curvature == 0.0:
        x += along * math.cos(heading)
        y += along * math.sin(heading)
    else:
        turned = heading + curvature * along
        x += (math.sin(turned) - math.sin(heading)) / curvature
        y -= (math.cos(turned) - math.cos(heading)) / curvature
        heading = turned
    return x - t * math.sin(heading), y + t * math.cos(heading), heading, curvature


@kernel
def on_segment(segments: Floats, i: int, x: float, y: float) -> tuple[float, float]:
    """Distance along segment i (m, may lie outside it) and offset t (m) of the point (x, y)."""
    dx, dy = x - segments[i, 0], y - segments[i, 1]
    cos, sin, curvature = segments[i, 6], segments[i, 7], segments[i, 4]
    ahead, right = dx * cos + dy * sin, dy * cos - dx * sin
    if curvature == 0.0:
        return ahead, right
    # In the start's frame the arc's centre lies 1/curvature to the right.
    side = 1.0 if curvature > 0.0 else -1.0
    inward = (1.0 / curvature - right) * side
    return math.atan2(ahead, inward) * side / curvature, 1.0 / curvature - side * math.hypot(ahead, inward)


@kernel
def locate_at(segments: Floats, x: float, y: float, hint: int) -> tuple[float, float, int]:
    """s, t and segment index of the point (x, y), looking at segment `hint` first; t is 1e6 where no segment reaches.

    Exact for points nearer to the road than its bends' radius."""
    last = segments.shape[0] - 1
    for k in range(-1, last + 1):
        i = hint if k < 0 else k
        along, t = on_segment(segments, i, x, y)
        if (along >= 0.0 or i == 0) and (along < segments[i, 3] or i == last):
            return segments[i, 5] + along, t, i
    return 0.0, 1e6, hint


@dataclass(frozen=True)
class LaneSpec:
    """One lane of a road's constant cross-section: OpenDRIVE id, type, width in metres."""

    id: int
    type: LaneType
    width: float


@dataclass(frozen=True)
class Road:
    """A road from the origin towards +x.

    `line` lists (length m, curvature 1/m) in order; the first and last must be straight. `lanes` are listed outwards
    from the reference line on each side. `limit` is the traffic's speed limit in km/h."""

    id: int
    limit: float
    line: tuple[tuple[float, float], ...]
    lanes: tuple[LaneSpec, ...]

    @cached_property
    def length(self) -> float:
        """Length of the reference line, m."""
        return sum(length for length, _ in self.line)

    @cached_property
    def segments(self) -> Floats:
        """(n, 8) float64, columns SEGMENT_FIELDS."""
        rows: list[tuple[float, ...]] = []
        x = y = heading = s = 0.0
        for length, curvature in self.line:
            row = (x, y, heading, length, curvature, s, math.cos(heading), math.sin(heading))
            rows.append(row)
            x, y, heading, _ = pose_at(np.array([row]), s + length, 0.0)
            s += length
        return np.array(rows)

    @cached_property
    def spans(self) -> dict[int, tuple[float, float]]:
        """Lane id → the t interval it covers, m."""
        edge = {True: 0.0, False: 0.0}
        found: dict[int, tuple[float, float]] = {}
        for lane in self.lanes:
            right = lane.id < 0
            inner, outer = edge[right], edge[right] + (lane.width if right else -lane.width)
            found[lane.id] = (min(inner, outer), max(inner, outer))
            edge[right] = outer
        return found

    @cached_property
    def driving_lanes(self) -> Floats:
        """(L, 2) float64: t of every driving lane's middle (m) and its way, +1 along s or −1."""
        return np.array([(self.lane_centre(lane.id), travel(lane.id)) for lane in self.lanes if lane.type == "driving"])

    def lane_centre(self, lane: int) -> float:
        """t of the middle of lane `lane`, m; SemoreError when the road has no such lane."""
        if lane not in self.spans:
            raise SemoreError(f"road {self.id} has no lane {lane}; its lanes are {sorted(self.spans)}")
        low, high = self.spans[lane]
        return (low + high) / 2

    def lane_at(self, t: float) -> LaneSpec | None:
        """The lane that covers offset `t`, or None beside the road; a shared edge belongs to the lane on its right."""
        for lane in self.lanes:
            low, high = self.spans[lane.id]
            if low <= t < high:
                return lane
        return None

    def pose(self, s: float, t: float) -> tuple[float, float, float]:
        """x, y (m) and the reference line's heading (rad) at (s, t)."""
        x, y, heading, _ = pose_at(self.segments, float(s), float(t))
        return x, y, heading

    def locate(self, x: float, y: float) -> tuple[float, float]:
        """(s, t) of the point (x, y), m; inverse of `pose` for points nearer than the tightest bend's radius."""
        s, t, _ = locate_at(self.segments, float(x), float(y), 0)
        return s, t


def travel(lane: int) -> int:
    """+1 for lanes that travel along s (negative ids), −1 for those against it."""
    return 1 if lane < 0 else -1
