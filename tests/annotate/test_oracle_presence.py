"""Frames without recorded state: no privileged producer makes an empty scene or a reasonable action of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from test_oracle_rules import SIZE, actor, scene, write_rollouts

from semore.annotate.annotator import Annotator
from semore.annotate.audit.truth import truth_of
from semore.annotate.interfaces import FrameBatch
from semore.annotate.oracle.describer import PrivilegedDescriber
from semore.annotate.oracle.judge import PrivilegedJudge
from semore.annotate.oracle.presence import StateMissing, missing_state
from semore.annotate.oracle.segmenter import PrivilegedSegmenter
from semore.annotate.pipeline import make_annotator
from semore.annotate.registry import PRIVILEGED, make_producers
from semore.datasets.knowledge.cache import KnowledgeCache
from semore.datasets.knowledge.records import INVALID, Status
from semore.datasets.rollouts.store import row_digests

WHOLE = scene(actor(1, "pedestrian", 10, 0), vx=8)
STATE = ("semantic", "instance", "actors", "ego")
WIPED = replace(WHOLE, **{name: np.zeros_like(getattr(WHOLE, name)) for name in STATE})
UNREAD = replace(WHOLE, **{name: np.zeros((1, 0), getattr(WHOLE, name).dtype) for name in STATE})


def with_ego(**state: float) -> FrameBatch:
    return scene(actor(1, "pedestrian", 10, 0), **({"vx": 8.0} | state))


LACKING = {
    "wiped": WIPED,
    "never read": UNREAD,
    "no ego": replace(WHOLE, ego=np.zeros_like(WHOLE.ego)),
    "ego of no numbers": replace(WHOLE, ego=np.full_like(WHOLE.ego, math.nan)),
    "no speed": with_ego(vx=math.nan),
    "no heading": with_ego(yaw=math.nan),
    "actors wiped": replace(WHOLE, actors=np.zeros_like(WHOLE.actors)),
    "actors of no numbers": replace(WHOLE, actors=np.full_like(WHOLE.actors, math.nan)),
    "no actors at all": replace(WHOLE, actors=WHOLE.actors[:, :0]),
    "somebody else's actors": replace(WHOLE, actors=scene(actor(2, "sedan", 20, 0)).actors),
}


@pytest.mark.parametrize("batch", LACKING.values(), ids=LACKING.keys())
def test_a_frame_without_state_fails_by_name_with_a_way_out(batch):
    (text,) = PrivilegedDescriber().describe(batch)
    assert (text.phrases, text.status) == ((), Status.FAILED)
    assert "the privileged describer answers from the simulator's state" in text.reason
    assert text.reason.endswith("choose describer qwen2-vl or endpoint instead")
    (verdict,) = PrivilegedJudge().judge(batch, ["straight, throttle"])
    assert (verdict.value, verdict.status) == (INVALID, Status.FAILED)
    assert verdict.reason.endswith("choose judge qwen2-vl, endpoint or none instead")
    with pytest.raises(StateMissing, match="choose segmenter cris-tiny, cris or clipseg instead"):
        PrivilegedSegmenter().segment(batch, [["pedestrian standing on the road"]])
    assert PrivilegedSegmenter().segment(batch, [()]).shape == (0, SIZE, SIZE)


def test_its_neighbours_are_answered():
    batch = FrameBatch.joined([WIPED, WHOLE, WIPED])
    assert [text.status for text in PrivilegedDescriber().describe(batch)] == [Status.FAILED, Status.OK, Status.FAILED]
    verdicts = PrivilegedJudge().judge(batch, ["straight, throttle"] * 3)
    assert [verdict.value for verdict in verdicts] == [INVALID, 0, INVALID]
    masks = PrivilegedSegmenter().segment(batch, [(), ["pedestrian standing on the road"], ()])
    assert (masks > 0).sum() == 16
    assert truth_of(batch).known.tolist() == [False, True, False]


@pytest.mark.parametrize(
    "batch",
    [
        WHOLE,
        scene(vx=8),  # an empty world
        scene(actor(1, "sedan", 20, 0), pixel={1: 0}),  # all hidden
        scene(**dict.fromkeys(("lane_dx", "lane_dy", "lane_offset", "lane_width"), math.nan)),  # beside the road
        FrameBatch.joined([WHOLE, scene(*(actor(number, "sedan", 20, 0) for number in range(1, 4)))]).take([0]),
    ],
)
def test_a_state_that_is_there_is_believed(batch):
    assert missing_state(batch) == [""]


def test_zeros_are_no_lane_and_its_judge_says_so():
    (verdict,) = PrivilegedJudge().judge(scene(vx=8, lane_dx=0.0), ["straight, throttle"])
    assert (verdict.value, verdict.status) == (INVALID, Status.EMPTY)


def test_a_recording_without_state_is_all_failed_and_nothing_of_it_is_known(tmp_path):
    rollouts = write_rollouts(tmp_path / "r.zarr", episodes=1, steps=5)
    episode = rollouts.episode("test-0000")
    arrays = {name: episode.read(name)[name] for name in episode.layout()}
    arrays |= {name: np.zeros_like(arrays[name]) for name in STATE}
    arrays["state_digest"] = row_digests(*(arrays[name] for name in ("ego", "actors", "semantic", "instance")))
    rollouts.write("stateless", arrays, {"camera": SIZE})
    annotator: Annotator = make_annotator(KnowledgeCache(tmp_path / "k"), "k", make_producers(PRIVILEGED))
    summary = annotator([rollouts.episode("stateless")])
    assert set(summary.statuses["texts"]) == set(summary.statuses["verdicts"]) == {"failed"}
    assert not annotator.knowledge.valid(arrays["digest"], arrays["state_digest"]).any()
