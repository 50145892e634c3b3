"""Raw camera buffers become the Images the embedded renderer gives, whatever the engine calls its objects."""

from __future__ import annotations

import math

import numpy as np
import pytest

from semore.collect.carla.classes import CLASS_OF, class_table
from semore.collect.carla.messages import CAMERAS
from semore.collect.carla.pictures import FAR, decode
from semore.collect.embedded.world import EmbeddedSimulator
from semore.collect.scenarios import SCENARIOS, WEATHERS
from semore.collect.simulator import Control, Images, Snapshot
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import SemanticClass

LABELS = {name: 2 * number + 3 for number, name in enumerate([*CLASS_OF, "Static", "TrafficSigns"])}
TAGS = {semantic: LABELS[name] for name, semantic in reversed(CLASS_OF.items())} | {
    SemanticClass.OTHER: LABELS["Static"]
}
SIZE = 96


def encode(images: Images) -> np.ndarray:
    """(4, H, W, 4) BGRA as CARLA's cameras send these pictures, objects numbered by the engine in its own way."""
    raw = np.full((4, SIZE, SIZE, 4), 255, np.uint8)
    tags = np.vectorize(lambda semantic: TAGS[SemanticClass(semantic)])(images.semantic)
    raw[0, ..., :3] = images.rgb[..., ::-1]
    raw[1, ..., 2] = raw[2, ..., 2] = tags
    engine = (images.instance.astype(np.uint32) * 40_503 + images.semantic) % 65_536  # rider and bicycle: two objects
    raw[2, ..., 1], raw[2, ..., 0] = engine & 255, engine >> 8
    across = (np.arange(SIZE) + 0.5 - SIZE / 2) / (SIZE / 2) * math.tan(math.radians(30))
    ahead = images.depth / np.sqrt(1 + across[None] ** 2 + across[:, None] ** 2)
    steps = np.rint(np.minimum(ahead / FAR, 1.0) * (2**24 - 1)).astype(np.uint32)
    raw[3, ..., 2], raw[3, ..., 1], raw[3, ..., 0] = steps & 255, steps >> 8 & 255, steps >> 16
    return raw


def eye(shot: Snapshot) -> np.ndarray:
    """Where the embedded camera stands, as CARLA's matrices are."""
    cos, sin = math.cos(shot.ego.yaw), math.sin(shot.ego.yaw)
    turn = np.array([[cos, -sin, 0, 0], [sin, cos, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    turn[:3, 3] = shot.ego.x + cos, shot.ego.y + sin, 1.5
    return turn


@pytest.mark.parametrize("name", SCENARIOS)
def test_decoding_gives_back_what_was_encoded(name: str) -> None:
    simulator, seen = EmbeddedSimulator(SIZE), 0
    for seed in range(3):
        shot = simulator.reset(SCENARIOS[name], WEATHERS["hard_high_light"], seed)
        for _ in range(12):
            for _ in range(10):
                shot = simulator.step(Control(0.0, 0.5))
            wanted = shot.images
            found = decode(encode(wanted), CAMERAS, class_table(LABELS), eye(shot), shot.actors, shot.ego)
            np.testing.assert_array_equal(found.rgb, wanted.rgb)
            np.testing.assert_array_equal(found.semantic, wanted.semantic)
            np.testing.assert_allclose(found.depth, wanted.depth, rtol=1e-3, atol=1e-3)
            np.testing.assert_array_equal(found.instance, wanted.instance)
            seen += len(np.unique(wanted.instance)) - 1
    assert seen > 10


def test_strangers_have_no_number_and_the_ego_is_no_car() -> None:
    simulator = EmbeddedSimulator(SIZE)
    shot = simulator.reset(SCENARIOS["HighBeam"], WEATHERS["hard_high_light"], 1)
    assert shot.images.instance.any()
    table, raw = class_table(LABELS), encode(shot.images)
    nobody = decode(raw, CAMERAS, table, eye(shot), shot.actors[:0], shot.ego)
    assert not nobody.instance.any()
    np.testing.assert_array_equal(nobody.semantic, shot.images.semantic)
    raw[1:3, -4:, :, 2], raw[2, -4:, :, :2], raw[3, -4:, :, :3] = TAGS[SemanticClass.CAR], 77, (0, 16, 0)  # 0.24 m away
    bonnet = decode(raw, CAMERAS, table, eye(shot), shot.actors, shot.ego)
    assert (bonnet.semantic[-4:] == SemanticClass.OTHER).all()
    assert not bonnet.instance[-4:].any()


def test_labels_are_known_by_name_and_missing_ones_named() -> None:
    table = class_table(LABELS)
    assert table[LABELS["Bus"]] == SemanticClass.TRUCK
    assert table[LABELS["TrafficSigns"]] == table[0] == SemanticClass.OTHER
    with pytest.raises(SemoreError, match="Rider"):
        class_table({name: tag for name, tag in LABELS.items() if name != "Rider"})


def test_a_camera_left_out_is_named() -> None:
    simulator = EmbeddedSimulator(SIZE)
    shot = simulator.reset(SCENARIOS["JayWalk"], WEATHERS["normal"], 1)
    with pytest.raises(SemoreError, match="semantic"):
        decode(encode(shot.images)[:1], CAMERAS[:1], class_table(LABELS), eye(shot), shot.actors, shot.ego)
