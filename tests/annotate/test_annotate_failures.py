"""Bad answers, poisoned frames, users' mistakes and Ctrl-C: recorded or passed on, and nothing finished is lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_annotate_pipeline import Counting, DescriberPart, JudgePart, SegmenterPart, run
from test_oracle_rules import write_rollouts

from semore.annotate.interfaces import Producers, Verdict
from semore.annotate.pipeline import annotate_rollouts, make_annotator
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.cache import KnowledgeCache, open_set
from semore.datasets.knowledge.records import Status, Text
from semore.datasets.rollouts.store import Rollouts


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory) -> Rollouts:
    return write_rollouts(tmp_path_factory.mktemp("rollouts") / "r.zarr")


def test_a_poisoned_frame_fails_alone_and_is_tried_again(rollouts, tmp_path):
    poisoned = rollouts.episode("test-0001").read("digest")["digest"][7].tobytes()
    counting = Counting()
    counting.poison = {poisoned}
    summary = run(rollouts, tmp_path, counting)
    assert summary.statuses["texts"]["failed"] == 1
    assert summary.statuses["verdicts"]["failed"] == 1
    assert any("poisoned frame" in reason for reason in summary.reasons)
    arrays = rollouts.episode("test-0001").read("digest", "state_digest")
    valid = open_set(tmp_path, "k").h_ka(arrays["digest"], arrays["state_digest"], grid=4)[1]
    assert np.flatnonzero(~valid).tolist() == [7]
    again = Counting()
    annotator = make_annotator(KnowledgeCache(tmp_path), "k", again.producers, retry_failed=False)
    assert annotator([rollouts.episode("test-0001")]).cached == 40
    run(rollouts, tmp_path, again)
    assert (again.asked["texts"], again.asked["verdicts"]) == (1, 1)
    assert open_set(tmp_path, "k").h_ka(arrays["digest"], arrays["state_digest"], grid=4)[1].all()


class BadDescriber(DescriberPart):
    def describe(self, batch):
        bad = [Text(("car ahead",) * 2), Text(("x" * 3, "")), Text(tuple("abcdefghij")), Text(("\ud800",))]
        return [bad[row % 5] if row % 5 < 4 else Text((), Status.EMPTY, "no list") for row in range(len(batch))]


class BadSegmenter(SegmenterPart):
    def segment(self, batch, phrases):
        return np.zeros((1, 2, 2), np.float32)


class BadJudge(JudgePart):
    def judge(self, batch, actions):
        return [Verdict(7)] * len(batch)


def test_bad_answers_are_recorded_and_stop_nothing(rollouts, tmp_path):
    counting = Counting()
    summary = annotate_rollouts(
        [rollouts.path],
        KnowledgeCache(tmp_path),
        "bad",
        Producers(BadDescriber(counting), BadSegmenter(counting), BadJudge(counting)),
        quiet=True,
    )
    assert summary.statuses["texts"]["ok"] == 0
    assert summary.statuses["verdicts"] == {"failed": 3 * 38}
    good = Counting()
    summary = run(rollouts, tmp_path, good, "bad")
    assert summary.statuses["texts"]["ok"] > 0


def test_a_bad_segmenter_makes_its_frames_invalid(rollouts, tmp_path):
    counting = Counting()
    producers = replace(counting.producers, segmenter=BadSegmenter(counting))
    summary = annotate_rollouts([rollouts.path], KnowledgeCache(tmp_path), "k", producers, quiet=True)
    assert set(summary.statuses["masks"]) == {"failed"}
    knowledge = open_set(tmp_path, "k")
    for episode in rollouts.episodes():
        arrays = episode.read("digest", "state_digest")
        texts = knowledge.texts(arrays["digest"], arrays["state_digest"])
        valid = knowledge.h_ka(arrays["digest"], arrays["state_digest"], grid=4)[1]
        assert valid.tolist() == [not text.phrases for text in texts if text is not None]


def test_a_users_mistake_is_not_blamed_on_frames(rollouts, tmp_path):
    class NoKey(DescriberPart):
        def describe(self, batch):
            raise SemoreError("no key")

    counting = Counting()
    producers = replace(counting.producers, describer=NoKey(counting))
    with pytest.raises(SemoreError, match="no key"):
        annotate_rollouts([rollouts.path], KnowledgeCache(tmp_path), "k", producers, quiet=True)


def test_ctrl_c_keeps_what_is_done(rollouts, tmp_path):
    class Impatient(JudgePart):
        def judge(self, batch, actions):
            raise KeyboardInterrupt

    counting = Counting()
    producers = replace(counting.producers, judge=Impatient(counting))
    with pytest.raises(KeyboardInterrupt):
        annotate_rollouts([rollouts.path], KnowledgeCache(tmp_path), "k", producers, batch=16, quiet=True)
    assert len(KnowledgeCache(tmp_path).texts) == counting.asked["texts"] > 0
