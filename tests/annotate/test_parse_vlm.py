"""The parser of raw answers: what models really write, and garbage."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from instant_clip_tokenizer import Tokenizer

from semore.annotate.interfaces import MAX_PHRASES
from semore.annotate.vlm.parse_vlm import MAX_PIECES, parse_phrases, parse_verdict
from semore.datasets.knowledge.records import INVALID, Status, Text

TOKENIZER = Tokenizer()
CARS = ("car", "white truck")


@pytest.mark.parametrize(
    "answer",
    [
        "car\nwhite truck",
        "- Car\n- White truck\n- CAR",
        "1. car\n2) white truck\n(3) car.",
        "* **Car**\n* *white truck*!",
        "• car • white truck",
        "Here are the objects that affect driving:\n\n1. Car\n2. White truck",
        "Sure! Here is the list: car, white truck",
        "Objects: car; white truck.",
        "```\ncar\nwhite truck\n```",
        '```json\n["car", "white truck"]\n```',
        '{"objects": ["car", "white truck"], "count": 2}',
        'Here it is:\n[{"label": "car", "bbox_2d": [1, 2, 3, 4]}, {"label": "white truck", "bbox_2d": [5, 6, 7, 8]}]',
        '{"label": "car"}\n{"label": "white truck"}',
        "['car', 'white truck']",
        '["car", "white truck", "pedest',  # capped
        '"car",\n"white truck",',
        "**Car** - in front of us, braking\n**White truck**: parked",
        "car (red), white truck (far)",
        "<|object_ref_start|>car<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|>, white_truck",
        "[ ] car\n[x] white truck",
        "car\r\nwhite truck\nnone",
        "There is car, on the left, and white truck.",
        "\ufeffcar\u2028white\u00a0truck\x00",
    ],
)
def test_a_list_in_any_dress_is_the_same_list(answer):
    assert parse_phrases(answer) == Text(CARS)


@pytest.mark.parametrize(
    ("answer", "phrases"),
    [
        ("Vehicle: A white car ahead", ("a white car ahead",)),
        ("The picture shows a bus and a dog.", ("a bus", "a dog")),
        ("no entry sign\ndriver’s mirror\n2 cars", ("no entry sign", "driver's mirror", "2 cars")),
        ("車\n歩行者、信号", ("車", "歩行者", "信号")),
        ("\n".join(f"car {letter}" for letter in "abcdefghij"), tuple(f"car {letter}" for letter in "abcdefgh")),
        ("car " * 40, (" ".join(["car"] * MAX_PIECES),)),
    ],
)
def test_phrases_as_written(answer, phrases):
    assert parse_phrases(answer) == Text(phrases)


def test_long_phrases_are_cut_between_words():
    phrase = (
        "pedestrian wearing a fluorescent high-visibility jacket crossing the road in front of the parked delivery van"
    )
    (cut,) = parse_phrases(phrase).phrases
    assert phrase.startswith(cut + " ")
    assert MAX_PIECES - 2 <= len(TOKENIZER.encode(cut)) <= MAX_PIECES


@pytest.mark.parametrize(
    "answer",
    [
        "none",
        "None.",
        "- none",
        "N/A",
        "[]",
        '{"objects": []}',
        "Objects: none",
        "Nothing.",
        "no vehicles, no pedestrians",
        "There are no objects that affect driving.",
        "No relevant objects in the picture",
    ],
)
def test_an_empty_scene_is_known_to_be_empty(answer):
    assert parse_phrases(answer) == Text(())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "the answer is empty"),
        (" \n\t", "the answer is empty"),
        ("```\n```", "no phrase in"),
        ("Sure!", "no phrase in 'Sure!'"),
        ("I'm sorry, but I can't help with that.", "no phrase in"),
        ("[1, 2]", "no phrase in '[1, 2]'"),
        ("...---...", "no phrase in"),
        ("[" * 100_000, "no phrase in"),
        ("\ud800", r"no phrase in '\ud800'"),
    ],
)
def test_nothing_usable_says_why(answer, reason):
    text = parse_phrases(answer)
    assert (text.phrases, text.status) == ((), Status.EMPTY)
    assert text.reason.startswith(reason)
    text.encode().encode()


UNITS = (
    r"""
