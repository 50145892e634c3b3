"""What an audit takes for the truth, how it reads phrases, and which frames it samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_oracle_rules import actor, scene

from semore.annotate.audit.frames import spread
from semore.annotate.audit.truth import CLASSES, OTHER, noun_of, truth_of
from semore.annotate.oracle.rules import PHRASES


@pytest.mark.parametrize(
    ("phrase", "counts", "right"),
    [
        ("oncoming police car with headlights on", "police car", ("police car",)),
        ("Two people waiting beside a car", "pedestrian", ("pedestrian",)),
        ("parked cars", "car", ("car", "police car")),
        ("a red truck", "fire truck", ("fire truck", "ambulance")),
        ("vehicles ahead", "car", ("car", "police car", "fire truck", "ambulance")),
        ("bicycles", "cyclist", ("cyclist",)),
        ("traffic light", OTHER, ()),
        ("carpet", OTHER, ()),
    ],
)
def test_what_a_phrase_names(phrase, counts, right):
    assert noun_of(phrase) == (counts, right)


def test_every_privileged_phrase_names_its_class():
    assert [noun_of(phrase).counts for phrase in PHRASES] == [
        max((name for name in CLASSES if name in phrase), key=len) for phrase in PHRASES
    ]


def test_what_the_describer_leaves_out_is_no_truth():
    """Ten phrases to be said, eight fit: the farthest two actors are not in the mask."""
    kinds = ("sedan", "police car", "fire truck", "ambulance", "cyclist")
    batch = scene(*(actor(1 + index, kinds[index % 5], 10 + index, -4.0 * (index // 5)) for index in range(10)))
    truth = truth_of(batch)
    assert (truth.mask[0] == np.isin(batch.instance[0], range(1, 9))).all()
    assert truth.key[0].tolist() == [True] * 8 + [False] * 2


def test_a_frame_without_a_pose_has_no_truth():
    assert truth_of(scene(x=math.nan)).known.tolist() == [False]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=6), st.integers(1, 40))
def test_a_spread_is_of_the_described_rows_in_order_and_no_more_than_asked(sizes, frames):
    described = [np.arange(size) * 3 for size in sizes]
    chosen = spread(described, frames)
    assert sum(map(len, chosen)) <= frames or sum(sizes) <= frames
    if sum(sizes):
        assert sum(map(len, chosen)) >= 1
    for rows, own in zip(chosen, described, strict=True):
        assert np.isin(rows, own).all()
        assert (np.diff(rows) > 0).all()
    assert [rows.tolist() for rows in spread(described, None)] == [rows.tolist() for rows in described]


def test_a_spread_keeps_neighbours_together_and_reaches_both_ends():
    (rows,) = spread([np.arange(1000)], 20)
    assert rows.tolist()[:2] == [0, 1]
    assert rows.tolist()[-2:] == [998, 999]
    assert (np.diff(rows) == 1).sum() == 10
