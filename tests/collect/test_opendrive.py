"""The maps as OpenDRIVE: the text rebuilt by hand against our road, and CARLA's own reader where it is installed."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from semore.collect.embedded.maps.opendrive import opendrive
from semore.collect.embedded.maps.road import LaneSpec, Road, travel
from semore.collect.embedded.maps.town import SPECS, WHITE, YELLOW, Marking, TownSpec
from semore.datasets.errors import SemoreError

TOWNS = pytest.mark.parametrize("town", SPECS)
ONLY_LEFT = TownSpec(
    Road(7, 90.0, ((20.0, 0.0), (30.0, 1 / 40), (50.0, -1 / 60), (10.0, 0.0)), (LaneSpec(1, "driving", 3.0),)),
    (Marking(-3.0, WHITE, dash=2.0, gap=1.0),),
    (),
)


def parsed(spec: TownSpec, name: str = "town") -> ElementTree.Element:
    return ElementTree.fromstring(opendrive(spec, name).encode())


def number(element: ElementTree.Element, key: str) -> float:
    return float(element.attrib[key])


def reference_point(root: ElementTree.Element, s: float) -> tuple[float, float, float]:
    """x, y, heading of OpenDRIVE's reference line (right-handed), from the text alone."""
    piece = [g for g in root.iter("geometry") if number(g, "s") <= s][-1]
    x, y, heading, along = number(piece, "x"), number(piece, "y"), number(piece, "hdg"), s - number(piece, "s")
    arc = piece.find("arc")
    if arc is None:
        assert piece.find("line") is not None
        return x + along * math.cos(heading), y + along * math.sin(heading), heading
    radius = 1.0 / number(arc, "curvature")
    centre = x - radius * math.sin(heading), y + radius * math.cos(heading)
    end = heading + along / radius
    return centre[0] + radius * math.sin(end), centre[1] - radius * math.cos(end), end


def lane_centres(root: ElementTree.Element) -> dict[int, float]:
    """OpenDRIVE's t (positive to the left) of the middle of every lane, from the widths."""
    widths = {
        int(lane.attrib["id"]): number(width, "a")
        for lane in root.iter("lane")
        if (width := lane.find("width")) is not None
    }
    centres = {}
    for side in (1, -1):
        inner = 0.0
        for lane in sorted((lane for lane in widths if lane * side > 0), key=abs):
            centres[lane] = side * (inner + widths[lane] / 2)
            inner += widths[lane]
    return centres


@pytest.mark.parametrize("spec", [*SPECS.values(), ONLY_LEFT], ids=[*SPECS, "only left"])
def test_the_text_draws_our_road(spec: TownSpec) -> None:
    root, road = parsed(spec), spec.road
    assert lane_centres(root) == pytest.approx({lane.id: -road.lane_centre(lane.id) for lane in road.lanes})
    for s in np.random.default_rng(1).uniform(0.0, road.length, 500):
        x, y, heading = reference_point(root, s)
        for lane, t in ({0: 0.0} | lane_centres(root)).items():
            ours = road.pose(s, road.lane_centre(lane) if lane else 0.0)
            theirs = x - t * math.sin(heading), -(y + t * math.cos(heading)), -heading
            assert theirs == pytest.approx(ours, abs=1e-6)


@TOWNS
def test_geometries_join_and_end_with_the_road(town: str) -> None:
    root = parsed(SPECS[town])
    pieces = list(root.iter("geometry"))
    for before, after in pairwise(pieces):
        assert number(after, "s") == pytest.approx(number(before, "s") + number(before, "length"), abs=1e-9)
        near = reference_point(root, number(after, "s") - 1e-9)
        assert near == pytest.approx([number(after, key) for key in ("x", "y", "hdg")], abs=1e-6)
    (road,) = root.iter("road")
    assert number(road, "length") == number(pieces[-1], "s") + number(pieces[-1], "length") == SPECS[town].road.length


@TOWNS
def test_lanes_stand_in_order_with_type_width_and_links_to_nowhere(town: str) -> None:
    root, road = parsed(SPECS[town]), SPECS[town].road
    lanes = list(root.iter("lane"))
    ids = [int(lane.attrib["id"]) for lane in lanes]
    assert ids == sorted([0, *(lane.id for lane in road.lanes)], reverse=True)
    for side, sign in (("left", 1), ("center", 0), ("right", -1)):
        found = root.findall(f".//laneSection/{side}/lane")
        assert found
        assert {np.sign(int(lane.attrib["id"])) for lane in found} == {sign}
    about = {int(lane.attrib["id"]): lane for lane in lanes}
    for lane in road.lanes:
        assert about[lane.id].attrib["type"] == lane.type
        assert [number(w, "a") for w in about[lane.id].findall("width")] == [lane.width]
    assert all(lane.find("link") is not None and not list(lane.find("link")) for lane in lanes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("town", "marks"),
    [
        (
            "Town01",
            {
                1: ("solid", "white", 0.15, 900.0, 0.0, -0.1),
                0: ("broken", "yellow", 0.18, 3.0, 3.0, 0.0),
                -1: ("solid", "white", 0.15, 900.0, 0.0, 0.1),
            },
        ),
        (
            "Town04",
            {
                0: ("solid", "yellow", 0.2, 1250.0, 0.0, -0.1),
                **{-k: ("broken", "white", 0.15, 4.0, 6.0, 0.0) for k in (1, 2, 3)},
                -4: ("solid", "white", 0.2, 1250.0, 0.0, 0.1),
            },
        ),
    ],
)
def test_road_marks_are_the_paint(town: str, marks: dict[int, tuple[Any, ...]]) -> None:
    for lane in parsed(SPECS[town]).iter("lane"):
        (mark,) = lane.findall("roadMark")
        if int(lane.attrib["id"]) not in marks:
            assert mark.attrib["type"] == "none"
            continue
        (line,) = mark.iter("line")
        look = (mark.attrib["type"], mark.attrib["color"], number(mark, "width"))
        exact = [number(line, key) for key in ("length", "space", "tOffset")]
        assert (*look, *exact) == marks[int(lane.attrib["id"])]
        assert mark.attrib["laneChange"] == ("both" if mark.attrib["type"] == "broken" else "none")