car|Car ahead|a |the | and a |no vehicles|none|there are |Here are|objects|- |* |1. |2)|**|`|```json|```|, |; |: |. |!
 - |(|)|[|]|{|}|"|'|’|"label": |null|1|0|yes|no|not reasonable
<|>|İ|ß|Σ|🚗|車|、|sorry|i can't|in front of |\|/|&|_|-| |
""".strip("\n")
    .replace("\n", "|")
    .split("|")
)
PIECES = st.sampled_from([*UNITS, "|", "\n", "\r\n", "\t", "\x00", "\u2028", "\u0301", "\ud83d", "x" * 40])
ANSWERS = st.one_of(st.text(st.characters()), st.lists(PIECES, max_size=40).map("".join))


@settings(max_examples=400, deadline=None)
@given(ANSWERS)
@example("and and a and a car - a and the the")
@example("no vehicles " + "x" * 60)
def test_any_answer_gives_a_text_the_cache_can_hold(answer):
    text = parse_phrases(answer)
    text.encode().encode()  # raises on what no file can hold
    assert Text.decode(text.encode()) == text
    assert len(text.phrases) == len(set(text.phrases)) <= MAX_PHRASES
    assert text.status == Status.OK or not text.phrases
    assert bool(text.reason) == (text.status == Status.EMPTY)
    for phrase in text.phrases:
        assert 0 < len(TOKENIZER.encode(phrase)) <= MAX_PIECES
        assert phrase == " ".join(phrase.lower().split())
        assert any(char.isalpha() for char in phrase)
    if text.phrases:
        assert parse_phrases("\n".join(text.phrases)) == text


@settings(max_examples=400, deadline=None)
@given(ANSWERS)
def test_any_answer_gives_a_verdict_the_cache_can_hold(answer):
    verdict = parse_verdict(answer)
    assert verdict.value in (0, 1, INVALID)
    assert (verdict.value == INVALID) == (verdict.status == Status.EMPTY)
    assert bool(verdict.reason) == (verdict.value == INVALID)
    verdict.reason.encode()


@pytest.mark.parametrize("unit", ["(", "'a", "' a", ". ", ".", "- ", "[{", "and a ", '"', "no visible ", "\n", "x"])
def test_endless_answers_take_no_time(unit):
    start = time.perf_counter()
    parse_phrases(unit * 100_000)
    parse_verdict(unit * 100_000)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    ("answers", "value"),
    [
        (
            ["1", "1.", " 1\n", "**1**", "`1`", "Answer: 1", '{"answer": 1}', "１", "Yes", "yes, 1", "1 (yes)", "true"],
            1,
        ),
        (["It is reasonable.", "There is no car, so: 1"], 1),
        (["0", "0.", "Answer: 0", '{"answer": 0}', "No", "no.", "False", "0 (uncertain)", "I am not sure"], 0),
        (["unreasonable", "It is not reasonable", "It isn’t very safe", "uncertain"], 0),
        (
            ["", " ", "maybe", "10", "0.5", "-1", "2", "1 or 0", "1 for yes, 0 for no", "yes or no", "No, 1", "\ud800"],
            INVALID,
        ),
    ],
)
def test_verdicts(answers, value):
    assert {answer: parse_verdict(answer).value for answer in answers} == dict.fromkeys(answers, value)
    status = Status.EMPTY if value == INVALID else Status.OK
    assert {parse_verdict(answer).status for answer in answers} == {status}


def test_an_unusable_verdict_says_why():
    assert parse_verdict("").reason == "the answer is empty"
    assert parse_verdict("1 or 0").reason == "both 1 and 0 in '1 or 0'"
    assert parse_verdict("maybe").reason == "neither 1 nor 0 in 'maybe'"
