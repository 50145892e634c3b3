"""A map of the embedded world as OpenDRIVE 1.4 text, which CARLA's client and other tools read.

    semore opendrive Town01                  print it
    semore opendrive Town01 --out FILE       write it (whole or not at all)
    carla.Map("Town01", opendrive(SPECS["Town01"], "Town01"))    waypoints, lanes and widths without a server

`TownSpec` in town.py stays the only description: nothing here adds a length, a width or a colour to it. Our frame is
CARLA's, left-handed, with y, t, headings and curvature positive to the right; OpenDRIVE's is right-handed with all four
positive to the left, so their signs flip (CARLA's client flips them back). Road and lane ids, s and travel directions
are the same on both sides. Numbers are written with all their digits: a reader gets the same doubles.

The road begins and ends in open country, and its cross-section never changes: lanes have no predecessor or successor,
their `link` elements are empty. A painted line becomes the road mark of the lane edge it lies at, `tOffset` metres
from it. What stands beside the road, and the road beyond its ends that only the picture shows, is not written.
"""

from __future__ import annotations

from typing import Final
from xml.etree import ElementTree

import numpy as np

from semore.collect.embedded.maps.road import LaneSpec, Road
from semore.collect.embedded.maps.town import WHITE, YELLOW, Marking, TownSpec
from semore.datasets.errors import SemoreError

GEO_REFERENCE: Final = "+proj=tmerc +lat_0=0 +lon_0=0 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs"
"""The towns stand nowhere on Earth; CARLA's client wants a projection all the same."""

_COLOURS: Final = {WHITE: "white", YELLOW: "yellow"}
_EDGE_REACH: Final = 0.5  # m between a painted line and the lane edge it belongs to

_Element = ElementTree.Element
_add = ElementTree.SubElement


def opendrive(spec: TownSpec, name: str) -> str:
    """OpenDRIVE 1.4 text of the map `spec` under the title `name`; same map, same text.

    SemoreError for a painted line that lies at no lane edge, or has a colour OpenDRIVE has no word for."""
    road = spec.road
    root = ElementTree.Element("OpenDRIVE")
    root.append(_header(road, name))
    body = _add(root, "road", name=name, length=_number(road.length), id=str(road.id), junction="-1")
    _add(body, "link")
    kind = _add(body, "type", s="0", type="town" if _has_sidewalk(road) else "motorway")
    _add(kind, "speed", max=_number(road.limit), unit="km/h")
    body.append(_plan_view(road))
    _add(_add(body, "elevationProfile"), "elevation", s="0", a="0", b="0", c="0", d="0")
    _add(body, "lateralProfile")
    body.append(_lanes(spec))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _header(road: Road, name: str) -> _Element:
    """Title, geographic reference, and the box around the road's edges (m, OpenDRIVE's axes)."""
    edges = [edge for span in road.spans.values() for edge in span]
    along = np.arange(0.0, road.length + 1.0)
    points = np.array([road.pose(s, t)[:2] for s in along for t in (min(edges), max(edges))])
    (west, south), (east, north) = (points * (1, -1)).min(axis=0), (points * (1, -1)).max(axis=0)
    header = ElementTree.Element("header", revMajor="1", revMinor="4", name=name, version="1.00", vendor="Semore")
    for side, value in (("north", north), ("south", south), ("east", east), ("west", west)):
        header.set(side, f"{value:.3f}")
    _add(header, "geoReference").text = GEO_REFERENCE
    return header


def _plan_view(road: Road) -> _Element:
    plan = ElementTree.Element("planView")
    for x, y, heading, length, curvature, s, _, _ in road.segments:
        piece = _add(
            plan, "geometry", s=_number(s), x=_number(x), y=_number(-y), hdg=_number(-heading), length=_number(length)
        )
        if curvature == 0.0:
            _add(piece, "line")
        else:
            _add(piece, "arc", curvature=_number(-curvature))
    return plan