@TOWNS
def test_header_and_speed_limit(town: str) -> None:
    root, road = parsed(SPECS[town], town), SPECS[town].road
    header = root.find("header")
    assert header is not None
    assert [header.attrib[key] for key in ("revMajor", "revMinor", "name")] == ["1", "4", town]
    assert "+proj=tmerc" in (header.findtext("geoReference") or "")
    for s in np.linspace(0.0, road.length, 50):
        for low, high in road.spans.values():
            for t in (low, high):
                x, y, _ = road.pose(s, t)
                assert number(header, "west") - 0.1 <= x <= number(header, "east") + 0.1
                assert number(header, "south") - 0.1 <= -y <= number(header, "north") + 0.1
    (limit,) = root.iter("speed")
    assert (number(limit, "max"), limit.attrib["unit"]) == (road.limit, "km/h")


def test_paint_that_opendrive_cannot_say_is_refused() -> None:
    spec = SPECS["Town01"]
    for marking, problem in (
        (Marking(2.0, WHITE), "at t 2.0 m lies at no lane edge"),
        (Marking(6.0, (1.0, 0.0, 0.0)), "neither WHITE nor YELLOW"),
        (Marking(0.2, YELLOW), "share the edge of lane 0"),
    ):
        with pytest.raises(SemoreError, match=problem):
            opendrive(replace(spec, markings=(*spec.markings, marking)), "Town01")


def test_command_prints_and_writes_the_same(tmp_path) -> None:
    command = [sys.executable, "-m", "semore.collect.embedded.maps", "Town04"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed == opendrive(SPECS["Town04"], "Town04")
    subprocess.run([*command, "--out", str(tmp_path / "town.xodr")], check=True)
    assert (tmp_path / "town.xodr").read_text() == printed
    assert [path.name for path in tmp_path.iterdir()] == ["town.xodr"]


@pytest.fixture(scope="module")
def carla() -> ModuleType:
    """CARLA's client, an optional extra; its Map needs no server."""
    return pytest.importorskip("carla.libcarla", reason="CARLA's client is not installed (pip install -e '.[carla]')")


@TOWNS
class TestCarlaReads:
    """carla.Map as the judge. It computes in single precision: millimetres a kilometre away."""

    def test_every_lane_where_ours_is(self, carla: Any, town: str) -> None:
        road = SPECS[town].road
        read = carla.Map(town, opendrive(SPECS[town], town))
        rng = np.random.default_rng(2)
        for lane in road.lanes:
            for s in rng.uniform(0.1, road.length - 0.1, 200):
                point = read.get_waypoint_xodr(road.id, lane.id, float(s))
                x, y, heading = road.pose(s, road.lane_centre(lane.id))
                where, turn = point.transform.location, math.radians(point.transform.rotation.yaw)
                assert (where.x, where.y, where.z) == pytest.approx((x, y, 0.0), abs=0.01)
                wanted = heading if travel(lane.id) > 0 else heading + math.pi
                assert math.remainder(turn - wanted, math.tau) == pytest.approx(0.0, abs=1e-4)
                assert (point.lane_width, point.is_junction) == (pytest.approx(lane.width), False)

    def test_a_place_finds_its_lane(self, carla: Any, town: str) -> None:
        road = SPECS[town].road
        read = carla.Map(town, opendrive(SPECS[town], town))
        rng = np.random.default_rng(3)
        for lane in road.lanes:
            kind = getattr(carla.LaneType, lane.type.capitalize())
            for s in rng.uniform(1.0, road.length - 1.0, 100):
                t = road.lane_centre(lane.id) + rng.uniform(-0.4, 0.4) * lane.width
                x, y, _ = road.pose(s, t)
                point = read.get_waypoint(carla.Location(x, y, 0.0), project_to_road=False, lane_type=kind)
                assert (point.road_id, point.lane_id, point.lane_type) == (road.id, lane.id, kind)
                assert point.lane_width == pytest.approx(lane.width)
                assert point.s == pytest.approx(s, abs=1.0)  # the client looks it up in half-metre pieces

    def test_road_ends_where_ours_does(self, carla: Any, town: str) -> None:
        road = SPECS[town].road
        read = carla.Map(town, opendrive(SPECS[town], town))
        there = [read.get_waypoint_xodr(road.id, -1, road.length + more) is not None for more in (-0.01, 0.01)]
        assert there == [True, False]
        last = read.get_waypoint_xodr(road.id, -1, road.length - 10.0)
        assert [point.s for point in last.next(9.0)] == pytest.approx([road.length - 1.0])
        assert last.next(11.0) == []

    def test_paint_and_neighbours(self, carla: Any, town: str) -> None:
        read = carla.Map(town, opendrive(SPECS[town], town))
        point = read.get_waypoint_xodr(SPECS[town].road.id, -1, 50.0)
        left, right = point.left_lane_marking, point.right_lane_marking
        middle = (carla.LaneMarkingType.Broken if town == "Town01" else carla.LaneMarkingType.Solid, "Yellow")
        assert (left.type, str(left.color)) == middle
        edge = carla.LaneMarkingType.Solid if town == "Town01" else carla.LaneMarkingType.Broken
        assert (right.type, str(right.color)) == (edge, "White")
        assert (point.get_left_lane().lane_id, point.get_right_lane().lane_id) == (1, -2)
