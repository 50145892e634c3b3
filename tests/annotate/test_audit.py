"""What an audit measures: hand-made frames whose every number is known, and invariants of random ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_oracle_rules import SIZE, actor, scene, write_rollouts

from semore.annotate.audit.failure_checks import failed_checks
from semore.annotate.audit.frames import read_frames, survey
from semore.annotate.audit.knowledge import audit_knowledge
from semore.annotate.audit.metrics import Overlap
from semore.annotate.audit.report import to_json
from semore.annotate.audit.truth import OTHER
from semore.annotate.interfaces import FrameBatch
from semore.annotate.pipeline import annotate_rollouts
from semore.annotate.registry import PRIVILEGED, make_producers
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.cache import KnowledgeCache, KnowledgeSet, SetManifest, ensure_set, open_set
from semore.datasets.knowledge.records import Status, Text, note, record_keys
from semore.datasets.rollouts.store import Episode, Rollouts, row_digests

DESCRIBER, SEGMENTER = {"kind": "hand-made describer"}, {"kind": "hand-made segmenter"}
WALKER, CAR = "pedestrian standing on the road", "car ahead"


def record(folder: Path, scenes: Sequence[FrameBatch], name: str = "hand-0", **attributes: str) -> Episode:
    """An episode of hand-made scenes, each with a picture of its own."""
    rollouts = Rollouts(folder)
    rollouts.create()
    arrays = {
        part: np.concatenate([getattr(one, part) for one in scenes])
        for part in ("semantic", "instance", "actors", "ego")
    }
    seed = [len(name), *name.encode()]
    arrays["rgb"] = np.random.default_rng(seed).integers(0, 256, (len(scenes), SIZE, SIZE, 3), np.uint8)
    arrays["digest"] = row_digests(arrays["rgb"])
    arrays["state_digest"] = row_digests(*(arrays[part] for part in ("ego", "actors", "semantic", "instance")))
    steps = len(scenes) - 1
    arrays["action"] = np.zeros((steps, 2), np.float32)
    for part in ("reward", "speed", "progress", "impulse"):
        arrays[part] = np.zeros(steps, np.float32)
    for part in ("terminated", "truncated"):
        arrays[part] = np.zeros(steps, np.bool_)
    rollouts.write(name, arrays, {"camera": SIZE, **attributes})
    return rollouts.episode(name)


Said = Mapping[str, np.ndarray | None]
"""A frame's phrases, each with its mask (H, W) uint8; None: the mask is missing."""


def know(root: Path, episode: Episode, said: Mapping[int, Said | Text], name: str = "hand") -> KnowledgeSet:
    """A knowledge set that says of each row of the episode what it is told; a Text instead: that, and no masks."""
    cache = KnowledgeCache(root)
    arrays = episode.read("digest", "state_digest")
    for row, answer in said.items():
        text = answer if isinstance(answer, Text) else Text(tuple(answer))
        frame, state = arrays["digest"][[row]], arrays["state_digest"][[row]]
        keys = record_keys("texts", DESCRIBER, frame, state)
        cache.texts.add(DESCRIBER, keys, frame, [text.status], [text.encode()])
        for phrase, mask in {} if isinstance(answer, Text) else answer.items():
            keys = record_keys("masks", SEGMENTER, frame, state, [phrase])
            if mask is not None:
                about = note(phrase=phrase, reason="")
                cache.masks.add(SEGMENTER, keys, frame, [Status.OK], [about], mask[None])
    cache.commit()
    return ensure_set(cache, name, SetManifest(DESCRIBER, SEGMENTER, None))


