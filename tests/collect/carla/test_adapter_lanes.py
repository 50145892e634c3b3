"""The client's map tells the same lanes as the embedded road it was written from."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("carla.libcarla", reason="the carla wheel is not installed: make setup SIM=carla")

import carla

from semore.collect.carla.lanes import Lanes
from semore.collect.embedded.maps.opendrive import opendrive
from semore.collect.embedded.maps.road import travel
from semore.collect.embedded.maps.town import SPECS
from semore.datasets.errors import SemoreError


@pytest.fixture(params=SPECS)
def town(request: pytest.FixtureRequest) -> tuple[Lanes, str]:
    return Lanes(carla.Map(request.param, opendrive(SPECS[request.param], request.param))), request.param


def test_lane_under_a_place(town: tuple[Lanes, str]) -> None:
    lanes, name = town
    road = SPECS[name].road
    rng = np.random.default_rng(1)
    on, off = 0, 0
    for s, t in zip(rng.uniform(5, road.length - 5, 300), rng.uniform(-12, 18, 300), strict=True):
        x, y, heading = road.pose(s, t)
        spec = road.lane_at(t)
        edge = min(abs(t - side) for span in road.spans.values() for side in span)
        if edge < 0.03:
            continue
        found, ends = lanes.under(carla.Location(x, y, 0.0), heading)
        assert not ends
        if spec is None or spec.type != "driving":
            assert found is None
            off += 1
            continue
        assert found is not None
        way = travel(spec.id)
        assert (found.road, found.lane, found.width) == (road.id, spec.id, pytest.approx(spec.width))
        assert found.s == pytest.approx(s, abs=0.5)  # the client cuts arcs into chords
        assert found.offset == pytest.approx(way * (t - road.lane_centre(spec.id)), abs=0.005)
        assert (found.dx, found.dy) == pytest.approx((way * math.cos(heading), way * math.sin(heading)), abs=2e-3)
        assert math.hypot(found.dx, found.dy) == pytest.approx(1.0, abs=1e-9)
        on += 1
    assert min(on, off) > 30


def test_places_by_road_lane_and_s(town: tuple[Lanes, str]) -> None:
    lanes, name = town
    road = SPECS[name].road
    for lane in (spec.id for spec in road.lanes):
        for s, offset in ((3.0, 0.0), (190.0, -0.5), (400.0, 0.7)):
            way = travel(lane)
            x, y, heading = road.pose(s, road.lane_centre(lane) + way * offset)
            found = lanes.where(road.id, lane, s, offset)
            assert found[:2] == pytest.approx((x, y), abs=1e-3)
            assert math.cos(found[2] - heading) == pytest.approx(way, abs=1e-5)
        x, y, heading = road.pose(190.0, 0.0)
        across = lanes.across(road.id, 190.0)
        assert across[:2] == pytest.approx((x, y), abs=1e-3)
        assert math.remainder(across[2] - heading - math.pi / 2, math.tau) == pytest.approx(0.0, abs=1e-4)
    with pytest.raises(SemoreError, match="no lane -9"):
        lanes.where(road.id, -9, 3.0)
    with pytest.raises(SemoreError, match="road 77"):
        lanes.across(77, 3.0)


def test_the_road_ends_before_its_end(town: tuple[Lanes, str]) -> None:
    lanes, name = town
    road = SPECS[name].road
    t = road.lane_centre(-1)
    for left, wanted in ((3.0, False), (1.5, True)):
        x, y, heading = road.pose(road.length - left, t)
        found, ends = lanes.under(carla.Location(x, y, 0.0), heading)
        assert found is not None
        assert ends is wanted
