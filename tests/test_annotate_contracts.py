"""The contract of each seam, run against every implementation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_annotate_scenes import SIZE, actor, scene, write_rollouts

from annotate.engine import FRAME_SOURCES
from annotate.producers import DESCRIBERS, JUDGES, SEGMENTERS, make_producers
from annotate.seams import MAX_PHRASES, FrameBatch
from datasets.errors import SemoreError
from datasets.knowledge_records import INVALID, Status


@pytest.fixture(scope="module")
def batch(tmp_path_factory) -> FrameBatch:
    rollouts = write_rollouts(tmp_path_factory.mktemp("r") / "r.zarr", episodes=1)
    arrays = next(rollouts.episodes()).read(*FRAME_SOURCES)
    return FrameBatch(*(arrays[source] for source in FRAME_SOURCES))


def identities():
    made = [make() for table in (DESCRIBERS, SEGMENTERS, JUDGES) for make in table.values()]
    return [producer for producer in made if producer is not None]


def grey(batch: FrameBatch) -> FrameBatch:
    """The same pictures with the privileged side wiped."""
    blank = (np.zeros_like(array) for array in (batch.semantic, batch.instance, batch.actors, batch.ego))
    return FrameBatch(batch.rgb, batch.frames, batch.states, *blank)


@pytest.mark.parametrize("producer", identities(), ids=lambda producer: type(producer).__name__)
class TestIdentity:
    def test_it_is_json_with_a_kind_and_says_whether_it_is_privileged(self, producer):
        identity = dict(producer.identity)
        assert json.loads(json.dumps(identity)) == identity
        assert isinstance(identity["kind"], str)
        assert isinstance(identity["privileged"], bool)

    def test_it_is_the_same_each_time(self, producer):
        assert producer.identity == type(producer)().identity


@pytest.mark.parametrize("name", DESCRIBERS)
class TestDescriber:
    def test_one_answer_per_frame_within_bounds(self, name, batch):
        answers = DESCRIBERS[name]().describe(batch)
        assert len(answers) == len(batch)
        for answer in answers:
            assert len(answer.phrases) <= MAX_PHRASES
            assert len(set(answer.phrases)) == len(answer.phrases)
            assert all(phrase == phrase.strip() and phrase for phrase in answer.phrases)
            assert answer.status == Status.OK or not answer.phrases

    def test_a_batch_equals_single_frames_and_is_repeatable(self, name, batch):
        describer = DESCRIBERS[name]()
        together = describer.describe(batch)
        assert list(together) == [describer.describe(batch.take([row]))[0] for row in range(len(batch))]
        assert list(together) == list(describer.describe(batch))

    def test_unprivileged_ones_look_at_pixels_only(self, name, batch):
        describer = DESCRIBERS[name]()
        if not describer.identity["privileged"]:
            assert list(describer.describe(batch)) == list(describer.describe(grey(batch)))


@pytest.mark.parametrize("name", SEGMENTERS)
class TestSegmenter:
    phrases = ("car ahead", "pedestrian crossing the road")

    def test_one_mask_per_phrase_in_order(self, name, batch):
        segmenter = SEGMENTERS[name]()
        asked = [self.phrases[: row % 3] for row in range(len(batch))]
        masks = segmenter.segment(batch, asked)
        assert masks.dtype == np.uint8
        assert masks.shape == (sum(map(len, asked)), SIZE, SIZE)
        one_by_one = [segmenter.segment(batch.take([row]), [asked[row]]) for row in range(len(batch))]
        assert (masks == np.concatenate(one_by_one)).all()

    def test_nothing_asked_nothing_given(self, name, batch):
        assert len(SEGMENTERS[name]().segment(batch.take([0, 1]), [(), ()])) == 0

    def test_an_absent_object_leaves_the_mask_dark(self, name, batch):
        (mask,) = SEGMENTERS[name]().segment(scene(actor(1, "sedan", 20, 0)), [["oncoming ambulance"]])
        assert mask.mean() < 0.1 * 255


@pytest.mark.parametrize("name", [name for name in JUDGES if name != "none"])
class TestJudge:
    def test_one_verdict_per_frame(self, name, batch):
        judge = JUDGES[name]()
        assert judge is not None
        words = ["straight, brake", "steer left, throttle"] * (len(batch) // 2)
        verdicts = judge.judge(batch, words)
        assert len(verdicts) == len(batch)
        for verdict in verdicts:
            assert verdict.value in (0, 1, INVALID)
            assert (verdict.value == INVALID) == (verdict.status != Status.OK)


def test_unknown_names_list_the_choices():
    with pytest.raises(SemoreError, match="unknown describer 'qwen'; this version has: privileged"):
        make_producers(describer="qwen")
    with pytest.raises(SemoreError, match="segmenter"):
        make_producers(segmenter="x")
    with pytest.raises(SemoreError, match="privileged, none"):
        make_producers(judge="x")
