"""What the embedded world's pictures show: solids, people, lamps, weathers (design.md §4)."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from semore.collect.camera import HEIGHT, TAN
from semore.collect.embedded.maps.town import town
from semore.collect.embedded.render.lens_effects import add_glare
from semore.collect.embedded.render.ray_intersect import GROUND, SKY, Eye, cast_parts, make_rays
from semore.collect.embedded.render.shapes import ELLIPSOID, PART_FIELDS, TUBE, WEDGE
from semore.collect.embedded.render.sky import atmosphere
from semore.collect.embedded.render.view import draw
from semore.collect.scenarios import WEATHERS
from semore.collect.simulator import Images
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import ACTOR_FIELDS, KIND_INDEX, KINDS, SemanticClass

EYE = Eye(0.0, 0.0, 1.5, 1.0, 0.0, math.tan(math.radians(30.0)))
CLASSES = {kind.name: {int(kind.semantic)} for kind in KINDS} | {"cyclist": {10, 11}}


def actor(kind: str, ahead: float, y: float = 2.0, yaw: float = 0.0, speed: float = 0.0, **flags: float) -> list[float]:
    """An actor `ahead` m from the camera of `look`; flags: lights, down, brake, id."""
    shape = KINDS[KIND_INDEX[kind]]
    row = dict.fromkeys(ACTOR_FIELDS, 0.0) | {
        "id": 1, "kind": KIND_INDEX[kind], "x": 41.0 + ahead, "y": y, "yaw": yaw, "vx": speed * math.cos(yaw),
        "vy": speed * math.sin(yaw), "length": shape.length, "width": shape.width, "height": shape.height, **flags,
    }  # fmt: skip
    return [row[name] for name in ACTOR_FIELDS]


def look(*actors: list[float], weather: str = "cloudy", size: int = 96, tick: int = 0, beams: bool = False) -> Images:
    """From a car in the right lane of Town01, along its first straight."""
    rows = np.array(actors, np.float32).reshape(-1, len(ACTOR_FIELDS))
    paint = np.tile((0.2, 0.4, 0.85), (len(rows), 1))
    return draw(town("Town01"), atmosphere(WEATHERS[weather]), size, 40.0, 2.0, 0.0, rows, paint, beams, tick)


def cast(*parts: dict[str, float], size: int = 48) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Depth and owner of bare solids over open ground."""
    rows = [[({"cos": 1.0} | part).get(name, 0.0) for name in PART_FIELDS] for part in parts]
    rays = make_rays(size, EYE)
    depth, owner = np.full((size, size), 1e6, np.float32), np.full((size, size), SKY, np.int32)
    below = rays.slope < -1e-6
    depth[below], owner[below] = (-EYE.z / rays.slope[below])[:, None], GROUND
    cast_parts(np.array(rows, np.float32), EYE, rays, depth, owner)
    return depth, owner


