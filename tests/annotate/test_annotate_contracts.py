"""The contract of each seam, for every implementation: learned ones on tiny checkpoints and a loopback server."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import tiny_clipseg
import tiny_qwen2vl
import torch
from loopback_openai import Loopback, say
from test_cris_segmenter import LightNetwork
from test_oracle_rules import SIZE, actor, scene, write_rollouts

from semore.annotate.annotator import Annotator
from semore.annotate.interfaces import MAX_PHRASES, FrameBatch, Producers
from semore.annotate.pipeline import make_annotator
from semore.annotate.registry import DESCRIBERS, JUDGES, SEGMENTERS, make_producers
from semore.annotate.segment.cris.segmenter import CrisSegmenter
from semore.annotate.settings import ClipSegSettings, CrisSettings, EndpointSettings, ProducerSettings, QwenSettings
from semore.annotate.summary import Summary
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.cache import KnowledgeCache
from semore.datasets.knowledge.records import INVALID, Status
from semore.datasets.rollouts.store import Rollouts

WORDS = ["straight, brake", "steer left, throttle"]
TRAINED = ("privileged", "cris-tiny")
"""Segmenters whose masks mean something; the others here have random weights."""


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory) -> Rollouts:
    return write_rollouts(tmp_path_factory.mktemp("r") / "r.zarr", episodes=1, steps=7)


@pytest.fixture(scope="module")
def batch(rollouts) -> FrameBatch:
    return FrameBatch.read(next(rollouts.episodes()), privileged=True)


@pytest.fixture(scope="module")
def make(tmp_path_factory) -> Iterator[Callable[[str, str], object]]:
    """make(role, name): a new producer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder: Path = tmp_path_factory.mktemp("models")
    qwen = str(tiny_qwen2vl.build(folder / "qwen"))
    clipseg = str(tiny_clipseg.build(folder / "clipseg"))
    with Loopback(lambda asked: say("1" if "reasonable" in asked.prompt else "- a car\n- a person")) as server:

        def made(role: str, name: str) -> object:
            if name == "cris":
                return CrisSegmenter.of(LightNetwork(), CrisSettings())
            settings = ProducerSettings(
                name if role == "describer" else "privileged",
                name if role == "segmenter" else "privileged",
                name if role == "judge" else "privileged",
                qwen=QwenSettings(model=qwen, upscale=56, max_new_tokens=6),
                endpoint=EndpointSettings(url=server.url, model="tiny", upscale=56),
                clipseg=ClipSegSettings(model=clipseg),
            )
            return getattr(make_producers(settings), role)

        yield made
    torch.set_num_threads(threads)


def grey(batch: FrameBatch) -> FrameBatch:
    """The same pictures with the privileged side wiped."""
    blank = (np.zeros_like(array) for array in (batch.semantic, batch.instance, batch.actors, batch.ego))
    return FrameBatch(batch.rgb, batch.frames, batch.states, *blank)


EVERYBODY = [
    *(("describer", name) for name in DESCRIBERS),
    *(("segmenter", name) for name in SEGMENTERS),
    *(("judge", name) for name in JUDGES if name != "none"),
]


@pytest.mark.parametrize(("role", "name"), EVERYBODY)
class TestIdentity:
    def test_it_is_json_with_a_role_and_a_kind_and_says_whether_it_is_privileged(self, make, role, name):
        identity = dict(make(role, name).identity)
        assert json.loads(json.dumps(identity)) == identity
        assert identity["role"] == role
        assert identity["kind"] == name
        assert identity["privileged"] is (name == "privileged")

    def test_it_is_the_same_each_time_and_loading_changes_nothing(self, make, role, name):
        producer = make(role, name)
        before = producer.identity
        producer.load()
        producer.load()
        assert producer.identity == before
        if name != "cris":  # its stand-in is made with random weights each time
            assert make(role, name).identity == before


def answer(producer: object, batch: FrameBatch) -> object:
    """What a producer of any role says of the first two frames."""
    two, role = batch.take([0, 1]), producer.identity["role"]
    if role == "segmenter":
        return producer.segment(two, [["car ahead"]] * 2).tolist()
    return list(producer.describe(two) if role == "describer" else producer.judge(two, WORDS))


@pytest.mark.parametrize(("role", "name"), EVERYBODY)
def test_a_copy_travels_without_weights_and_answers_the_same(make, role, name, batch):
    producer = make(role, name)
    packed = pickle.dumps(producer)
    said = answer(producer, batch)  # loads the weights
    if name != "cris":  # its stand-in came from no file, and counts what it is asked
        assert pickle.dumps(producer) == packed
    copy = pickle.loads(pickle.dumps(producer))
    assert copy.identity == producer.identity
    assert answer(copy, batch) == said


def test_describer_and_judge_share_their_engine_on_the_other_side_too(make):
    describer, judge = make("describer", "endpoint"), make("judge", "endpoint")
    judge._engine = describer._engine
    copy = pickle.loads(pickle.dumps(Producers(describer, make("segmenter", "privileged"), judge)))
    assert copy.describer._engine is copy.judge._engine


