"""The engine behind a server: what it sends, and how it bears a server that misbehaves."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
import time
import traceback
from collections import Counter

import numpy as np
import pytest
from loopback_openai import DROP, Asked, Loopback, Reply, say, trouble

from semore.annotate.settings import EndpointSettings
from semore.annotate.vlm.endpoint import Endpoint
from semore.datasets.errors import SemoreError

KEY = "sk-very-secret-0123456789"
SOON = {"retry_after_ms": "20"}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def frames(count: int, side: int = 16) -> np.ndarray:
    """Pictures (count, side, side, 3) whose first pixel is their number."""
    rgb = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    rgb[:, 0, 0, 0] = np.arange(count)
    return rgb


def engine(server: Loopback, **settings) -> Endpoint:
    given = {"url": server.url, "model": "tiny", "upscale": 0, "retries": 2, "timeout": 5.0} | settings
    return Endpoint(EndpointSettings(**given))


def echo(asked: Asked) -> Reply:
    return say(f"{asked.number} {asked.prompt}")


def test_a_request_is_a_lossless_picture_a_prompt_and_greedy_decoding():
    rgb = frames(3)
    with Loopback(echo) as server:
        answers = engine(server, max_new_tokens=50).answer(rgb, ["a", "b", "c"])
        engine(server).answer(rgb[:1], ["a"], 4)
        assert [answer.text for answer in answers] == ["0 a", "1 b", "2 c"]
        assert not any(answer.failure or answer.cut for answer in answers)
        for asked in server.asked:
            assert (asked.picture == rgb[asked.number]).all()
            assert asked.body["temperature"] == 0
            assert asked.body["model"] == "tiny"
        assert [asked.body["max_tokens"] for asked in server.asked] == [50, 50, 50, 4]


def test_small_frames_are_upscaled_and_large_ones_are_not():
    rgb = np.full((1, 16, 24, 3), 7, np.uint8)
    with Loopback(echo) as server:
        engine(server, upscale=32).answer(rgb, ["?"])
        engine(server, upscale=16).answer(rgb, ["?"])
        assert [asked.picture.shape for asked in server.asked] == [(32, 48, 3), (16, 24, 3)]


def test_in_flight_requests_are_bounded_and_used():
    with Loopback(lambda asked: say("car")._replace(delay=0.05)) as server:
        answers = engine(server, in_flight=4).answer(frames(24), ["?"] * 24)
        assert server.most == 4
        assert [answer.text for answer in answers] == ["car"] * 24


def test_a_misbehaving_server_fails_only_what_it_never_answers():
    """Some recover within the retries, 10 and more never do; the reasons say how."""

    def behave(asked: Asked) -> Reply:
        passing = {
            1: trouble(429, **SOON),
            2: trouble(500, **SOON),
            3: DROP,
            4: Reply(delay=9.0),
            5: trouble(503, **SOON),
        }
        lasting = {
            10: trouble(429, "slow down", **SOON),
            11: trouble(500, "no memory", **SOON),
            12: DROP,
            13: Reply(delay=9.0),
            14: trouble(400, "picture too large"),
            15: Reply(b'{"choices": [{"mess', 200),
            16: say("", refusal="I will not"),
            17: Reply([1, 2]),
            18: Reply({"choices": []}),
            19: Reply(b"<html>", 200, (("content-type", "text/html"),)),
            20: Reply({"choices": [None]}),
            21: Reply(None),
            22: Reply({"choices": 3}),
            23: trouble(400, "\ud800 bad"),
            24: Reply(b"\xff\xfe"),
        }
        if asked.number in passing and asked.attempt == 0:
            return passing[asked.number]
        return lasting.get(asked.number, say(f"car {asked.number}"))

    with Loopback(behave) as server:
        answers = engine(server, retries=1, timeout=2.0, in_flight=32).answer(frames(28), ["?"] * 28)
        tries = Counter(asked.number for asked in server.asked)
    good = [*range(10), 25, 26, 27]
    assert [row for row, answer in enumerate(answers) if not answer.failure] == good
    assert all(answers[row].text == f"car {row}" for row in good)
    for row, reason in {
        10: "HTTP 429: .*slow down",
        11: "HTTP 500: .*no memory",
        12: "connection lost, 2 tries: ",
        13: "no answer within 2 s, 2 tries",
        14: "HTTP 400: .*picture too large",
        15: "malformed response",
        16: "refused: I will not",
        17: "malformed response",
        18: "malformed response",
        19: "malformed response",
    }.items():
        assert answers[row].text == ""
        assert re.match(reason, answers[row].failure), answers[row]
    assert all(answer.failure.encode() and len(answer.failure) <= 200 for answer in answers if answer.failure)
    twice, once = (1, 2, 3, 4, 5, 10, 11, 12, 13), (0, 14, 15, 25)
    assert [tries[row] for row in (*twice, *once)] == [2] * len(twice) + [1] * len(once)


def test_retry_after_is_honoured():
    with Loopback(lambda asked: say("car") if asked.attempt else trouble(429, retry_after="0.9")) as server:
        start = time.monotonic()
        assert engine(server).answer(frames(1), ["?"])[0].text == "car"
        assert 0.9 <= time.monotonic() - start < 3


def test_empty_and_cut_answers_are_answers():
    replies = [say(""), say(None), say("car\ntru", "length")]
    with Loopback(lambda asked: replies[asked.number]) as server:
        answers = engine(server).answer(frames(3), ["?"] * 3)
        assert [(answer.text, answer.failure, answer.cut) for answer in answers] == [
            ("", "", False),
            ("", "", False),
            ("car\ntru", "", True),
        ]


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_stops_the_work_and_names_the_variable(status):
    with Loopback(lambda asked: trouble(status)) as server:
        with pytest.raises(SemoreError, match=rf"{server.url} refuses the key .*OPENAI_API_KEY"):
            engine(server).answer(frames(8), ["?"] * 8)
        server.models = trouble(status)
        with pytest.raises(SemoreError, match="refuses the key"):
            engine(server).load()
        assert len(server.asked) <= 8


def test_an_unknown_model_is_named_with_those_there_are():
    with Loopback(lambda asked: trouble(404, "no such model")) as server:
        with pytest.raises(SemoreError, match=rf"{server.url} has no model 'big'.*it has: tiny, other"):
            engine(server, model="big").load()
        with pytest.raises(SemoreError, match=rf"{server.url} knows no model 'tiny'.*no such model.*endpoint.url"):
            engine(server).answer(frames(4), ["?"] * 4)


@pytest.mark.parametrize("models", [trouble(404), Reply({}), Reply({"data": []}), Reply(b"?"), Reply({"data": 3})])
def test_a_server_that_lists_no_models_is_taken_at_its_word(models):
    with Loopback(echo, models) as server:
        assert engine(server).answer(frames(1), ["?"])[0].text == "0 ?"


def test_no_server_is_said_at_once_and_a_lost_one_once_nobody_answers():
    with Loopback(lambda asked: DROP) as server:
        ours = engine(server, retries=0)
        ours.load()
        ours.load()
        assert server.checks == 1
        assert [answer.failure[:15] for answer in ours.answer(frames(2), ["?"] * 2)] == ["connection lost"] * 2
        url = server.url
    with pytest.raises(SemoreError, match=rf"no server answers at {url} .*endpoint.url"):
        ours.answer(frames(2), ["?"] * 2)
    with pytest.raises(SemoreError, match=rf"no server answers at {url} .*endpoint.url"):
        engine(server, retries=0).load()


def test_it_works_in_any_thread_again_and_again_also_beside_a_running_loop():
    with Loopback(echo) as server:
        ours, found = engine(server), []

        def work():
            for _ in range(3):
                found.extend(answer.text for answer in ours.answer(frames(2), ["?"] * 2))

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Counter(found) == {"0 ?": 9, "1 ?": 9}

        async def notebook():
            ours.load()
            return ours.answer(frames(1), ["?"])

        assert asyncio.run(notebook())[0].text == "0 ?"


def test_nothing_asked_nothing_sent():
    with Loopback(echo) as server:
        assert engine(server).answer(frames(0), []) == []
        assert server.asked == []


def test_the_key_is_sent_and_appears_nowhere_else(monkeypatch, caplog):
    monkeypatch.setenv("LAB_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx2", "httpcore", "httpcore2", "asyncio"):
        logging.getLogger(name).setLevel(logging.DEBUG)

    def behave(asked: Asked) -> Reply:
        return trouble(400, f"bad key {asked.key}") if asked.number else trouble(500, f"key {asked.key}", **SOON)

    with Loopback(behave) as server:
        ours = engine(server, key_variable="LAB_KEY", retries=1)
        answers = ours.answer(frames(2), ["?"] * 2)
        server.models = trouble(401, f"Incorrect key {KEY}")
        with pytest.raises(SemoreError) as refused:
            engine(server, key_variable="LAB_KEY").load()
        server.behave = lambda asked: trouble(403, f"Incorrect key {asked.key}")
        with pytest.raises(SemoreError) as forbidden:
            ours.answer(frames(2), ["?"] * 2)
        assert {asked.key for asked in server.asked} == {KEY}
    said = [answer.failure for answer in answers]
    said += ["".join(traceback.format_exception(error.value)) for error in (refused, forbidden)]
    said += [repr(vars(ours)), json.dumps(ours.identity), caplog.text]
    assert len(caplog.records) > 10
    assert not [text for text in said if KEY in text]
    assert all("<key>" in text for text in said[:4])


def test_another_variables_key_is_never_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ADMIN_KEY", KEY)
    monkeypatch.delenv("LAB_KEY", raising=False)
    with Loopback(echo) as server:
        engine(server, key_variable="LAB_KEY").answer(frames(1), ["?"])
        assert [asked.key for asked in server.asked] == ["none"]


def test_the_identity_is_the_model_not_the_address():
    one = Endpoint(EndpointSettings(url="http://a/v1", model="m")).identity
    assert one == Endpoint(EndpointSettings(url="http://b/v1", model="m", in_flight=1, retries=0)).identity
    assert one["kind"] == "endpoint"
    assert one["engine"] == "openai-endpoint"
    others = [EndpointSettings(model="n"), EndpointSettings(model="m", upscale=0)]
    assert all(Endpoint(other).identity != one for other in others)