def nearest_triangle(part: dict[str, float], size: int) -> NDArray[np.float64]:
    """Depth of a wedge by Möller and Trumbore's test of its twelve triangles; inf where there is none."""
    hx, hy, hz, turn = part["hx"], part["hy"], part["hz"], (part["cos"], part["sin"])
    foot = [(x, y, -hz) for x, y in ((hx, hy), (-hx, hy), (-hx, -hy), (hx, -hy))]
    front, rear, side = hx - part["front"], -hx + part["rear"], hy - part["side"]
    head = [(x, y, hz) for x, y in ((front, side), (rear, side), (rear, -side), (front, -side))]
    corners = np.array(foot + head)
    corners[:, :2] = corners[:, :2] @ np.array(((turn[0], turn[1]), (-turn[1], turn[0])))
    corners += np.array((part["x"], part["y"], part["z"] - EYE.z))
    rays = make_rays(size, EYE)
    across, up = np.meshgrid(rays.plan_y.astype(float), rays.slope.astype(float))
    ways = np.stack((np.ones_like(across), across, up), -1)
    best = np.full((size, size), np.inf)
    faces = [(0, 1, 2, 3), (4, 5, 6, 7), *((i, (i + 1) % 4, (i + 1) % 4 + 4, i + 4) for i in range(4))]
    for a, b, c in itertools.chain.from_iterable(((f[0], f[1], f[2]), (f[0], f[2], f[3])) for f in faces):
        one, two = corners[b] - corners[a], corners[c] - corners[a]
        p = np.cross(ways, two)
        det = p @ one
        with np.errstate(divide="ignore", invalid="ignore"):
            u, q = p @ -corners[a] / det, np.cross(-corners[a], one)
            v, t = ways @ q / det, q @ two / det
        best = np.where((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0), np.fmin(best, t), best)
    return best


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_wedge_is_where_its_triangles_are(data: st.DataObject) -> None:
    pick = lambda low, high: data.draw(st.floats(low, high))  # noqa: E731
    angle, hx, hy = pick(-3.1, 3.1), pick(0.3, 2.5), pick(0.2, 2.0)
    part = {
        "x": pick(6.0, 20.0), "y": pick(-3.0, 3.0), "z": pick(0.6, 2.5), "hx": hx, "hy": hy, "hz": pick(0.2, 0.6),
        "cos": math.cos(angle), "sin": math.sin(angle), "shape": WEDGE,
        "front": pick(-1.0, 0.9) * hx, "rear": pick(-1.0, 0.9) * hx, "side": pick(-0.5, 0.9) * hy,
    }  # fmt: skip
    depth, owner = cast(part, size=40)
    truth = nearest_triangle(part, 40)
    ground = np.where(make_rays(40, EYE).slope < 0, -EYE.z / make_rays(40, EYE).slope, 1e6)[:, None]
    both = (owner >= 0) & (truth < ground)
    assert ((owner >= 0) != (truth < ground)).sum() <= 4  # pixels on an edge may fall to either side
    np.testing.assert_allclose(depth[both], truth[both], rtol=2e-3)


def test_a_ring_can_be_looked_through() -> None:
    ring = {"x": 5.0, "z": 1.5, "hx": 0.6, "hy": 0.05, "hz": 0.6, "shape": TUBE, "front": 0.45, "cos": 0.0, "sin": 1.0}
    depth, owner = cast(ring, size=160)
    assert owner[79, 79] == SKY
    assert (owner >= 0).sum() == pytest.approx(math.pi * (0.6**2 - 0.45**2) / (2 * 5.0 * EYE.tan / 160) ** 2, rel=0.15)
    assert depth[owner >= 0] == pytest.approx(4.95, abs=0.12)


@pytest.mark.parametrize("shape", [WEDGE, TUBE, ELLIPSOID])
def test_the_mirrored_world_gives_the_mirrored_picture(shape: float) -> None:
    part = {"x": 7.0, "y": 1.0, "z": 1.2, "hx": 1.0, "hy": 0.5, "hz": 0.8, "shape": shape, "side": 0.2, "cos": 0.8}
    depth, owner = cast(part | {"sin": 0.6})
    mirrored, _ = cast(part | {"y": -1.0, "sin": -0.6})
    assert (owner >= 0).sum() > 50
    np.testing.assert_allclose(depth, mirrored[:, ::-1], rtol=1e-4)


def test_depth_is_the_distance_along_the_ray() -> None:
    images, size = look(size=64), 64
    assert (images.depth[images.semantic == SemanticClass.SKY] == 1e6).all()
    v, u = np.nonzero(np.isin(images.semantic, (SemanticClass.ROAD, SemanticClass.LANE_MARKING)))
    right, up = ((2 * u + 1) / size - 1) * TAN, -((2 * v + 1) / size - 1) * TAN
    expected = HEIGHT / -up * np.sqrt(1 + right**2 + up**2)
    np.testing.assert_allclose(images.depth[v, u], expected, rtol=1e-4)


