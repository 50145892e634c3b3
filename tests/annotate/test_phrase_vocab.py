"""Actions in words (method.md §6.1)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semore.datasets.action_text import PEDALS, STEERING, action_codes, action_words, parse_words
from semore.datasets.errors import SemoreError


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ((0.31, 0.6), "steer right, throttle"),
        ((-0.31, 0.5), "steer left, keep speed"),
        ((0.3, 0.0), "straight, keep speed"),
        ((-0.3, -0.01), "straight, brake"),
        ((0.0, 0.51), "straight, throttle"),
        ((1.0, -1.0), "steer right, brake"),
    ],
)
def test_words(action, words):
    assert action_words(np.array([action])) == [words]


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=20))
def test_words_parse_back(actions):
    steering, pedals = action_codes(np.array(actions))
    codes = list(zip(steering.tolist(), pedals.tolist(), strict=True))
    assert [parse_words(words) for words in action_words(np.array(actions))] == codes


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_there_are_no_words_for_what_is_no_number(wrong):
    with pytest.raises(
        SemoreError, match=r"an action \(steer, pedal\) must be finite numbers, not \[0.5, (nan|-?inf)\]"
    ):
        action_words(np.array([[0.5, 0.5], [0.5, wrong]], np.float32))
    assert action_words(np.zeros((0, 2), np.float32)) == []


def test_other_words_are_refused():
    assert parse_words(f"{STEERING[0]}, {PEDALS[0]}") == (0, 0)
    with pytest.raises(ValueError, match=r"is no action|not in tuple"):
        parse_words("fly, brake")
