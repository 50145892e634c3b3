"""The describer and the judge that ask a vision-language engine: with a scripted one, and with each real one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from loopback_openai import Asked, Loopback, Reply, say, trouble
from test_oracle_rules import write_rollouts
from tiny_qwen2vl import build

from semore.annotate.interfaces import MAX_PHRASES, FrameBatch, Verdict
from semore.annotate.pipeline import annotate_rollouts
from semore.annotate.prompts import FOLDER, load_prompt
from semore.annotate.registry import make_producers
from semore.annotate.settings import EndpointSettings, ProducerSettings, QwenSettings
from semore.annotate.vlm import describer as describing
from semore.annotate.vlm import judge as judging
from semore.annotate.vlm.describer import PromptedDescriber
from semore.annotate.vlm.engine import Answer
from semore.annotate.vlm.judge import PromptedJudge
from semore.datasets.action_text import PEDALS, STEERING
from semore.datasets.knowledge.cache import KnowledgeCache
from semore.datasets.knowledge.records import INVALID, Status, Text, is_privileged


class Scripted:
    """An engine that gives prepared answers and remembers what it was asked."""

    def __init__(self, *answers: Answer, cap: int = 64) -> None:
        self.answers, self.asked, self.loads, self.max_new_tokens = list(answers), [], 0, cap

    @property
    def identity(self):
        return {"kind": "scripted", "engine": "script"}

    def load(self):
        self.loads += 1

    def answer(self, rgb, prompts, max_new_tokens=None):
        assert len(rgb) == len(prompts)
        self.asked += [(prompt, max_new_tokens) for prompt in prompts]
        return self.answers[: len(rgb)]


def batch(count: int, side: int = 64) -> FrameBatch:
    """Frames whose first pixel is their number, with nothing behind them that a learned producer may look at."""
    rgb = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    rgb[:, 0, 0, 0] = np.arange(count)
    digests = np.zeros((count, 16), np.uint8)
    return FrameBatch(rgb, digests, digests, *(np.zeros((count, 0)) for _ in range(4)))  # type: ignore[arg-type]


def test_every_frame_is_asked_the_same_and_answered_by_status():
    engine = Scripted(
        Answer("- Car\n- Bus"),
        Answer("none"),
        Answer(""),
        Answer("", "no answer within 1 s"),
        Answer("car\nped", cut=True),
    )
    texts = PromptedDescriber(engine).describe(batch(5))
    assert texts == [
        Text(("car", "bus")),
        Text(()),
        Text((), Status.EMPTY, "the answer is empty"),
        Text((), Status.FAILED, "no answer within 1 s"),
        Text(("car",)),
    ]
    assert engine.asked == [(describing.PROMPT.text, 64)] * 5


@pytest.mark.parametrize(
    ("answer", "phrases"),
    [("car\nbus\npedest", ("car", "bus")), ("car\nbus\n", ("car",)), ("a long car ahe", ("a long car ahe",))],
)
def test_half_a_line_is_left_out_unless_it_is_all_there_is(answer, phrases):
    (text,) = PromptedDescriber(Scripted(Answer(answer, cut=True))).describe(batch(1))
    assert text.phrases == phrases


def test_the_judge_is_asked_about_the_action_and_answers_by_status():
    engine = Scripted(Answer("1"), Answer("No."), Answer("maybe"), Answer("", "HTTP 500: trouble"))
    actions = ["straight, throttle", "steer left, brake", "straight, brake", "steer right, keep speed"]
    assert PromptedJudge(engine).judge(batch(4), actions) == [
        Verdict(1),
        Verdict(0),
        Verdict(INVALID, Status.EMPTY, "neither 1 nor 0 in 'maybe'"),
        Verdict(INVALID, Status.FAILED, "HTTP 500: trouble"),
    ]
    assert [action in prompt for (prompt, _), action in zip(engine.asked, actions, strict=True)] == [True] * 4
    assert {cap for _, cap in engine.asked} == {4}
    assert "{" not in engine.asked[0][0]


def test_exceptions_are_the_callers_to_bisect():
    class Broken(Scripted):
        def answer(self, rgb, prompts, max_new_tokens=None):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        PromptedDescriber(Broken()).describe(batch(1))
    with pytest.raises(ZeroDivisionError):
        PromptedJudge(Broken()).judge(batch(1), ["straight, brake"])


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.txt")))
def test_prompts_are_files_known_by_their_bytes(name, tmp_path, monkeypatch):
    prompt = load_prompt(name)
    assert prompt.text == (FOLDER / f"{name}.txt").read_text(encoding="utf-8").strip()
    monkeypatch.setattr("semore.annotate.prompts.FOLDER", tmp_path)
    (tmp_path / f"{name}.txt").write_text(prompt.text + "!", encoding="utf-8")
    assert load_prompt(name).digest != prompt.digest


def test_prompts_say_what_the_method_asks():
    """method.md §5.1 and §6.1, in facts."""
    for word in (
        "driver's seat",
        "affect",
        "vehicles",
        "pedestrians",
        "one short noun phrase per line",
        "nothing else",
    ):
        assert word in describing.PROMPT.text
    for word in ("move forward", "current control is: {action}.", "1 for yes", "0 for no", "uncertain", "nothing else"):
        assert word in judging.PROMPT.text


@pytest.mark.parametrize("module", [describing, judging])
def test_identities_hold_engine_prompt_cap_and_parser(module, monkeypatch):
    def identity(cap: int = 64):
        make = PromptedDescriber if module is describing else PromptedJudge
        return dict(make(Scripted(cap=cap)).identity)

    before = identity()
    assert json.loads(json.dumps(before)) == before
    assert before["kind"] == "scripted"
    assert not is_privileged(before)
    assert (identity(cap=32) != before) == (module is describing)  # a verdict's cap is fixed
    monkeypatch.setattr(module, "PARSER_VERSION", 99)
    assert identity() != before
    monkeypatch.undo()
    monkeypatch.setattr(module, "PROMPT", module.PROMPT._replace(digest="other"))
    assert identity() != before


def test_describer_and_judge_differ():
    assert PromptedDescriber(Scripted()).identity != PromptedJudge(Scripted()).identity


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return str(build(tmp_path_factory.mktemp("models") / "tiny"))


ACTIONS = [f"{steer}, {pedal}" for steer in STEERING for pedal in PEDALS]


@pytest.mark.usefixtures("one_thread")
def test_qwen2_vl_describes_and_judges_with_weights_loaded_once(tiny):
    qwen = QwenSettings(model=tiny, upscale=56, max_new_tokens=6)
    settings = ProducerSettings(describer="qwen2-vl", segmenter="privileged", judge="qwen2-vl", qwen=qwen)
    producers = make_producers(settings)
    producers.load()
    frames = batch(len(ACTIONS))
    texts = producers.describer.describe(frames)
    verdicts = producers.judge.judge(frames, ACTIONS)
    assert (len(texts), len(verdicts)) == (9, 9)
    assert all(len(text.phrases) <= MAX_PHRASES and text.encode().encode() for text in texts)
    assert {verdict.value for verdict in verdicts} <= {0, 1, INVALID}
    assert [producers.describer.describe(frames.take([row]))[0] for row in range(3)] == list(texts[:3])
    assert producers.judge.judge(frames.take([8]), ACTIONS[8:]) == [verdicts[8]]
    assert producers.describer._engine is producers.judge._engine
    again = make_producers(settings)
    assert again.describer.identity == producers.describer.identity
    assert again.judge.identity == producers.judge.identity
    assert producers.describer.identity["kind"] == "qwen2-vl"


def test_an_endpoint_describes_and_judges(monkeypatch):
    def behave(asked: Asked) -> Reply:
        if asked.number == 2:
            return trouble(400, "picture too large")
        judged = "current control" in asked.prompt
        return say(str(int("brake" not in asked.prompt)) if judged else f"1. Car {asked.number}\n2. bus")

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Loopback(behave) as server:
        endpoint = EndpointSettings(url=server.url, model="tiny", upscale=0)
        producers = make_producers(ProducerSettings(describer="endpoint", segmenter="privileged", endpoint=endpoint))
        producers.load()
        frames = batch(4)
        texts = producers.describer.describe(frames)
        verdicts = producers.judge.judge(frames, ["straight, brake", "straight, throttle"] * 2)
    assert [text.status for text in texts] == [Status.OK, Status.OK, Status.FAILED, Status.OK]
    assert texts[3] == Text(("car 3", "bus"))
    assert "picture too large" in texts[2].reason
    assert [verdict.value for verdict in verdicts] == [0, 1, INVALID, 1]
    assert verdicts[2].status == Status.FAILED


def test_a_pass_outlives_a_server_that_fails_and_a_later_one_asks_only_what_failed(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    rollouts = write_rollouts(tmp_path / "r.zarr", episodes=1, steps=9)
    hidden = rollouts.episode("test-0000").read("rgb")["rgb"][4]
    ill = True

    def behave(asked: Asked) -> Reply:
        if ill and (asked.picture == hidden).all():
            return trouble(500, "no memory", retry_after_ms="10")
        return say("1" if "current control" in asked.prompt else "car\npedestrian")

    with Loopback(behave) as server:
        endpoint = EndpointSettings(url=server.url, model="tiny", upscale=0, retries=1)
        producers = make_producers(ProducerSettings(describer="endpoint", segmenter="privileged", endpoint=endpoint))

        def run():
            return annotate_rollouts([rollouts.path], KnowledgeCache(tmp_path / "k"), "k", producers, quiet=True)

        first, tries = run(), len(server.asked)
        assert (first.statuses["texts"]["failed"], first.statuses["verdicts"]["failed"]) == (1, 1)
        assert any("HTTP 500: " in reason and "no memory" in reason for reason in first.reasons)
        ill = False
        second = run()
        assert len(server.asked) - tries == 2  # its description and its verdict
        assert (second.statuses["texts"], second.statuses["verdicts"]) == ({"ok": 1}, {"ok": 1})
        run()
        assert len(server.asked) - tries == 2
