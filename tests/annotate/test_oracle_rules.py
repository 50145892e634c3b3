"""Hand-made scenes (also for the other annotate tests), and what the privileged rules say of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from semore.annotate.interfaces import FrameBatch
from semore.annotate.oracle.describer import PrivilegedDescriber
from semore.annotate.oracle.judge import PrivilegedJudge
from semore.annotate.oracle.rules import PHRASES, look, pixels
from semore.annotate.oracle.segmenter import PrivilegedSegmenter
from semore.datasets.rollouts.schema import ACTOR_FIELDS, EGO_FIELDS, KIND_INDEX, KINDS
from semore.datasets.rollouts.store import Rollouts, row_digests

SIZE = 32
EAST = {"x": 0.0, "y": 0.0, "yaw": 0.0, "lane_dx": 1.0, "lane_dy": 0.0, "lane_offset": 0.0, "lane_width": 4.0}


def actor(number: int, kind: str, x: float, y: float, **state: float) -> dict[str, float]:
    """An actor's row as a dict; x metres ahead and y to the right of an ego at the origin facing east."""
    box = KINDS[KIND_INDEX[kind]]
    sizes = {"length": box.length, "width": box.width, "height": box.height}
    return dict.fromkeys(ACTOR_FIELDS, 0.0) | sizes | {"id": number, "kind": KIND_INDEX[kind], "x": x, "y": y} | state


def scene(*actors: dict[str, float], pixel: dict[int, int] | None = None, **ego: float) -> FrameBatch:
    """A batch of one frame; each actor covers 2 rows of 8 pixels, or as many pixels as `pixel[id]` says."""
    instance = np.zeros((1, SIZE, SIZE), np.uint16)
    for index, one in enumerate(actors):
        shown = 16 if pixel is None else pixel.get(int(one["id"]), 16)
        instance[0].reshape(-1)[index * 64 : index * 64 + shown] = int(one["id"])
    rows = [[one[field] for field in ACTOR_FIELDS] for one in actors]
    pose = dict.fromkeys(EGO_FIELDS, 0.0) | EAST | ego
    return batch_of(
        instance,
        np.array(rows, np.float32).reshape(1, -1, len(ACTOR_FIELDS)),
        np.array([[pose[field] for field in EGO_FIELDS]], np.float32),
    )


def batch_of(instance: np.ndarray, actors: np.ndarray, ego: np.ndarray, seed: int = 0) -> FrameBatch:
    semantic = (instance > 0).astype(np.uint8)
    rgb = np.random.default_rng(seed).integers(0, 256, (*instance.shape, 3), np.uint8)
    return FrameBatch(
        rgb, row_digests(rgb), row_digests(ego, actors, semantic, instance), semantic, instance, actors, ego
    )


def write_rollouts(path: Path, episodes: int = 3, steps: int = 39, seed: int = 0) -> Rollouts:
    """Rollouts in which a car, a lit ambulance, a pedestrian and a cyclist move about; frames 0 and 1 are the same."""
    rollouts = Rollouts(path)
    rollouts.create()
    for number in range(episodes):
        rng = np.random.default_rng((seed, number))
        frames = []
        for _ in range(steps + 1):
            one = actor(1, "sedan", rng.uniform(5, 60), 0.0, vx=5.0)
            two = actor(2, "ambulance", rng.uniform(5, 60), -4.0, yaw=math.pi, lights=1.0)
            three = actor(3, "pedestrian", rng.uniform(5, 50), rng.uniform(-9, 9), vy=rng.uniform(-2, 2))
            four = actor(4, "cyclist", rng.uniform(-5, 60), 1.0)
            shown = {index: int(rng.integers(0, 30)) for index in range(1, 5)}
            frames.append(scene(one, two, three, four, pixel=shown, vx=rng.uniform(0, 12)))
        frames[1] = frames[0]
        arrays = {
            name: np.concatenate([getattr(frame, name) for frame in frames])
            for name in ("semantic", "instance", "actors", "ego")
        }
        arrays["rgb"] = rng.integers(0, 256, (steps + 1, SIZE, SIZE, 3), np.uint8)
        arrays["rgb"][1] = arrays["rgb"][0]
        arrays["digest"] = row_digests(arrays["rgb"])
        arrays["state_digest"] = row_digests(*(arrays[name] for name in ("ego", "actors", "semantic", "instance")))
        arrays["action"] = rng.uniform(-1, 1, (steps, 2)).astype(np.float32)
        arrays["action"][1] = arrays["action"][0]
        for name in ("reward", "speed", "progress", "impulse"):
            arrays[name] = np.zeros(steps, np.float32)
        for name in ("terminated", "truncated"):
            arrays[name] = np.zeros(steps, np.bool_)
        rollouts.write(f"test-{number:04d}", arrays, {"camera": SIZE})
    return rollouts


