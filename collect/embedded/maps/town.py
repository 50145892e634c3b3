"""The two maps as data: roads, paint, and roadside objects; `town(name)` builds one to draw and to hit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from semore.collect.embedded.maps.road import LaneSpec, Road
from semore.collect.embedded.render.shapes import BOARD, BOX, FACADE, MATERIAL, PART_FIELDS, PLAIN, RAIL, ROOF, WEDGE
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import SemanticClass

Colour = tuple[float, float, float]

WHITE: Final[Colour] = (0.86, 0.86, 0.84)
YELLOW: Final[Colour] = (0.85, 0.68, 0.22)
SURFACES: Final[dict[str, tuple[SemanticClass, Colour]]] = {
    "driving": (SemanticClass.ROAD, (0.250, 0.250, 0.260)),
    "shoulder": (SemanticClass.ROAD, (0.330, 0.325, 0.315)),
    "sidewalk": (SemanticClass.SIDEWALK, (0.560, 0.540, 0.510)),
    "terrain": (SemanticClass.TERRAIN, (0.200, 0.330, 0.130)),
}
"""Pixel class and albedo of every lane type, and of the land beside the road."""

_TEXTURES: Final = {"driving": (0.16, 0.0), "shoulder": (0.20, 0.0), "sidewalk": (0.12, 1.0), "terrain": (0.62, 0.0)}
"""How much each surface's grain darkens and brightens it, and whether it is laid in slabs of a metre."""
_KERB: Final = ((0.12, (0.33, 0.32, 0.31)), (0.20, (0.70, 0.69, 0.66)))
"""Width (m) and colour of a kerb's face and top, from the carriageway outwards."""


@dataclass(frozen=True)
class Marking:
    """A painted line at offset `t`: `dash` and `gap` in metres, dash 0 = solid."""

    t: float
    colour: Colour
    width: float = 0.15
    dash: float = 0.0
    gap: float = 0.0


@dataclass(frozen=True)
class Row:
    """Boxes repeated along the road on both sides, facing it.

    `left`, `right`: t of the row's middle; `every`: spacing (m); length, width, height: box sizes (m), the height
    uniform in its range; `colours` are drawn from; `lift`: height of the box's foot (m); `hit_as`: what the ego
    runs into, each box, an endless fence along their faces (no joints to catch on), or nothing; `material`: one
    of semore.collect.embedded.render.shapes. left = right: one row only."""

    semantic: SemanticClass
    left: float
    right: float
    every: float
    length: float
    width: float
    height: tuple[float, float]
    colours: tuple[Colour, ...]
    lift: float = 0.0
    hit_as: Literal["box", "fence", "air"] = "box"
    material: float = PLAIN


@dataclass(frozen=True)
class TownSpec:
    """The description of a map."""

    road: Road
    markings: tuple[Marking, ...]
    rows: tuple[Row, ...]
    roofs: tuple[Colour, ...] = ()
    """Colours of the pitched roofs that two houses out of three get."""


@dataclass(frozen=True)
class Fence:
    """An endless barrier whose road-facing side lies at `t` (m); side +1: it stands to the right of the road."""

    t: float
    side: int
    semantic: SemanticClass


@dataclass(frozen=True)
class Scenery:
    """Static boxes in order of s: `parts` (n, 17) float32 as shapes.PART_FIELDS, `tags` (n, 2) int32 (instance 0,
    class), `bodies` (n, 11) float64 as contact.BODY_FIELDS (infinitely far away unless hit as boxes), `s` (n,)
    float64."""

    parts: NDArray[np.float32]
    tags: NDArray[np.int32]
    bodies: NDArray[np.float64]
    s: NDArray[np.float64]

    def between(self, low: float, high: float) -> slice:
        """The boxes whose s lies in [low, high]."""
        return _between(self.s, low, high)


@dataclass(frozen=True)
class Town:
    """A map ready for use. `strips` (n, 7) float64: right edge t, class, r, g, b, grain, slabs, from left to right,
    the last endless. `marks` (m, 7) float64: t, half width, dash, gap, r, g, b. `edges`: the t (m) of the nearest thing
    on either side that gives no way. `roofs` (k, 17) float32 as shapes.PART_FIELDS in the order of `roofs_s` (k,), m:
    drawn only."""

    name: str
    road: Road
    strips: NDArray[np.float64]
    marks: NDArray[np.float64]
    scenery: Scenery
    fences: tuple[Fence, ...]
    edges: tuple[float, float]
    roofs: NDArray[np.float32]
    roofs_s: NDArray[np.float64]

    def roofs_between(self, low: float, high: float) -> slice:
        """The roofs whose s lies in [low, high]."""
        return _between(self.roofs_s, low, high)


def _between(where: NDArray[np.float64], low: float, high: float) -> slice:
    start, stop = np.searchsorted(where, (low, high))
    return slice(int(start), int(stop))