def test_a_copy_tells_of_the_files_where_it_is(tmp_path):
    folder = tiny_clipseg.build(tmp_path / "clipseg")
    segmenter = make_producers(
        ProducerSettings(segmenter="clipseg", clipseg=ClipSegSettings(model=str(folder)))
    ).segmenter
    before, packed = segmenter.identity, pickle.dumps(segmenter)
    (folder / "merges.txt").write_text("#version: 0.2\nc a\n")  # as if the worker's disk had another checkpoint
    assert pickle.loads(packed).identity != before


def annotate_there(annotator: Annotator, folder: Path) -> Summary:
    return annotator(list(Rollouts(folder).episodes()))


@pytest.mark.slow
def test_every_producer_and_annotator_works_in_a_process_of_its_own(make, batch, rollouts, tmp_path):
    names = max(map(len, (DESCRIBERS, SEGMENTERS, JUDGES)))
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (1,)) as elsewhere:
        everybody = [make(role, name) for role, name in EVERYBODY]
        theirs = [elsewhere.submit(answer, producer, batch) for producer in everybody]
        assert [future.result() for future in theirs] == [answer(producer, batch) for producer in everybody]
        for number in range(names):
            describer, segmenter = DESCRIBERS[number % len(DESCRIBERS)], list(SEGMENTERS)[number % len(SEGMENTERS)]
            judge = None if JUDGES[number] == "none" else make("judge", JUDGES[number])
            producers = Producers(make("describer", describer), make("segmenter", segmenter), judge)
            if segmenter == "privileged":
                producers = replace(producers, describer=make("describer", "privileged"))
            here, there = (
                make_annotator(KnowledgeCache(tmp_path / f"{where}{number}"), "k", producers)
                for where in ("here", "there")
            )
            found = elsewhere.submit(annotate_there, there, rollouts.path).result()
            assert found.statuses == annotate_there(here, rollouts.path).statuses
            assert found.failed == 0 < found.done
            again = annotate_there(there, rollouts.path)
            assert again.done == 0  # what the copy committed is known here


@pytest.mark.parametrize("name", DESCRIBERS)
class TestDescriber:
    def test_one_answer_per_frame_within_bounds(self, make, name, batch):
        answers = make("describer", name).describe(batch)
        assert len(answers) == len(batch)
        for answer in answers:
            assert len(answer.phrases) <= MAX_PHRASES
            assert len(set(answer.phrases)) == len(answer.phrases)
            assert all(phrase == phrase.strip() and phrase for phrase in answer.phrases)
            assert answer.status == Status.OK or not answer.phrases

    def test_a_batch_equals_single_frames_and_is_repeatable(self, make, name, batch):
        describer = make("describer", name)
        together = describer.describe(batch)
        assert list(together) == [describer.describe(batch.take([row]))[0] for row in range(len(batch))]
        assert list(together) == list(describer.describe(batch))

    def test_unprivileged_ones_look_at_pixels_only(self, make, name, batch):
        describer = make("describer", name)
        if not describer.identity["privileged"]:
            assert list(describer.describe(batch)) == list(describer.describe(grey(batch)))


@pytest.mark.parametrize("name", SEGMENTERS)
class TestSegmenter:
    phrases = ("car ahead", "pedestrian crossing the road")

    def test_one_mask_per_phrase_in_order(self, make, name, batch):
        segmenter = make("segmenter", name)
        asked = [self.phrases[: row % 3] for row in range(len(batch))]
        masks = segmenter.segment(batch, asked)
        assert masks.dtype == np.uint8
        assert masks.shape == (sum(map(len, asked)), SIZE, SIZE)
        one_by_one = [segmenter.segment(batch.take([row]), [asked[row]]) for row in range(len(batch))]
        assert np.abs(masks.astype(int) - np.concatenate(one_by_one)).max() <= 1  # sums in another order, rounded
        if not segmenter.identity["privileged"]:
            assert (segmenter.segment(grey(batch), asked) == masks).all()

    def test_nothing_asked_nothing_given(self, make, name, batch):
        assert len(make("segmenter", name).segment(batch.take([0, 1]), [(), ()])) == 0

    def test_an_absent_object_leaves_the_mask_dark(self, make, name):
        if name in TRAINED:
            plain = scene(actor(1, "sedan", 20, 0))
            plain = replace(plain, rgb=np.full_like(plain.rgb, 128))
            (mask,) = make("segmenter", name).segment(plain, [["oncoming ambulance"]])
            assert mask.mean() < 0.1 * 255


@pytest.mark.parametrize("name", [name for name in JUDGES if name != "none"])
class TestJudge:
    def test_one_verdict_per_frame(self, make, name, batch):
        judge = make("judge", name)
        verdicts = judge.judge(batch, WORDS * (len(batch) // 2))
        assert len(verdicts) == len(batch)
        for verdict in verdicts:
            assert verdict.value in (0, 1, INVALID)
            assert (verdict.value == INVALID) == (verdict.status != Status.OK)


def test_unknown_names_list_the_choices():
    with pytest.raises(SemoreError, match="unknown describer 'qwen'; this version has: privileged, qwen2-vl, endpoint"):
        make_producers(ProducerSettings(describer="qwen"))
    with pytest.raises(SemoreError, match=r"unknown segmenter 'x'.*cris-tiny, cris, clipseg"):
        make_producers(ProducerSettings(segmenter="x"))
    with pytest.raises(SemoreError, match="endpoint, none"):
        make_producers(ProducerSettings(judge="x"))
