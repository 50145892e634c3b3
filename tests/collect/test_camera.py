"""How tall others stand in the ego's picture, and what a driver does that sees no more than that."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from semore.collect.camera import AHEAD, TAN, Sight, pixels_tall
from semore.collect.embedded.maps.town import town
from semore.collect.embedded.render.sky import atmosphere
from semore.collect.embedded.render.view import draw
from semore.collect.expert import FAST, Expert
from semore.collect.policies import SHORT_SIGHT, make_policy
from semore.collect.scenarios import WEATHERS
from semore.datasets.rollouts.schema import ACTOR_COLUMN, ACTOR_FIELDS, EGO_COLUMN, EGO_FIELDS, KIND_INDEX, KINDS

PERSON = KINDS[KIND_INDEX["pedestrian"]]
CAR = KINDS[KIND_INDEX["sedan"]]


def actor(kind: str, depth: float, right: float = 0.0, **more: float) -> list[float]:
    """A row of `actors`, whose middle is `depth` m ahead of the camera of an ego at the origin that faces +x."""
    box = KINDS[KIND_INDEX[kind]]
    row = {"id": 1, "kind": KIND_INDEX[kind], "length": box.length, "width": box.width, "height": box.height}
    row |= {"x": AHEAD + depth, "y": right} | more
    return [row.get(field, 0.0) for field in ACTOR_FIELDS]


def ego(**pose: float) -> NDArray[np.float32]:
    """In the middle of a lane 4 m wide along +x, at 10 m/s."""
    state = {"vx": 10.0, "lane_dx": 1.0, "lane_width": 4.0} | pose
    return np.array([state.get(field, 0.0) for field in EGO_FIELDS], np.float32)


def tall(*actors: list[float], size: int = 64, **pose: float) -> list[float]:
    rows = np.array(actors, np.float64).reshape(-1, len(ACTOR_FIELDS))
    return pixels_tall(ego(**pose).astype(np.float64), rows, size).tolist()


def test_who_is_twice_as_far_or_shown_half_as_large_stands_half_as_tall():
    face = 20.0 + PERSON.length / 2, 40.0 + PERSON.length / 2  # in the depth of their middle
    near, far = tall(actor("pedestrian", face[0]), actor("pedestrian", face[1]))
    assert near == pytest.approx(64 * PERSON.height / (2 * 20.0 * TAN))
    assert near == pytest.approx(1.56 * 64 / 20.0, rel=0.01)
    assert far == pytest.approx(near / 2)
    assert tall(actor("pedestrian", face[0]), size=32) == pytest.approx([near / 2])
    (car,) = tall(actor("sedan", 20.0 + CAR.length / 2))  # its nearest face counts
    assert car == pytest.approx(64 * CAR.height / (2 * 20.0 * TAN))


@pytest.mark.parametrize(
    ("who", "shown"),
    [
        (actor("pedestrian", 20.0, 11.0), True),  # half of the picture is 11.5 m wide there
        (actor("pedestrian", 20.0, -11.0), True),
        (actor("pedestrian", 20.0, 12.5), False),
        (actor("pedestrian", 20.0, -12.5), False),
        (actor("pedestrian", -5.0), False),
        (actor("fire truck", 1.0, 3.0), True),  # beside, but its front is in the picture
        (actor("fire truck", -5.0, 3.0), False),
        (actor("sedan", -2.5), False),  # the ego's own place
        (actor("pedestrian", 1.5), True),  # before the bumper
        (actor("pedestrian", 1.0, down=1.0, yaw=math.pi / 2), False),  # the same, lying: below the picture
        (actor("pedestrian", 4.0, down=1.0), True),
    ],
)
def test_only_who_is_in_the_picture_has_a_height(who, shown):
    assert (tall(who)[0] > 0.0) == shown
    assert not np.isnan(tall(who)[0])


def test_where_the_ego_is_and_faces_decides_what_is_ahead():
    turned = actor("pedestrian", 0.0, 0.0, x=3.0, y=5.0 + AHEAD + 20.0)
    (found,) = tall(turned, x=3.0, y=5.0, yaw=math.pi / 2)
    assert found == pytest.approx(64 * PERSON.height / (2 * (20.0 - PERSON.width / 2) * TAN))
    assert tall(turned, x=3.0, y=5.0, yaw=-math.pi / 2) == [0.0]


def test_who_lies_is_as_tall_as_they_were_thick():
    standing, lying = tall(actor("pedestrian", 15.0), actor("pedestrian", 15.0, down=1.0, yaw=math.pi / 2))
    assert lying == pytest.approx(standing * PERSON.length / PERSON.height, rel=0.02)


@pytest.mark.parametrize("kind", ["pedestrian", "sedan", "fire truck", "ambulance"])
@pytest.mark.parametrize("depth", [15.0, 30.0])
def test_heights_are_those_of_the_embedded_world_s_pictures(kind, depth):
    row = np.array([actor(kind, depth, 2.0, x=40.0 + AHEAD + depth)], np.float32)
    row[0, ACTOR_COLUMN["y"]] += 2.0
    paint = np.full((1, 3), 0.5)
    images = draw(town("Town01"), atmosphere(WEATHERS["cloudy"]), 128, 40.0, 2.0, 0.0, row, paint, False, 0)
    (rows,) = np.nonzero((images.instance == 1).any(1))
    (found,) = pixels_tall(ego(x=40.0, y=2.0).astype(np.float64), row.astype(np.float64), 128)
    assert found == pytest.approx(rows.max() - rows.min() + 1, rel=0.12, abs=1.0)


def test_small_is_a_matter_of_pixels():
    rows = np.array([actor("pedestrian", depth) for depth in (12.0, 18.0, 25.0, -3.0)], np.float64)
    here = ego().astype(np.float64)
    assert Sight(64, 5.0).seen(here, rows).tolist() == [True, True, False, False]
    assert Sight(64, 7.0).seen(here, rows).tolist() == [True, False, False, False]
    assert Sight(128, 7.0).seen(here, rows).tolist() == [True, True, True, False]
    assert Sight(64, 0.0).seen(here, rows).tolist() == [True, True, True, False]
    assert Sight(64, 5.0).seen(here, rows[:0]).tolist() == []


def decision(driver: Any, rows: list[list[float]], speed: float) -> list[float]:
    found: list[float] = driver({"ego": ego(vx=speed), "actors": np.array(rows, np.float32)}).tolist()
    return found


def test_a_driver_decides_as_if_whom_it_cannot_see_were_elsewhere():
    generator = np.random.default_rng(0)
    changed = 0
    for _ in range(100):
        speed = generator.uniform(5.0, 25.0)
        near = actor("pedestrian", generator.uniform(5.0, 15.0), generator.uniform(-2.0, 2.0))
        walks = {"vx": generator.uniform(-5.0, 0.0), "vy": generator.uniform(-3.0, 3.0)}
        far = [
            [near, actor("pedestrian", generator.uniform(22.0, 60.0), generator.uniform(-3.0, 3.0), **walks),
             actor("sedan", generator.uniform(24.0, 60.0), generator.uniform(-3.0, 3.0), **walks),
             actor("sedan", generator.uniform(-20.0, -4.0), generator.uniform(-3.0, 3.0), vx=30.0),
             actor("cyclist", 3.0, generator.choice([-1.0, 1.0]) * generator.uniform(3.5, 9.0), **walks)]
            for _ in range(2)
        ]  # fmt: skip
        short, whole = (
            [decision(Expert(generator, cruise=FAST, sight=sight), rows, speed) for rows in far]
            for sight in (Sight(64, 5.0), None)
        )
        assert short[0] == short[1] == decision(Expert(generator, cruise=FAST), [near], speed)
        changed += whole[0] != whole[1]
    assert changed > 30  # who sees everybody minds them


@pytest.mark.parametrize(("depth", "minded"), [(12.0, True), (18.0, True), (24.0, False), (60.0, False)])
def test_the_short_sighted_driver_brakes_for_who_is_near(depth, minded):
    infos = [{"ego": ego(vx=24.0), "actors": np.array([actor("pedestrian", depth)], np.float32)}]
    nobody = [{**infos[0], "actors": infos[0]["actors"][:0]}]
    shown, found = np.zeros((1, 9, 8, 8), np.uint8), []
    for name, info in (("fast_short_sighted_driver", infos), ("fast_short_sighted_driver", nobody)):
        policy = make_policy(name)
        policy.start([0])
        found.append(policy.act([0], shown, info)[0])
    assert (found[0][1] < found[1][1]) == minded
    assert np.array_equal(*found) == (not minded)


def test_who_sees_all_decides_as_an_unrestricted_driver(monkeypatch):
    monkeypatch.setattr(Sight, "seen", lambda self, ego, actors: np.ones(len(actors), np.bool_))
    generator = np.random.default_rng(1)
    for _ in range(50):
        rows = [actor("pedestrian", *generator.uniform((-20.0, -3.0), (60.0, 3.0))) for _ in range(4)]
        drivers = Expert(generator, cruise=FAST, sight=SHORT_SIGHT), Expert(generator, cruise=FAST)
        assert decision(drivers[0], rows, 20.0) == decision(drivers[1], rows, 20.0)


def test_the_columns_used_here_are_the_schemas():
    assert ego(vx=3.0)[EGO_COLUMN["vx"]] == 3.0