def said(batch: FrameBatch) -> tuple[str, ...]:
    (text,) = PrivilegedDescriber().describe(batch)
    return text.phrases


@pytest.mark.parametrize(
    ("who", "phrase"),
    [
        (actor(1, "pedestrian", 15, -1, vy=1.5), "pedestrian crossing the road"),
        (actor(1, "pedestrian", 15, -1, vx=1.5), "pedestrian walking on the road"),
        (actor(1, "pedestrian", 15, -1), "pedestrian standing on the road"),
        (actor(1, "pedestrian", 15, 5), "pedestrian at the roadside"),
        (actor(1, "pedestrian", 15, 5, vy=1.5), "pedestrian at the roadside"),
        (actor(1, "pedestrian", 15, 5, vy=-1.5), "pedestrian about to cross the road"),
        (actor(1, "pedestrian", 15, -9, vy=1.5), "pedestrian about to cross the road"),
        (actor(1, "pedestrian", 15, 1, down=1), "pedestrian lying on the road"),
        (actor(1, "cyclist", 20, 0.5, vx=4), "cyclist ahead"),
        (actor(1, "sedan", 20, 0), "car ahead"),
        (actor(1, "electric SUV", 20, 0), "car ahead"),
        (actor(1, "police car", 20, 0), "police car ahead"),
        (actor(1, "ambulance", 20, -4), "ambulance in the left lane"),
        (actor(1, "muscle car", 20, 4), "car in the right lane"),
        (actor(1, "sedan", 20, -8), "car on the far left"),
        (actor(1, "sedan", 20, 8), "car on the far right"),
        (actor(1, "sedan", 20, 0, yaw=math.pi / 2), "car across the road"),
        (actor(1, "fire truck", 40, -4, yaw=math.pi), "oncoming fire truck"),
        (actor(1, "fire truck", 40, -4, yaw=math.pi, lights=1), "oncoming fire truck with headlights on"),
        (actor(1, "sedan", 20, 0, lights=1), "car ahead"),
    ],
)
def test_one_actor_is_named_as_people_would(who, phrase):
    assert said(scene(who)) == (phrase,)
    assert phrase in PHRASES


@pytest.mark.parametrize("turn", [0.0, 1.0, math.pi, -2.5])
def test_names_do_not_depend_on_the_compass(turn):
    """The same scene rotated: CARLA's frame is left-handed, right of travel is (−sin, cos) of the yaw."""
    forward, right = (math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))

    def placed(who: dict[str, float]) -> dict[str, float]:
        moved = {axis: who["x"] * forward[i] + who["y"] * right[i] + 100 for i, axis in enumerate(("x", "y"))} | {
            axis: who["vx"] * forward[i] + who["vy"] * right[i] for i, axis in enumerate(("vx", "vy"))
        }
        return who | moved | {"yaw": who["yaw"] + turn}

    actors = [
        actor(1, "ambulance", 20, 4),
        actor(2, "pedestrian", 25, 5, vy=-1.5),
        actor(3, "sedan", 30, -4, yaw=math.pi),
    ]
    pose = {"x": 100.0, "y": 100.0, "yaw": turn, "lane_dx": forward[0], "lane_dy": forward[1]}
    assert said(scene(*map(placed, actors), **pose)) == said(scene(*actors))
    assert said(scene(*actors)) == ("ambulance in the right lane", "pedestrian about to cross the road", "oncoming car")


def test_driving_on_the_wrong_side_things_are_still_seen_from_the_ego():
    """The lane frame is then the oncoming lane's: its direction points at us."""
    pose = {"lane_dx": -1.0, "lane_offset": 0.0}
    assert said(scene(actor(1, "sedan", 20, 0, yaw=math.pi), **pose)) == ("oncoming car",)
    assert said(scene(actor(1, "sedan", 20, 4), **pose)) == ("car in the right lane",)
    assert said(scene(actor(1, "pedestrian", 20, 7), **pose)) == ("pedestrian at the roadside",)
    assert said(scene(actor(1, "pedestrian", 20, -1), **pose)) == ("pedestrian standing on the road",)


@pytest.mark.parametrize(
    "who",
    [
        actor(1, "pedestrian", 15, 16),  # far from the road
        actor(1, "pedestrian", 70, 0),  # too far ahead
        actor(1, "sedan", 120, 0),
        actor(1, "sedan", -10, 0),  # behind
        actor(1, "sedan", 20, 40),
        actor(1, "sedan", math.nan, math.nan),
    ],
)
def test_what_does_not_matter_is_not_named(who):
    (text,) = PrivilegedDescriber().describe(scene(who))
    assert (text.phrases, text.status.name) == ((), "OK")


def test_hidden_actors_are_not_named():
    assert said(scene(actor(1, "sedan", 20, 0), pixel={1: 3})) == ()
    assert said(scene(actor(1, "sedan", 20, 0), pixel={1: 4})) == ("car ahead",)