@pytest.mark.parametrize("weather", WEATHERS)
def test_same_arguments_same_bytes_and_classes_whatever_the_weather(weather: str) -> None:
    scene = actor("fire truck", 14.0, -2.0, math.pi, lights=1), actor("cyclist", 6.0, id=2, speed=3.0)
    first, second = (look(*scene, weather=weather) for _ in range(2))
    for name in ("rgb", "semantic", "instance", "depth"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    for name in ("semantic", "instance", "depth"):
        np.testing.assert_array_equal(getattr(first, name), getattr(look(*scene), name))


def test_a_picture_too_large_for_the_scratch_is_refused() -> None:
    with pytest.raises(SemoreError, match="too large"):
        look(size=5000)


@pytest.mark.parametrize("weather", ["normal", "midnight", "dense_fog"])
def test_the_picture_does_not_depend_on_its_size(weather: str) -> None:
    scene = actor("sedan", 9.0, lights=1), actor("ambulance", 22.0, -2.0, math.pi, lights=1, id=2)
    large, small = (look(*scene, weather=weather, size=size, beams=True).rgb.astype(float) for size in (256, 64))
    assert np.abs(large.reshape(64, 4, 64, 4, 3).mean((1, 3)) - small).mean() < 6.0


def test_every_kind_has_its_own_silhouette_and_classes() -> None:
    masks = {}
    for kind in KINDS:
        images = look(actor(kind.name, 13.0, yaw=1.2), size=128)
        masks[kind.name] = images.instance == 1
        assert set(np.unique(images.semantic[masks[kind.name]])) == CLASSES[kind.name]
        assert np.isin(images.semantic, list(CLASSES[kind.name])).sum() == masks[kind.name].sum()
    for one, other in itertools.combinations(masks.values(), 2):
        assert (one & other).sum() < 0.96 * (one | other).sum()


def _stance(speed: float) -> list[int]:
    """Widths in pixels of a walker's legs over one stride across the street."""
    widths = []
    for y in np.linspace(2.0, 4.4, 13):
        mask = look(actor("pedestrian", 6.0, float(y), math.pi / 2, speed), size=128).instance == 1
        rows = np.nonzero(mask.any(1))[0]
        widths.append(int(mask[rows[-1] - 8 : rows[-1] - 3].any(0).sum()))
    return widths


def test_legs_swing_while_walking_and_only_then() -> None:
    walking, standing = _stance(1.5), _stance(0.0)
    assert max(walking) > 2 * min(walking)
    assert max(standing) - min(standing) <= 3


@pytest.mark.parametrize("kind", ["pedestrian", "cyclist"])
def test_who_is_down_lies_low(kind: str) -> None:
    upright, down = (look(actor(kind, 8.0, yaw=1.2, down=flag)).instance == 1 for flag in (0, 1))
    assert down.any(1).sum() < 0.45 * upright.any(1).sum()
    assert down.any(0).sum() > upright.any(0).sum() * (1.3 if kind == "pedestrian" else 0.8)
    assert np.nonzero(down.any(1))[0][-1] >= np.nonzero(upright.any(1))[0][-1] - 4  # on the ground


@pytest.mark.parametrize("weather", ["hard_high_light", "midnight", "dense_fog"])
@pytest.mark.parametrize("kind", [kind.name for kind in KINDS[:7]])
def test_braking_is_brighter(kind: str, weather: str) -> None:
    off, on = (look(actor(kind, 12.0, lights=1, brake=flag), weather=weather) for flag in (0, 1))
    gained = (on.rgb.astype(int) - off.rgb)[off.instance == 1]
    assert (gained[:, 0] > 50).sum() >= 6
    assert gained[:, 0].mean() > 1.5 * gained[:, 1].mean()  # it is red light
    np.testing.assert_array_equal(off.semantic, on.semantic)


def test_a_wall_hides_the_halo_of_a_lamp() -> None:
    lamp = np.array((20.0, 0.0, 0.8, -1.0, 0.0, 1.5, 7, 1.0, 0.96, 0.86, 1.0))
    instance = np.zeros((64, 64), np.uint16)

    def halo(distance: float, way: float = -1.0) -> int:
        rgb = np.zeros((64, 64, 3), np.uint8)
        lamp[3] = way
        add_glare(lamp, EYE, 0.0, np.full((64, 64), distance, np.float32), instance, rgb)
        return int(rgb.astype(int).sum())

    assert halo(20.0) > 10_000
    assert halo(10.0) == 0
    assert halo(20.0, way=1.0) == 0  # it shines away from the camera


def test_oncoming_beams_dazzle_at_midnight_without_wiping_out_the_picture() -> None:
    lit, unlit = (
        look(actor("sports car", 14.0, -2.0, math.pi, lights=flag), weather="midnight").rgb for flag in (1, 0)
    )
    assert lit.max() == 255
    assert 1.0 < lit.mean() - unlit.mean() < 60.0
    assert (lit.min(-1) == 255).mean() < 0.05


def test_low_beams_light_the_road_ahead_at_midnight() -> None:
    dark, lit = (look(weather="midnight", beams=flag).rgb.astype(float).mean(-1) for flag in (False, True))
    assert (lit - dark)[70:85, 40:56].mean() > 25
    assert (lit - dark)[:40].mean() < 3  # not the sky


def test_rain_falls_over_an_unmoved_world() -> None:
    first, later = (look(weather="hard_rain", tick=tick) for tick in (3, 4))
    changed = (first.rgb != later.rgb).any(-1)
    assert 0.02 < changed.mean() < 0.7
    for name in ("semantic", "instance", "depth"):
        np.testing.assert_array_equal(getattr(first, name), getattr(later, name))
    np.testing.assert_array_equal(look(tick=3).rgb, look(tick=4).rgb)


def test_fog_takes_contrast_with_distance() -> None:
    def contrast(weather: str, ahead: float) -> float:
        images = look(actor("fire truck", ahead), weather=weather)
        inside = images.rgb[images.instance == 1].astype(float).mean(0)
        return float(np.abs(inside - images.rgb[1, 48].astype(float)).mean())

    fog = [contrast("dense_fog", ahead) for ahead in (10.0, 22.0, 45.0)]
    assert fog[0] > 1.4 * fog[1] > 1.4 * 1.4 * fog[2]
    assert contrast("cloudy", 45.0) > 4 * fog[2]


def test_wet_ground_mirrors_what_stands_on_it() -> None:
    def redness(weather: str) -> float:
        with_truck, without = (look(*scene, weather=weather) for scene in ((actor("fire truck", 12.0),), ()))
        gained = with_truck.rgb.astype(float) - without.rgb
        ground = with_truck.semantic == SemanticClass.ROAD
        below = ground & (np.arange(96)[:, None] > np.nonzero((with_truck.instance == 1).any(1))[0][-1] + 3)
        return float((gained[..., 0] - gained[..., 1])[below & (with_truck.instance == 1).any(0)].mean())

    assert redness("hard_rain") > 4.0
    assert abs(redness("cloudy")) < 1.0


def test_a_hard_sun_throws_shadows_and_clouds_do_not() -> None:
    def darkest(weather: str) -> float:
        bare, scene = (look(*who, weather=weather).rgb.astype(float).mean(-1) for who in ((), (actor("sedan", 9.0),)))
        ground = look(actor("sedan", 9.0)).semantic == SemanticClass.ROAD
        return float((scene[ground] / bare[ground] < 0.5).mean())

    assert darkest("hard_high_light") > 0.005
    assert darkest("cloudy") < 0.5 * darkest("hard_high_light")