_STONE = ((0.66, 0.53, 0.40), (0.72, 0.66, 0.56), (0.56, 0.33, 0.26), (0.60, 0.61, 0.64), (0.78, 0.70, 0.50))
_TILES = ((0.46, 0.22, 0.16), (0.30, 0.26, 0.26), (0.38, 0.30, 0.24))
_CLOTH = ((0.66, 0.16, 0.14), (0.16, 0.36, 0.28), (0.20, 0.28, 0.52), (0.80, 0.72, 0.56))
_SIGN = ((0.04, 0.36, 0.20),)
_STEEL = ((0.62, 0.64, 0.66),)
_IRON = ((0.22, 0.23, 0.24),)

SPECS: Final[dict[str, TownSpec]] = {
    "Town01": TownSpec(
        Road(
            id=12,
            limit=30.0,
            line=(
                (140.0, 0.0), (90.0, 1 / 250), (60.0, 0.0), (110.0, -1 / 220), (80.0, 0.0),
                (100.0, -1 / 300), (60.0, 0.0), (110.0, 1 / 240), (150.0, 0.0),
            ),
            lanes=(
                LaneSpec(-1, "driving", 4.0), LaneSpec(-2, "shoulder", 2.0), LaneSpec(-3, "sidewalk", 3.0),
                LaneSpec(1, "driving", 4.0), LaneSpec(2, "shoulder", 2.0), LaneSpec(3, "sidewalk", 3.0),
            ),
        ),
        markings=(
            Marking(-3.9, WHITE), Marking(0.0, YELLOW, width=0.18, dash=3.0, gap=3.0), Marking(3.9, WHITE),
        ),
        rows=(
            Row(SemanticClass.BUILDING, -15.5, 15.5, 13.0, 11.5, 9.0, (5.0, 13.0), _STONE, material=FACADE),
            Row(SemanticClass.POLE, -8.7, 8.7, 40.0, 0.18, 0.18, (5.5, 5.5), _IRON),
            Row(SemanticClass.BUILDING, -10.7, 10.7, 39.0, 6.0, 1.1, (0.45, 0.45), _CLOTH, 2.45, hit_as="air"),
        ),
        roofs=_TILES,
    ),
    "Town04": TownSpec(
        Road(
            id=45,
            limit=50.0,
            line=(
                (330.0, 0.0), (160.0, 1 / 500), (80.0, 0.0), (180.0, -1 / 450), (90.0, 0.0),
                (150.0, 1 / 600), (260.0, 0.0),
            ),
            lanes=(
                LaneSpec(-1, "driving", 3.5), LaneSpec(-2, "driving", 3.5), LaneSpec(-3, "driving", 3.5),
                LaneSpec(-4, "driving", 3.5), LaneSpec(-5, "shoulder", 2.5), LaneSpec(1, "shoulder", 1.0),
            ),
        ),
        markings=(
            Marking(0.1, YELLOW, width=0.2), Marking(13.9, WHITE, width=0.2),
            *(Marking(3.5 * k, WHITE, dash=4.0, gap=6.0) for k in (1, 2, 3)),
        ),
        rows=(
            Row(SemanticClass.GUARD_RAIL, -1.5, 17.0, 10.0, 10.2, 0.12, (0.32, 0.32), _STEEL, 0.45, hit_as="fence",
                material=RAIL),
            Row(SemanticClass.GUARD_RAIL, -1.62, 17.12, 10.0, 0.12, 0.12, (0.75, 0.75), _IRON, hit_as="air"),
            Row(SemanticClass.BUILDING, -70.0, 85.0, 90.0, 26.0, 18.0, (8.0, 26.0), _STONE, material=FACADE),
            Row(SemanticClass.POLE, -2.6, 18.4, 50.0, 0.22, 0.22, (8.0, 8.0), _STEEL),
            Row(SemanticClass.POLE, 7.9, 7.9, 250.0, 0.3, 21.2, (0.3, 0.3), _STEEL, 6.0, hit_as="air"),
            Row(SemanticClass.POLE, -2.6, 18.4, 250.0, 0.4, 0.4, (6.3, 6.3), _STEEL, hit_as="air"),
            Row(SemanticClass.OTHER, 3.4, 10.6, 250.0, 0.5, 5.4, (2.4, 2.4), _SIGN, 5.6, hit_as="air", material=BOARD),
        ),
    ),
}  # fmt: skip
"""Every map by name. On Town04 the traffic's limit is 50 km/h, not CARLA's 90: our ego is governed at 25 m/s, and the
published speed differences must leave it traffic it can meet (18–22 m/s)."""


