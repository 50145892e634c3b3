"""What every simulator promises, run against each of them (design.md §2)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from collect.embedded.world import EmbeddedSimulator
from collect.scenarios import SCENARIOS, WEATHERS, Scenario
from collect.simulator import Control, Simulator, Snapshot
from datasets.schema import ACTOR_FIELDS, DT, KINDS, SemanticClass

SIZE = 64
FACTORIES = {"embedded": lambda: EmbeddedSimulator(SIZE)}
DAY = WEATHERS["hard_high_light"]
COLUMN = {name: index for index, name in enumerate(ACTOR_FIELDS)}
CLASSES = {kind.name: {int(kind.semantic)} for kind in KINDS} | {
    "cyclist": {int(SemanticClass.BICYCLE), int(SemanticClass.RIDER)}
}


@pytest.fixture(params=FACTORIES)
def simulator(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    made = FACTORIES[request.param]()
    yield made
    made.close()


@pytest.fixture(params=SCENARIOS)
def scenario(request: pytest.FixtureRequest) -> Scenario:
    return SCENARIOS[request.param]


def _drive(simulator: Simulator, scenario: Scenario, seed: int, steps: int, weather: str = DAY.name) -> list[Snapshot]:
    shots = [simulator.reset(scenario, WEATHERS[weather], seed)]
    for k in range(steps):
        shots.append(simulator.step(Control(0.05 * math.sin(k), 0.8, 0.0)))
    return shots


def _bytes(shot: Snapshot) -> bytes:
    ego = np.array([shot.ego.x, shot.ego.y, shot.ego.z, shot.ego.yaw, shot.ego.vx, shot.ego.vy, shot.ego.vz])
    images = shot.images
    parts = (images.rgb, images.semantic, images.instance, images.depth, shot.actors, ego)
    return b"".join(part.tobytes() for part in parts)


def test_says_what_it_is(simulator: Simulator) -> None:
    assert simulator.name in FACTORIES
    assert simulator.version
    assert simulator.renderer_version


def test_shapes_and_types(simulator: Simulator, scenario: Scenario) -> None:
    for shot in _drive(simulator, scenario, 1, 3):
        images = shot.images
        assert (images.rgb.shape, images.rgb.dtype) == ((SIZE, SIZE, 3), np.uint8)
        assert (images.semantic.shape, images.semantic.dtype) == ((SIZE, SIZE), np.uint8)
        assert (images.instance.shape, images.instance.dtype) == ((SIZE, SIZE), np.uint16)
        assert (images.depth.shape, images.depth.dtype) == ((SIZE, SIZE), np.float32)
        assert (shot.actors.ndim, shot.actors.shape[1], shot.actors.dtype) == (2, len(ACTOR_FIELDS), np.float32)
        assert np.isfinite(shot.actors).all()
        assert (images.depth > 0).all()
        assert (images.depth[images.semantic == SemanticClass.SKY] == 1e6).all()
        assert images.rgb.std() > 5


def test_ticks_count_steps(simulator: Simulator, scenario: Scenario) -> None:
    assert [shot.tick for shot in _drive(simulator, scenario, 1, 4)] == [0, 1, 2, 3, 4]


def test_actors_are_the_scenarios(simulator: Simulator, scenario: Scenario) -> None:
    shots = _drive(simulator, scenario, 5, 40)
    vehicles = sum(group.count for group in scenario.vehicles)
    names = [KINDS[int(kind)].name for kind in shots[0].actors[:, COLUMN["kind"]]]
    assert len(names) == vehicles + len(scenario.walkers)
    assert names.count("pedestrian") == len(scenario.walkers)
    for shot in shots:
        for column in ("id", "kind"):
            np.testing.assert_array_equal(shot.actors[:, COLUMN[column]], shots[0].actors[:, COLUMN[column]])
    ids = shots[0].actors[:, COLUMN["id"]]
    assert len(set(ids.tolist())) == len(ids)
    assert (ids > 0).all()
    for row in shots[0].actors:
        kind = KINDS[int(row[COLUMN["kind"]])]
        size = [row[COLUMN[name]] for name in ("length", "width", "height")]
        np.testing.assert_allclose(size, (kind.length, kind.width, kind.height), rtol=1e-6)


def test_instances_agree_with_actors_and_classes(simulator: Simulator, scenario: Scenario) -> None:
    seen = 0
    for seed in range(3):
        for shot in _drive(simulator, scenario, seed, 30)[::10]:
            kinds = {int(row[COLUMN["id"]]): KINDS[int(row[COLUMN["kind"]])].name for row in shot.actors}
            instance, semantic = shot.images.instance, shot.images.semantic
            for number in np.unique(instance[instance > 0]):
                found = set(np.unique(semantic[instance == number]).tolist())
                assert found <= CLASSES[kinds[int(number)]]
                seen += 1
            actor_classes = sorted(set().union(*CLASSES.values()))
            assert ((instance > 0) == np.isin(semantic, actor_classes)).all()
            assert semantic.max() <= max(SemanticClass)
    assert seen > 0


def test_pose_integrates_velocity(simulator: Simulator, scenario: Scenario) -> None:
    shots = _drive(simulator, scenario, 2, 40)
    for before, after in pairwise(shots):
        if after.collisions:
            break
        assert after.ego.x - before.ego.x == pytest.approx(after.ego.vx * DT, abs=0.02)
        assert after.ego.y - before.ego.y == pytest.approx(after.ego.vy * DT, abs=0.02)
    assert math.hypot(shots[-1].ego.vx, shots[-1].ego.vy) > 2


def test_same_seed_same_bytes(simulator: Simulator, scenario: Scenario) -> None:
    first, second = (_drive(simulator, scenario, 7, 25, scenario.weather) for _ in range(2))
    assert [_bytes(shot) for shot in first[::5]] == [_bytes(shot) for shot in second[::5]]
    other = _drive(simulator, scenario, 8, 25, scenario.weather)
    assert _bytes(first[0]) != _bytes(other[0])


def test_drawing_late_or_never_changes_nothing(simulator: Simulator, scenario: Scenario) -> None:
    at_once = []
    shot = simulator.reset(scenario, DAY, 3)
    for _ in range(20):
        at_once.append(_bytes(shot))
        shot = simulator.step(Control(0.1, 1.0, 0.0))
    late = [simulator.reset(scenario, DAY, 3)]
    for _ in range(19):
        late.append(simulator.step(Control(0.1, 1.0, 0.0)))
    late[4].actors[:] = 0.0  # the receiver's to spoil: it must not reach the picture
    pictures = [shot.images.rgb.tobytes() for shot in late]
    assert all(picture in whole for picture, whole in zip(pictures, at_once, strict=True))
    assert _bytes(late[-1]) == at_once[-1]


def test_arrays_are_fresh(simulator: Simulator) -> None:
    shot = simulator.reset(SCENARIOS["JayWalk"], DAY, 3)
    kept = shot.actors.copy()
    picture = shot.images.rgb.copy()
    later = simulator.step(Control(0.0, 1.0, 0.0))
    later.images.rgb[:] = 0
    later.actors[:] = 0
    np.testing.assert_array_equal(shot.actors, kept)
    np.testing.assert_array_equal(shot.images.rgb, picture)
    assert simulator.step(Control()).actors[:, COLUMN["id"]].all()


def test_published_start_has_no_jitter(simulator: Simulator, scenario: Scenario) -> None:
    jittered = [simulator.reset(scenario, DAY, seed) for seed in range(4)]
    assert any(abs(shot.lane.offset) > 0.05 for shot in jittered if shot.lane)
    for seed in range(4):
        shot = simulator.reset(scenario.published_start(), DAY, seed)
        lane = shot.lane
        assert lane is not None
        assert lane.offset == pytest.approx(0.0, abs=0.02)
        assert (lane.dx, lane.dy) == pytest.approx((math.cos(shot.ego.yaw), math.sin(shot.ego.yaw)), abs=0.01)
        assert lane.lane in scenario.ego.lanes
        assert scenario.ego.s[0] - 0.05 <= lane.s <= scenario.ego.s[1] + 0.05
        assert lane.road == scenario.ego.road


def test_lane_is_none_off_the_road(simulator: Simulator) -> None:
    shot = simulator.reset(SCENARIOS["JayWalk"], DAY, 0)
    assert shot.lane is not None
    for _ in range(200):
        shot = simulator.step(Control(1.0, 0.5, 0.0))
        if shot.lane is None:
            break
    assert shot.lane is None


def test_applied_control_is_reported(simulator: Simulator) -> None:
    simulator.reset(SCENARIOS["JayWalk"], DAY, 0)
    control = Control(-0.25, 0.5, 0.0)
    assert simulator.step(control).ego.control == control


def test_every_weather_can_be_seen(simulator: Simulator) -> None:
    mean = {}
    for name, weather in WEATHERS.items():
        shot = simulator.reset(SCENARIOS["HighBeam"], weather, 0)
        mean[name] = shot.images.rgb.mean()
        assert shot.images.rgb.std() > 5
    assert mean["midnight"] < 0.5 * mean["hard_high_light"]


def test_close_twice(simulator: Simulator) -> None:
    simulator.reset(SCENARIOS["JayWalk"], DAY, 0)
    simulator.close()
    simulator.close()
