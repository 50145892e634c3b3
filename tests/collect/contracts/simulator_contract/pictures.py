"""Pictures: sizes and types, classes, instances and depth that agree with the actors' table, and the weather."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np

from semore.collect.scenarios import WEATHERS, Scenario, Weather
from semore.collect.simulator import Simulator, Snapshot
from semore.datasets.rollouts.schema import ACTOR_FIELDS, KINDS, SemanticClass
from simulator_contract.base import DAY, SIZE, Contract, column, drive, kinds_of, weave

TAN = math.tan(math.radians(30.0))
"""Half of the camera's 60° (method.md §2.3); it looks ahead from 1 m before the ego's centre, 1.5 m up."""
CLASSES = {kind.name: {int(kind.semantic)} for kind in KINDS} | {
    "cyclist": {int(SemanticClass.BICYCLE), int(SemanticClass.RIDER)}
}


class Pictures(Contract):
    """What the camera shows."""

    def test_sizes_and_types(self, scenario: Scenario, size: int) -> None:
        simulator = self.make_simulator(size)
        for shot in drive(simulator, scenario, 1, 2, weave):
            images = shot.images
            assert (images.rgb.shape, images.rgb.dtype) == ((size, size, 3), np.uint8)
            assert (images.semantic.shape, images.semantic.dtype) == ((size, size), np.uint8)
            assert (images.instance.shape, images.instance.dtype) == ((size, size), np.uint16)
            assert (images.depth.shape, images.depth.dtype) == ((size, size), np.float32)
            assert (shot.actors.ndim, shot.actors.shape[1], shot.actors.dtype) == (2, len(ACTOR_FIELDS), np.float32)
            assert np.isfinite(shot.actors).all()
            assert images.rgb.std() > 5
        simulator.close()

    def test_classes_and_depth(self, simulator: Simulator, scenario: Scenario) -> None:
        for shot in drive(simulator, scenario, 2, 30, weave)[::10]:
            semantic, depth = shot.images.semantic, shot.images.depth
            assert set(np.unique(semantic).tolist()) <= {int(known) for known in SemanticClass}
            assert {int(SemanticClass.SKY), int(SemanticClass.ROAD)} <= set(np.unique(semantic).tolist())
            assert np.isfinite(depth).all()
            assert (depth > 0).all()
            sky = semantic == SemanticClass.SKY
            assert (depth[sky] == 1e6).all()
            assert (depth[~sky] < 1e6).all()
            assert sky[: SIZE // 4].mean() > sky[-SIZE // 4 :].mean() == 0.0

    def test_instances_are_the_actors(self, simulator: Simulator, scenario: Scenario) -> None:
        seen = 0
        actor_classes = sorted(set().union(*CLASSES.values()))
        for seed in range(3):
            for shot in drive(simulator, scenario, seed, 40, weave)[::10]:
                instance, semantic = shot.images.instance, shot.images.semantic
                assert ((instance > 0) == np.isin(semantic, actor_classes)).all()
                rows = {int(number): row for row, number in enumerate(column(shot, "id"))}
                for number in np.unique(instance[instance > 0]).tolist():
                    row = rows[number]  # an id in the picture is one of the table
                    shown = instance == number
                    assert set(np.unique(semantic[shown]).tolist()) <= CLASSES[kinds_of(shot)[row].name]
                    _assert_stands_there(shot, row, shown)
                    seen += 1
        assert seen > 0

    def test_every_weather_can_be_seen(self, simulator: Simulator, scenario: Scenario) -> None:
        pictures = {}
        for name in self.weathers:
            picture = simulator.reset(scenario, WEATHERS[name], 0).images.rgb.astype(float)
            assert picture.std() > 5, name
            pictures[name] = picture
        for one, other in combinations(pictures, 2):
            assert np.abs(pictures[one] - pictures[other]).mean() > 1.0, (one, other)
        if {"midnight", "hard_high_light"} <= set(pictures):
            assert pictures["midnight"].mean() < 0.5 * pictures["hard_high_light"].mean()

    def test_weather_changes_no_label(self, simulator: Simulator, weather: Weather) -> None:
        scenario = self.stage(None, 0.0)
        clear, under = (simulator.reset(scenario, sky, 0).images for sky in (DAY, weather))
        np.testing.assert_array_equal(under.semantic, clear.semantic)
        np.testing.assert_array_equal(under.instance, clear.instance)


def _assert_stands_there(shot: Snapshot, row: int, shown: np.ndarray) -> None:
    """The pixels of the actor in `row` lie where its box is seen from the camera, as far away as it is."""
    ego = shot.ego
    x, y, length, width, height = column(shot, "x", "y", "length", "width", "height")[row]
    dx, dy = x - ego.x, y - ego.y
    ahead = dx * math.cos(ego.yaw) + dy * math.sin(ego.yaw) - 1.0
    right = dy * math.cos(ego.yaw) - dx * math.sin(ego.yaw)
    reach = math.hypot(length, width, height) / 2 + 0.5
    depth = shot.images.depth[shown]
    far = math.hypot(ahead, right, 1.5 - height / 2)
    assert depth.min() >= far - reach
    assert depth.max() <= far + reach
    if ahead > 2 * reach:
        columns = (np.nonzero(shown)[1] + 0.5 - SIZE / 2) / (SIZE / 2) * TAN
        pixel = 2 * TAN / SIZE
        assert columns.min() >= (right - reach) / (ahead + math.copysign(reach, right - reach)) - pixel
        assert columns.max() <= (right + reach) / (ahead - math.copysign(reach, right + reach)) + pixel