@cache
def town(name: str) -> Town:
    """The map called `name`, built once; SemoreError naming the choices otherwise."""
    if name not in SPECS:
        raise SemoreError(f"unknown map {name!r}; the embedded world has {', '.join(SPECS)}")
    spec = SPECS[name]
    marks = [(m.t, m.width / 2, m.dash, m.gap, *m.colour) for m in spec.markings]
    fences = [
        fence
        for row in spec.rows
        if row.hit_as == "fence"
        for fence in (
            Fence(row.left + row.width / 2, -1, row.semantic),
            Fence(row.right - row.width / 2, 1, row.semantic),
        )
    ]
    solid = [row for row in spec.rows if row.hit_as != "air"]
    edges = max(row.left + row.width / 2 for row in solid), min(row.right - row.width / 2 for row in solid)
    scenery, strips = _scenery(spec), _strips(spec.road)
    roofs = _roofs(scenery, spec.roofs)
    return Town(name, spec.road, strips, np.array(marks), scenery, tuple(fences), edges, *roofs)


def _strips(road: Road) -> NDArray[np.float64]:
    lanes = sorted(road.lanes, key=lambda lane: road.spans[lane.id])
    rows = [_strip(road.spans[lanes[0].id][0], "terrain")]
    for lane in lanes:
        low, high = road.spans[lane.id]
        if lane.type != "sidewalk":
            rows.append(_strip(high, lane.type))
        elif lane.id < 0:  # to the right: the kerb comes first
            face = low + _KERB[0][0]
            rows += [_strip(face, "sidewalk", _KERB[0][1]), _strip(face + _KERB[1][0], "sidewalk", _KERB[1][1])]
            rows.append(_strip(high, "sidewalk"))
        else:
            face = high - _KERB[0][0]
            rows += [_strip(face - _KERB[1][0], "sidewalk"), _strip(face, "sidewalk", _KERB[1][1])]
            rows.append(_strip(high, "sidewalk", _KERB[0][1]))
    return np.array([*rows, _strip(np.inf, "terrain")])


def _strip(edge: float, surface: str, colour: Colour | None = None) -> tuple[float, ...]:
    """One row of Town.strips; a `colour` of its own has no slabs."""
    semantic, usual = SURFACES[surface]
    grain, slabs = _TEXTURES[surface]
    return edge, float(semantic), *(colour or usual), grain, 0.0 if colour else slabs


def _scenery(spec: TownSpec) -> Scenery:
    """Stand every row's boxes along the road, heights and colours from a fixed seed (the map never changes)."""
    rng = np.random.default_rng(12)
    parts: list[tuple[float, ...]] = []
    tags: list[tuple[int, int]] = []
    bodies: list[tuple[float, ...]] = []
    where: list[float] = []
    for row in spec.rows:
        for s in np.arange(-40.0 + row.every / 2, spec.road.length + 60.0, row.every):
            for t in dict.fromkeys((row.left, row.right)):
                x, y, heading = spec.road.pose(s, t)
                turn = (np.cos(heading), np.sin(heading))
                height = rng.uniform(*row.height)
                colour = row.colours[rng.integers(len(row.colours))]
                half = (row.length / 2, row.width / 2, height / 2)
                parts.append(
                    (x, y, row.lift + height / 2, *half, *turn, BOX, 0.0, 0.0, 0.0, *colour, 0.0, row.material)
                )
                tags.append((0, int(row.semantic)))
                bodies.append(
                    (x if row.hit_as == "box" else np.inf, y, row.length / 2, row.width / 2, *turn, 0, 0, 0, 0, 0)
                )
                where.append(float(s))
    order = np.argsort(where, kind="stable")
    table = np.array(parts, np.float32).reshape(-1, len(PART_FIELDS))
    return Scenery(
        table[order], np.array(tags, np.int32)[order], np.array(bodies, np.float64)[order], np.array(where)[order]
    )


def _roofs(scenery: Scenery, colours: tuple[Colour, ...]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Hipped roofs with eaves for houses of the scenery, and where along the road they stand; none without colours."""
    rng = np.random.default_rng(13)
    rows: list[tuple[float, ...]] = []
    where: list[float] = []
    houses = scenery.parts[:, MATERIAL] == FACADE
    for house, s in zip(scenery.parts[houses].tolist(), scenery.s[houses].tolist(), strict=True):
        if colours and rng.random() < 0.67:
            x, y, z, hx, hy, hz, cos, sin = house[:8]
            rise, eaves = 1.1, 0.35
            half, slope = (hx + eaves, hy + eaves, rise), (3.2, 3.2, hy + eaves - 0.2)
            colour = colours[rng.integers(len(colours))]
            rows.append((x, y, z + hz + rise, *half, cos, sin, WEDGE, *slope, *colour, 0.0, ROOF))
            where.append(s)
    return np.array(rows, np.float32).reshape(-1, len(PART_FIELDS)), np.array(where)
