"""Passes that are answered nothing fail and say why, and take no knowledge set's name."""

from __future__ import annotations

import pickle
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_clipseg
from loopback_openai import Loopback, Reply, say, trouble
from test_annotate_pipeline import Counting, run
from test_oracle_rules import write_rollouts

from semore.annotate import __main__ as annotating
from semore.annotate.audit import __main__ as auditing
from semore.annotate.episodes import EpisodeAnnotator
from semore.annotate.pipeline import annotate_rollouts, make_annotator
from semore.annotate.registry import make_producers
from semore.annotate.scheduling.chunks import WorkChunk
from semore.annotate.scheduling.dask_executor import AnnotatorPlugin
from semore.annotate.scheduling.plan import decision_frames
from semore.annotate.settings import ClipSegSettings, EndpointSettings, ExecutorSettings, ProducerSettings
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.cache import KnowledgeCache, SetManifest, ensure_set, set_names
from semore.datasets.rollouts.store import Rollouts
from semore.datasets.run_command import run_command

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # jsonargparse's own, from datasets.settings


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory) -> Rollouts:
    return write_rollouts(tmp_path_factory.mktemp("rollouts") / "r.zarr", episodes=1, steps=24)


@pytest.fixture
def command(rollouts, tmp_path, monkeypatch, capsys):
    """command(main, *words): the exit code and all that was printed."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    preset = tmp_path / "p.yaml"
    preset.write_text("annotate: {}\n")

    def ran(main, *words: object) -> tuple[int, str]:
        common = ["--preset", str(preset), "--data", str(tmp_path), "--rollouts", str(rollouts.path)]
        monkeypatch.setattr(sys, "argv", ["semore", *common, *map(str, words)])
        code = 0
        try:
            run_command(main)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        said = capsys.readouterr()
        return code, " ".join((said.out + said.err).split())

    return ran


QUOTA = trouble(429, "You exceeded your current quota")
MODEL = trouble(400, "no such model")


def asking(server: Loopback, model: str = "tiny", segmenter: str = "cris-tiny") -> tuple[object, ...]:
    return (
        *("--segmenter", segmenter, "--endpoint.url", server.url, "--endpoint.model", model),
        *("--endpoint.retries", 0, "--endpoint.upscale", 0),
    )


@pytest.mark.parametrize(
    ("reply", "extent", "asked"), [(QUOTA, (), 24), (MODEL, ("--sample", 4), 4), (QUOTA, ("--frames", 4), 4)]
)
def test_a_server_that_refuses_everything_ends_the_command_with_an_error(command, tmp_path, reply, extent, asked):
    well = False

    def behave(_: object) -> Reply:
        return say("1") if well else reply

    with Loopback(behave) as server:
        code, said = command(annotating.main, "--describer", "endpoint", *asking(server), *extent)
        assert code == 1
        assert f"the describer answered none of {asked} questions; {asked} times: HTTP {reply.status}" in said
        assert reply.body["error"]["message"] in said
        assert "next:" not in said
        assert "the rest:" not in said  # nor a pilot's report on nothing
        assert set_names(tmp_path / "knowledge") == []
        assert not (tmp_path / "knowledge" / "rates.json").exists()  # how fast one is refused is no speed
        code, said = command(annotating.main, "--describer", "endpoint", *asking(server), "--retry_failed", "false")
        assert extent or (code == 1 and "all 25 frames failed in earlier passes" in said)
        well = True  # another model by the same set's name, for nothing has been answered yet
        code, said = command(annotating.main, "--describer", "endpoint", *asking(server, "other"), *extent)
    assert (code, "next: semore " in said) == (0, True)
    assert set_names(tmp_path / "knowledge") == ["endpoint-cris-tiny"]


def test_a_judge_that_refuses_everything_fails_the_pass_although_the_rest_is_answered(command, tmp_path):
    with Loopback(lambda _: QUOTA) as server:
        code, said = command(annotating.main, "--judge", "endpoint", *asking(server, segmenter="privileged"))
    assert (code, "next:" in said) == (1, False)
    assert "the judge answered none of 23 questions; 23 times: HTTP 429" in said
    assert set_names(tmp_path / "knowledge") == ["privileged"]  # texts and masks are there


def test_a_pass_that_fails_before_its_first_answer_takes_no_name(command, tmp_path):
    with Loopback(lambda _: trouble(401, "bad key")) as server:
        code, said = command(annotating.main, "--describer", "endpoint", *asking(server, "unlisted"))
        assert (code, "has no model 'unlisted'" in said) == (1, True)
        code, said = command(annotating.main, "--describer", "endpoint", *asking(server))
        assert (code, "refuses the key" in said) == (1, True)
    assert not (tmp_path / "knowledge").exists()


def test_a_frame_that_fails_each_time_does_not_fail_the_pass(rollouts, tmp_path):
    sick = Counting()
    sick.poison = {rollouts.episode("test-0000").read("digest")["digest"][7].tobytes()}
    for _ in range(2):
        summary = run(rollouts, tmp_path, sick)
        assert summary.failed == 2
        summary.require_answers()
    assert summary.answered == 0
    lost = Counting()
    lost.poison = {digest.tobytes() for digest in rollouts.episode("test-0000").read("digest")["digest"]}
    with pytest.raises(SemoreError, match=r"the describer answered none of 24 questions; 24 times: RuntimeError: pois"):
        run(rollouts, tmp_path / "other", lost).require_answers()


def test_a_refused_refresh_ends_the_training_run(rollouts, tmp_path, monkeypatch):
    sick = Counting()
    sick.poison = {digest.tobytes() for digest in rollouts.episode("test-0000").read("digest")["digest"]}
    (episode,) = rollouts.episodes()
    made = make_annotator(KnowledgeCache(tmp_path / "k"), "k", sick.producers)
    monkeypatch.setattr("semore.annotate.episodes.annotator_for", lambda knowledge: made)
    with closing(EpisodeAnnotator(made.knowledge, ExecutorSettings())) as annotate:
        with pytest.raises(SemoreError, match="the describer answered none of 24 questions"):
            annotate([episode], [decision_frames(episode)])
        sick.poison = set()
        assert annotate([episode], [decision_frames(episode)]).answered > 0


def test_an_audit_of_failures_alone_is_an_error(command, rollouts, tmp_path):
    sick = Counting()
    sick.poison = {digest.tobytes() for digest in rollouts.episode("test-0000").read("digest")["digest"]}
    cache = KnowledgeCache(tmp_path / "knowledge")
    annotate_rollouts([rollouts.path], cache, "k", sick.producers, quiet=True)
    ensure_set(cache, "k", sick.producers.manifest())
    code, said = command(auditing.main, "--knowledge", "k")
    assert (code, "next:" in said) == (1, False)
    assert "none of 25 frames has knowledge; 25 times: text failed: RuntimeError: poisoned frame" in said


@pytest.mark.slow
def test_a_cluster_is_refused_like_a_process_alone(rollouts, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Loopback(lambda _: QUOTA) as server:
        endpoint = EndpointSettings(url=server.url, model="tiny", upscale=0, retries=0)
        producers = make_producers(ProducerSettings("endpoint", "privileged", endpoint=endpoint))
        for number, crew in enumerate((None, ExecutorSettings("local", 1))):
            cache = KnowledgeCache(tmp_path / str(number))
            summary = annotate_rollouts([rollouts.path], cache, "k", producers, quiet=True, executor=crew)
            assert "the describer answered none of 24 questions; 24 times: HTTP 429" in summary.refusal
            assert set_names(cache.root) == []


def test_only_the_differing_keys_are_told(tmp_path):
    cache = KnowledgeCache(tmp_path)
    qwen = {"kind": "qwen2-vl", "model": "a", "dtype": "float32", "prompt": "describe-1 " + "0" * 32}
    made = SetManifest(qwen, {"kind": "cris"}, {"kind": "privileged"})
    ensure_set(cache, "k", made)
    other = {key: value for key, value in qwen.items() if key != "dtype"}
    asked = SetManifest(other | {"model": "b", "engine": 5}, {"kind": "clipseg", "weights": "w"}, None, "mean")
    with pytest.raises(SemoreError) as refused:
        ensure_set(cache, "k", asked)
    told = str(refused.value).removeprefix(str(tmp_path))
    assert told == (
        "/sets/k.json: knowledge set 'k' is another: describer.model was a, is now b; describer.dtype was float32, is "
        "now nothing; describer.engine was nothing, is now 5; segmenter.kind was cris, is now clipseg; judge was "
        "privileged, is now none; merge was max, is now mean; choose another --knowledge name (what has been answered "
        "is shared anyway), or the settings it was made with"
    )


def test_a_worker_with_another_checkpoint_is_refused_before_it_answers(rollouts, tmp_path):
    model: Path = tiny_clipseg.build(tmp_path / "clipseg")
    settings = ProducerSettings(segmenter="clipseg", clipseg=ClipSegSettings(model=str(model)))
    annotator = make_annotator(KnowledgeCache(tmp_path / "k"), "k", make_producers(settings), recipe=settings)
    packed = pickle.dumps(AnnotatorPlugin(annotator))
    plan = annotator.plan(list(rollouts.episodes()))
    share = WorkChunk((plan.parts[0].take(np.arange(2)),))

    def on_worker() -> AnnotatorPlugin:
        plugin = pickle.loads(packed)
        plugin.setup(SimpleNamespace(address="tcp://there"))
        return plugin

    text = (model / "merges.txt").read_text()
    (model / "merges.txt").write_text("#version: 0.2\nc a\n")
    with pytest.raises(SemoreError, match=r"worker tcp://there .*segmenter\.model was files .*, is now files .*client"):
        on_worker().work(share)
    assert set_names(tmp_path / "k") == []
    (model / "merges.txt").write_text(text)
    assert on_worker().work(share).answered > 0
    kept = annotator.plan(list(rollouts.episodes()))  # the client sees what came of it, and under which recipe
    assert kept.todo < plan.todo
    recipe = make_annotator(KnowledgeCache(tmp_path / "k"), "k", make_producers(settings)).knowledge.manifest.recipe
    assert recipe["segmenter"] == "clipseg"


@pytest.mark.parametrize("describer", ["endpoint", "qwen2-vl"])
def test_phrases_of_a_model_are_not_given_to_the_privileged_segmenter(command, tmp_path, describer):
    code, said = command(annotating.main, "--describer", describer, "--segmenter", "privileged")
    assert code == 1
    assert "choose --segmenter cris-tiny, cris, clipseg, or --describer privileged" in said
    assert not (tmp_path / "knowledge").exists()
