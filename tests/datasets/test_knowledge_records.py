"""Cache keys change exactly when they should (design.md §3)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semore.datasets.knowledge.records import Phrases, Status, Text, record_keys

identities = st.dictionaries(
    st.sampled_from(["kind", "prompt", "dtype", "engine", "revision", "cap"]),
    st.one_of(st.text(max_size=8), st.integers(-5, 5), st.booleans()),
)
digests = st.binary(min_size=16, max_size=16)
words = st.text(min_size=1, max_size=12)


def row(digest: bytes) -> np.ndarray:
    return np.frombuffer(digest, np.uint8).reshape(1, 16)


def key(level, identity, frame, state, word=None) -> bytes:
    return record_keys(level, identity, row(frame), row(state), None if word is None else [word]).tobytes()


@settings(max_examples=200, deadline=None)
@given(identities, identities, digests, digests, digests, digests, words, words, st.booleans())
def test_equal_keys_exactly_for_equal_inputs(a, b, frame_a, frame_b, state_a, state_b, word_a, word_b, privileged):
    a, b = {**a, "privileged": privileged}, {**b, "privileged": privileged}
    for level in ("texts", "masks", "verdicts"):
        used = level != "texts"
        first = key(level, a, frame_a, state_a, word_a if used else None)
        for identity in (a, b):
            for frame in (frame_a, frame_b):
                for state in (state_a, state_b):
                    for word in (word_a, word_b):
                        other = key(level, identity, frame, state, word if used else None)
                        same = (
                            canonical(identity) == canonical(a)
                            and frame == frame_a
                            and (not privileged or state == state_a)
                            and (not used or word == word_a)
                        )
                        assert (other == first) == same


def canonical(identity):
    return sorted((name, type(value).__name__, value) for name, value in identity.items())


@given(identities, digests, digests)
@settings(deadline=None)
def test_levels_and_privilege_are_part_of_the_key(identity, frame, state):
    seen = {key("texts", identity, frame, state), key("masks", identity, frame, state, "car")}
    seen.add(key("verdicts", identity, frame, state, "car"))
    seen.add(key("texts", {**identity, "privileged": True}, frame, state))
    assert len(seen) == 4


def test_order_of_identity_fields_does_not_matter():
    frame = bytes(range(16))
    assert key("texts", {"a": 1, "b": "x"}, frame, frame) == key("texts", {"b": "x", "a": 1}, frame, frame)


@given(st.lists(words, max_size=8), st.sampled_from(Status), st.text(max_size=20))
def test_texts_survive_storing(phrases, status, reason):
    text = Text(tuple(phrases), status, reason)
    assert Text.decode(text.encode()) == text


def test_many_keys_at_once_equal_single_ones():
    rng = np.random.default_rng(0)
    frames, states = rng.integers(0, 256, (2, 50, 16), np.uint8)
    phrases = [f"phrase {index % 7}" for index in range(50)]
    together = record_keys("masks", {"privileged": True}, frames, states, phrases)
    for index, phrase in enumerate(phrases):
        alone = record_keys(
            "masks", {"privileged": True}, frames[index : index + 1], states[index : index + 1], [phrase]
        )
        assert (together[index] == alone).all()


def test_words_of_another_number_than_frames_are_refused():
    frames = np.zeros((3, 16), np.uint8)
    with pytest.raises(ValueError, match="words"):
        record_keys("masks", {}, frames, frames, ["car"])


def test_the_phrases_of_texts_lie_one_after_the_other_each_with_its_text():
    failed, empty = Text(("van",), Status.FAILED, "timeout"), Text((), Status.EMPTY)
    found = Phrases.of([Text(("car", "child")), None, failed, Text(()), empty, Text(("car",))])
    assert found.flat == ["car", "child", "car"]
    assert found.owners.tolist() == [0, 0, 5]
    assert found.counts.tolist() == [2, 0, 0, 0, 0, 1]
    assert found.usable.tolist() == [True, False, False, True, False, True]
    assert Phrases.of([]).owners.tolist() == []