def _lanes(spec: TownSpec) -> _Element:
    """The one lane section: left lanes from the outermost inwards, the centre, right lanes outwards."""
    road, marks = spec.road, _marks(spec)
    lanes = ElementTree.Element("lanes")
    _add(lanes, "laneOffset", s="0", a="0", b="0", c="0", d="0")
    section = _add(lanes, "laneSection", s="0")
    centre = ElementTree.Element("lane", id="0", type="none", level="false")
    _add(centre, "link")
    centre.append(_road_mark(road, 0.0, marks.get(0)))
    written = [_lane(road, lane, marks.get(lane.id)) for lane in sorted(road.lanes, key=lambda lane: -lane.id)]
    left = [lane for lane in written if int(lane.attrib["id"]) > 0]
    for name, row in (("left", left), ("center", [centre]), ("right", written[len(left) :])):
        if row:
            _add(section, name).extend(row)
    return lanes


def _lane(road: Road, lane: LaneSpec, mark: Marking | None) -> _Element:
    element = ElementTree.Element("lane", id=str(lane.id), type=lane.type, level="false")
    _add(element, "link")
    _add(element, "width", sOffset="0", a=_number(lane.width), b="0", c="0", d="0")
    element.append(_road_mark(road, _outer_edge(road, lane.id), mark))
    return element


def _road_mark(road: Road, edge: float, mark: Marking | None) -> _Element:
    """The paint at the lane edge `edge` (t, m): what OpenDRIVE 1.4 calls its type, and the exact line below it."""
    element = ElementTree.Element("roadMark", sOffset="0")
    if mark is None:
        element.set("type", "none")
        element.set("color", "standard")
        return element
    if mark.colour not in _COLOURS:
        raise SemoreError(f"the painted line at t {mark.t} m is neither WHITE nor YELLOW; use one of these in town.py")
    broken = mark.dash > 0.0
    about = {
        "type": "broken" if broken else "solid",
        "weight": "standard",
        "color": _COLOURS[mark.colour],
        "width": _number(mark.width),
        "laneChange": "both" if broken else "none",
    }
    for key, value in about.items():
        element.set(key, value)
    detail = _add(element, "type", name=about["type"], width=_number(mark.width))
    length, space = (mark.dash, mark.gap) if broken else (road.length, 0.0)
    # The shift is rounded: the difference of two lengths in centimetres should not end in …0000001.
    shift = _number(round(edge - mark.t, 6))
    about = {"length": _number(length), "space": _number(space), "tOffset": shift, "sOffset": "0", "rule": "none"}
    _add(detail, "line", about, width=_number(mark.width))
    return element


def _marks(spec: TownSpec) -> dict[int, Marking]:
    """Lane id → the line painted at its outer edge; 0 stands for the reference line."""
    edges = {0: 0.0} | {lane.id: _outer_edge(spec.road, lane.id) for lane in spec.road.lanes}
    found: dict[int, Marking] = {}
    for mark in spec.markings:
        lane = min(edges, key=lambda lane: abs(edges[lane] - mark.t))
        if abs(edges[lane] - mark.t) > _EDGE_REACH:
            raise SemoreError(
                f"the painted line at t {mark.t} m lies at no lane edge of road {spec.road.id}; the nearest is at "
                f"{edges[lane]} m, and only lines within {_EDGE_REACH} m of an edge can be written as OpenDRIVE"
            )
        if lane in found:
            raise SemoreError(
                f"two painted lines share the edge of lane {lane} at t {edges[lane]} m; OpenDRIVE has one"
            )
        found[lane] = mark
    return found


def _outer_edge(road: Road, lane: int) -> float:
    """t (m) of the edge of `lane` that is farther from the reference line."""
    return max(road.spans[lane], key=abs)


def _has_sidewalk(road: Road) -> bool:
    return any(lane.type == "sidewalk" for lane in road.lanes)


def _number(value: float) -> str:
    """The shortest decimal that reads back as the same double; no minus before zero."""
    return repr(float(value) + 0.0)