def test_nearest_first_once_each_at_most_eight():
    cars = [actor(index, "sedan", 90 - index, 0) for index in range(1, 4)]
    assert said(scene(*cars, actor(9, "pedestrian", 10, 5))) == ("pedestrian at the roadside", "car ahead")
    kinds = ("sedan", "police car", "fire truck", "ambulance", "cyclist")
    many = [actor(1 + index, kinds[index % 5], 10 + index, -4.0 * (index // 5)) for index in range(10)]
    assert len(said(scene(*many))) == 8


def test_actors_who_share_a_phrase_share_its_mask():
    batch = scene(actor(1, "sedan", 20, 0), actor(2, "muscle car", 40, 0), actor(3, "pedestrian", 10, 5))
    masks = PrivilegedSegmenter().segment(batch, [said(batch)])
    assert masks.shape == (2, SIZE, SIZE)
    assert ((masks[0] > 0) == (batch.instance[0] == 3)).all()
    assert ((masks[1] > 0) == np.isin(batch.instance[0], (1, 2))).all()
    assert set(np.unique(masks)) == {0, 255}


def test_no_lane_frame_and_no_actors_are_no_trouble():
    lost = dict.fromkeys(("lane_dx", "lane_dy", "lane_offset", "lane_width"), math.nan)
    assert said(scene(actor(1, "sedan", 20, 0), **lost)) == ("car ahead",)
    assert said(scene()) == ()
    (text,) = PrivilegedDescriber().describe(scene(x=math.nan))
    assert text.status.name == "FAILED"


def test_pixels_are_counted_per_id():
    rng = np.random.default_rng(0)
    instance = rng.choice(np.array([0, 7, 9, 60_000], np.uint16), (3, 8, 8))
    ids = np.array([[7, 60_000, 0], [9, 7, 3], [0, 0, 9]])
    expected = [
        [int((frame == one).sum()) if one else 0 for one in row] for frame, row in zip(instance, ids, strict=True)
    ]
    assert pixels(instance, ids).tolist() == expected


LEFT, STRAIGHT, RIGHT = "steer left", "straight", "steer right"


@pytest.mark.parametrize(
    ("batch", "words", "verdict"),
    [
        (scene(vx=8), "straight, keep speed", 1),
        (scene(actor(1, "pedestrian", 10, 0), vx=8), "straight, keep speed", 0),
        (scene(actor(1, "pedestrian", 10, 0), vx=8), "straight, throttle", 0),
        (scene(actor(1, "pedestrian", 10, 0), vx=8), "straight, brake", 1),
        (scene(actor(1, "pedestrian", 45, 0), vx=8), "straight, throttle", 1),  # beyond braking distance
        (scene(actor(1, "pedestrian", 10, 5), vx=8), "straight, keep speed", 1),  # beside the path
        (scene(actor(1, "pedestrian", 10, 3, vy=-2.5), vx=8), "straight, keep speed", 0),  # steps into it
        (scene(actor(1, "pedestrian", -10, 0), vx=8), "straight, keep speed", 1),  # behind
        (scene(actor(1, "sedan", 12, 0, vx=8), vx=8), "straight, keep speed", 1),  # as fast as we are
        (scene(actor(1, "sedan", 12, 0, vx=1), vx=9), "straight, keep speed", 0),
        (scene(vx=1), "straight, brake", 0),  # nothing ahead
        (scene(vx=9), "straight, brake", 1),  # not slow
        (scene(actor(1, "pedestrian", 12, 0), vx=1), "straight, brake", 1),
        (scene(vx=8, lane_offset=1.5), "steer right, keep speed", 0),
        (scene(vx=8, lane_offset=1.5), "steer left, keep speed", 1),
        (scene(vx=8, lane_offset=-1.5), "steer left, throttle", 0),
        (scene(vx=8, lane_offset=1.8, yaw=0.2), "straight, keep speed", 0),  # drives out of the lane
        (scene(vx=8, lane_offset=1.8, yaw=0.2), "straight, brake", 1),
        (scene(vx=1, lane_offset=1.0), "steer right, throttle", 1),  # too slow to leave it soon
        (scene(vx=5, lane_dx=math.nan), "straight, keep speed", 255),
    ],
)
def test_verdicts(batch, words, verdict):
    (answer,) = PrivilegedJudge().judge(batch, [words])
    assert answer.value == verdict
    assert bool(answer.reason) == (verdict == 255)


def test_rules_are_fast_enough():
    """≤ 150 µs a frame in the brief; here with a wide margin for a busy machine."""
    import time

    frame = scene(*(actor(1 + index, "sedan", 10 + index, 0) for index in range(20)))
    batch = frame.take(np.zeros(128, np.int64))
    look(batch)
    start = time.perf_counter()
    PrivilegedDescriber().describe(batch)
    assert (time.perf_counter() - start) / 128 < 1e-3