def box(row: int, first: int, last: int, value: int = 255) -> np.ndarray:
    """A mask (SIZE, SIZE) uint8 of the columns `first` to `last` (excluded) of one row."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[row, first:last] = value
    return mask


def street() -> FrameBatch:
    """A pedestrian 15 m ahead (16 pixels, row 0) and a car 30 m ahead (16 pixels, row 2)."""
    return scene(actor(1, "pedestrian", 15, -1), actor(2, "sedan", 30, 0))


def empty_street() -> FrameBatch:
    """The same two, behind us."""
    return scene(actor(1, "pedestrian", -15, -1), actor(2, "sedan", -30, 0), pixel={1: 0, 2: 0})


@pytest.fixture
def measured(tmp_path):
    """Two frames: the walker mostly found and 4 pixels beside it, a quarter of the car; then the car lost."""
    episode = record(tmp_path / "r.zarr", [street(), street(), empty_street()], weather="midnight")
    walker = box(0, 0, 12) | box(10, 0, 4)
    known = know(
        tmp_path / "k",
        episode,
        {0: {WALKER: walker, CAR: box(2, 0, 4)}, 1: {WALKER: walker, "traffic light": box(20, 0, 2)}, 2: {}},
    )
    return audit_knowledge(known, [episode])


class TestByHand:
    def test_overlap(self, measured):
        overall = measured.overall
        assert (overall.frames, overall.truth, overall.mask, overall.both) == (3, 64, 20 + 18, 16 + 12)
        assert overall.iou == pytest.approx(28 / 74)
        assert overall.precision == pytest.approx(28 / 38)
        assert overall.recall == pytest.approx(28 / 64)
        assert overall.coverage == pytest.approx(38 / (3 * SIZE * SIZE))
        assert measured.frame_iou == pytest.approx((16 / 36 + 12 / 38) / 2)
        assert measured.weathers == {"midnight": overall}

    def test_classes(self, measured):
        walker, car = measured.classes["pedestrian"], measured.classes["car"]
        assert (walker.actors, walker.recall, walker.object_recall, walker.naming) == (2, 0.75, 1.0, 1.0)
        assert (car.actors, car.recall, car.object_recall, car.naming) == (2, 4 / 32, 0.0, 0.5)
        assert measured.phrases_of_class("pedestrian").precision == pytest.approx(24 / 32)
        assert measured.phrases_of_class("car").precision == 1.0
        assert measured.phrases_of_class(OTHER).said == 1
        assert math.isnan(measured.phrases_of_class("ambulance").precision)

    def test_distances(self, measured):
        recalls = {band: actors.recall for band, actors in measured.distances.items() if actors.actors}
        assert recalls == {"10–20 m": 0.75, "20–40 m": 4 / 32}

    def test_change(self, measured):
        """Frame 0 → 1: 4 pixels of the car go, 2 of the light come, 16 stay; 1 → 2: all 18 go, and the true 32."""
        change = measured.change
        assert (change.pairs, change.mask, change.mask_union) == (2, 6 + 18, 22 + 18)
        assert (change.truth, change.truth_union) == (0 + 32, 32 + 32)
        assert change.flicker == pytest.approx(24 / 40 - 32 / 64)
        assert (measured.staying, measured.blinking) == (2, 0)

    def test_phrases(self, measured):
        walker, light = measured.phrases[WALKER], measured.phrases["traffic light"]
        assert (walker.said, walker.lit, walker.on_key) == (2, 2, 24)
        assert (light.said, light.lit, light.pixels) == (1, 0, 2)  # two pixels are nothing

    def test_rates(self, measured):
        assert (measured.shown, measured.empty, measured.absent, measured.alarms) == (2, 0, 1, 0)
        assert (measured.frames, measured.without) == (3, 0)


def test_empty_masks_and_false_alarms(tmp_path):
    episode = record(tmp_path / "r.zarr", [street(), street(), empty_street(), empty_street()])
    faint = box(0, 0, 16, value=100)
    known = know(tmp_path / "k", episode, {0: {WALKER: faint}, 1: {}, 2: {CAR: box(5, 0, 9)}, 3: {CAR: faint}})
    audit = audit_knowledge(known, [episode])
    assert (audit.empty_rate, audit.alarm_rate) == (1.0, 0.5)
    assert (audit.shown_named, audit.empty_named) == (1, 1)
    assert audit.peak == pytest.approx(100 / 255)
    lower = audit_knowledge(known, [episode], threshold=0.35)
    assert (lower.empty_rate, lower.alarm_rate) == (0.5, 1.0)


def test_an_actor_that_blinks(tmp_path):
    episode = record(tmp_path / "r.zarr", [street() for _ in range(4)])
    both, walker = {WALKER: box(0, 0, 16), CAR: box(2, 0, 16)}, {WALKER: box(0, 0, 16), CAR: box(9, 0, 0)}
    known = know(tmp_path / "k", episode, {0: both, 1: walker, 2: both, 3: both})
    assert audit_knowledge(known, [episode]).blink_rate == pytest.approx(2 / 6)


def test_only_near_frames_are_compared_for_change(tmp_path):
    episode = record(tmp_path / "r.zarr", [street() for _ in range(7)])
    exact = {WALKER: box(0, 0, 16), CAR: box(2, 0, 16)}
    known = know(tmp_path / "k", episode, {0: exact, 2: {}, 5: exact, 6: Text((), Status.EMPTY, "")})
    audit = audit_knowledge(known, [episode])
    assert (audit.change.pairs, audit.change.of_mask, audit.change.of_truth) == (1, 1.0, 0.0)


def test_frames_without_knowledge_are_counted_and_left_out(tmp_path):
    episode = record(tmp_path / "r.zarr", [street() for _ in range(6)])
    said = {
        0: {WALKER: box(0, 0, 16), CAR: box(2, 0, 16)},
        1: Text((), Status.EMPTY, "no list"),
        2: Text((), Status.FAILED, "time-out"),
        3: {WALKER: box(0, 0, 16), CAR: None},
    }
    audit = audit_knowledge(know(tmp_path / "k", episode, said), [episode])
    assert audit.texts == {"ok": 2, "empty": 1, "failed": 1, "missing": 2}
    assert (audit.frames, audit.without, audit.overall.frames, audit.overall.iou) == (4, 3, 1, 1.0)
    assert audit.reasons == {
        "text empty: no list": 1,
        "text failed: time-out": 1,
        f"no mask of “{CAR}”: missing": 1,
    }
    assert [math.isnan(score.iou) for score in audit.scores] == [False, True, True, True]


def test_weathers_apart(tmp_path):
    day = record(tmp_path / "r.zarr", [street(), street()], "day-0", weather="day")
    night = record(tmp_path / "r.zarr", [street(), street()], "night-0", weather="night")
    exact = {WALKER: box(0, 0, 16), CAR: box(2, 0, 16)}
    know(tmp_path / "k", day, {0: exact, 1: exact})
    known = know(tmp_path / "k", night, {0: {CAR: box(2, 0, 16)}, 1: {CAR: box(2, 0, 16)}})
    audit = audit_knowledge(known, [day, night])
    assert {name: overlap.iou for name, overlap in audit.weathers.items()} == {"day": 1.0, "night": 0.5}


def test_nothing_described_is_an_error_that_can_be_mended(tmp_path):
    episode = record(tmp_path / "r.zarr", [street(), street()])
    with pytest.raises(SemoreError, match="annotate them first"):
        audit_knowledge(know(tmp_path / "k", episode, {}), [episode])
    with pytest.raises(SemoreError, match="threshold"):
        audit_knowledge(know(tmp_path / "k", episode, {}), [episode], threshold=1.0)


@pytest.fixture(scope="module")
def privileged(tmp_path_factory) -> tuple[KnowledgeSet, list[Episode]]:
    folder = tmp_path_factory.mktemp("audit")
    rollouts = write_rollouts(folder / "r.zarr", episodes=2)
    cache = KnowledgeCache(folder / "knowledge")
    annotate_rollouts([rollouts.path], cache, "privileged", make_producers(PRIVILEGED), quiet=True)
    return open_set(folder / "knowledge", "privileged"), list(rollouts.episodes())


def test_the_truth_audited_against_itself_is_perfect(privileged):
    audit = audit_knowledge(*privileged)
    overall = audit.overall
    assert (overall.iou, overall.precision, overall.recall, audit.frame_iou) == (1.0, 1.0, 1.0, 1.0)
    assert (audit.empty, audit.alarms, audit.without, audit.blinking) == (0, 0, 0, 0)
    assert audit.change.flicker == 0.0
    assert audit.shown > 60
    for name in ("pedestrian", "cyclist", "car", "ambulance"):
        own, said = audit.classes[name], audit.phrases_of_class(name)
        assert own.actors > 0
        assert (own.recall, own.object_recall, own.naming, said.precision) == (1.0, 1.0, 1.0, 1.0)
    assert failed_checks(audit) == []


def test_the_truth_is_what_the_privileged_producers_say(privileged):
    knowledge, episodes = privileged
    for episode in episodes:
        for part in read_frames(knowledge, episode, np.arange(episode.steps + 1)):
            h_ka, valid = knowledge.h_ka(part.batch.frames, part.batch.states, size=(SIZE, SIZE))
            assert (part.truth.mask == (h_ka > 0)).all()
            assert (part.h_ka == h_ka).all()
            assert (part.valid == valid).all()
            assert part.truth.phrases == [tuple(part.phrases_of(frame)) for frame in range(len(part.rows))]


def test_json_is_plain_and_says_null_for_nothing(privileged):
    value = to_json(audit_knowledge(*privileged, frames=10))
    assert value["overall"]["iou"] == 1.0
    assert value["classes"]["fire truck"]["recall"] is None
    assert value["sample"]["frames"] == 10
    assert value["warnings"] == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))
def test_iou_is_at_most_precision_and_recall(seed, mask_share, truth_share):
    rng = np.random.default_rng(seed)
    mask, truth = rng.random((2, 8, 8)) < mask_share, rng.random((2, 8, 8)) < truth_share
    overlap = Overlap()
    overlap.add(mask, truth)
    ratios = (overlap.iou, overlap.precision, overlap.recall, overlap.coverage)
    assert all(math.isnan(ratio) or 0 <= ratio <= 1 for ratio in ratios)
    if mask.any() and truth.any():
        assert overlap.iou <= min(overlap.precision, overlap.recall)
        assert overlap.iou == pytest.approx((mask & truth).sum() / (mask | truth).sum())


def test_the_survey_counts_every_frame(privileged):
    knowledge, episodes = privileged
    described, texts = survey(knowledge, episodes)
    assert sum(map(len, described)) == texts["ok"] == texts.total() == sum(one.steps + 1 for one in episodes)
