"""The pass: work done once, whatever is killed, broken or torn meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from test_oracle_rules import write_rollouts

from semore.annotate.__main__ import main
from semore.annotate.annotator import Annotator
from semore.annotate.interfaces import FrameBatch, Producers
from semore.annotate.pipeline import annotate_rollouts, annotator_for, make_annotator
from semore.annotate.registry import PRIVILEGED, make_producers
from semore.annotate.settings import AnnotateSettings
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge import level as knowledge_level
from semore.datasets.knowledge.cache import KnowledgeCache, open_set
from semore.datasets.rollouts.store import Rollouts


class Counting:
    """The privileged producers, counting frames and phrases asked, optionally slow, failing where told."""

    def __init__(self, pause: float = 0.0) -> None:
        self.real, self.pause, self.asked = make_producers(PRIVILEGED), pause, {"texts": 0, "masks": 0, "verdicts": 0}
        self.poison: set[bytes] = set()
        self.loads = 0

    @property
    def producers(self) -> Producers:
        return Producers(DescriberPart(self), SegmenterPart(self), JudgePart(self))

    def note(self, level: str, amount: int, batch: FrameBatch) -> None:
        time.sleep(self.pause)
        if self.poison & {frame.tobytes() for frame in batch.frames}:
            raise RuntimeError("poisoned frame")
        self.asked[level] += amount


class _Part:
    def __init__(self, counting: Counting) -> None:
        self.counting = counting

    def load(self) -> None:
        self.counting.loads += 1


class DescriberPart(_Part):
    @property
    def identity(self):
        return self.counting.real.describer.identity

    def describe(self, batch):
        self.counting.note("texts", len(batch), batch)
        return self.counting.real.describer.describe(batch)


class SegmenterPart(_Part):
    @property
    def identity(self):
        return self.counting.real.segmenter.identity

    def segment(self, batch, phrases):
        self.counting.note("masks", sum(map(len, phrases)), batch)
        return self.counting.real.segmenter.segment(batch, phrases)


class JudgePart(_Part):
    @property
    def identity(self):
        return self.counting.real.judge.identity

    def judge(self, batch, actions):
        self.counting.note("verdicts", len(batch), batch)
        return self.counting.real.judge.judge(batch, actions)


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory) -> Rollouts:
    return write_rollouts(tmp_path_factory.mktemp("rollouts") / "r.zarr")


def run(rollouts: Rollouts, root: Path, counting: Counting, name: str = "k", batch: int = 16):
    return annotate_rollouts([rollouts.path], KnowledgeCache(root), name, counting.producers, batch=batch, quiet=True)


def everything(rollouts: Rollouts, root: Path, name: str = "k"):
    """H_ka, validity, phrases and verdicts of all frames, and which records serve them."""
    from semore.datasets.action_text import action_words

    knowledge, found = open_set(root, name), []
    for episode in rollouts.episodes():
        arrays = episode.read("digest", "state_digest", "action")
        frames, states, words = arrays["digest"], arrays["state_digest"], action_words(arrays["action"])
        masks, valid = knowledge.h_ka(frames, states, grid=8)
        verdicts = knowledge.verdicts(frames[:-1], states[:-1], words)
        found.append((masks.tobytes(), valid.tobytes(), knowledge.texts(frames, states), verdicts.tobytes()))
        found.append(knowledge.fingerprint(frames, states))
    return found


def test_everything_is_annotated_once(rollouts, tmp_path):
    first = Counting()
    summary = run(rollouts, tmp_path, first)
    unique = 3 * 39  # frames 0 and 1 of each episode are the same
    assert (summary.frames, summary.todo, summary.done) == (120, unique, unique)
    assert first.asked["texts"] == unique == summary.statuses["texts"]["ok"]
    assert first.asked["verdicts"] == 3 * 38
    assert first.asked["masks"] == summary.statuses["masks"]["ok"] > 0
    knowledge = open_set(tmp_path, "k")
    for episode in rollouts.episodes():
        arrays = episode.read("digest", "state_digest", "instance")
        masks, valid = knowledge.h_ka(arrays["digest"], arrays["state_digest"], size=(32, 32))
        assert valid.all()
        assert ((masks > 0) <= (arrays["instance"] > 0)).all()
        assert masks.any()


def test_a_second_experiment_makes_no_producer_call(rollouts, tmp_path):
    run(rollouts, tmp_path, Counting())
    for name in ("k", "another"):
        again = Counting()
        summary = run(rollouts, tmp_path, again, name)
        assert again.asked == {"texts": 0, "masks": 0, "verdicts": 0}
        assert summary.calls == {"texts": 0, "masks": 0, "verdicts": 0}
        assert summary.cached == summary.frames == 120
        assert summary.phrases.total() > 0


def test_a_new_segmenter_reuses_the_texts(rollouts, tmp_path):
    run(rollouts, tmp_path, Counting())
    again = Counting()

    class Other(SegmenterPart):
        @property
        def identity(self):
            return {"kind": "other", "privileged": False}

    producers = replace(again.producers, segmenter=Other(again))
    annotate_rollouts([rollouts.path], KnowledgeCache(tmp_path), "other", producers, quiet=True)
    assert again.asked["texts"] == again.asked["verdicts"] == 0
    assert again.asked["masks"] > 0


CHILD = """
import sys
from pathlib import Path
sys.path[:0] = {tests!r}
from test_annotate_pipeline import Counting, run
from semore.datasets.knowledge import level as knowledge_level
from semore.datasets.rollouts.store import Rollouts
knowledge_level.COMMIT_RECORDS = 16
run(Rollouts(Path(sys.argv[1])), Path(sys.argv[2]), Counting(0.02), batch=4)
"""


def test_kill_and_resume_costs_one_pass(rollouts, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    reference = Counting()
    run(rollouts, whole, reference)

    code = CHILD.format(tests=[str(Path(__file__).parent), str(Path(__file__).parents[1])])
    child = subprocess.Popen([sys.executable, "-c", code, str(rollouts.path), str(killed)])
    deadline = time.monotonic() + 30
    while len(list(killed.glob("texts/*.h5"))) < 3:
        assert child.poll() is None, "the child ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()

    committed = {level.name: len(level) for level in KnowledgeCache(killed).levels}
    assert 0 < committed["texts"] < reference.asked["texts"]
    rest = Counting()
    run(rollouts, killed, rest)
    for level, done in committed.items():
        assert rest.asked[level] == reference.asked[level] - done
    assert everything(rollouts, killed) == everything(rollouts, whole)


@pytest.mark.parametrize("level", ["texts", "masks", "verdicts"])
def test_a_torn_shard_is_done_again_and_nothing_else(rollouts, tmp_path, monkeypatch, level):
    monkeypatch.setattr(knowledge_level, "COMMIT_RECORDS", 32)
    run(rollouts, tmp_path, Counting())
    before = everything(rollouts, tmp_path)
    shards = sorted((tmp_path / level).glob("*.h5"))
    assert len(shards) > 1
    with h5py.File(shards[0]) as file:
        torn = len(file["key"])
    shards[0].write_bytes(shards[0].read_bytes()[:-100])
    again = Counting()
    run(rollouts, tmp_path, again)
    assert again.asked[level] == torn
    assert sum(again.asked.values()) == again.asked[level]
    assert everything(rollouts, tmp_path) == before


def test_refresh_calls_are_cheap_and_quiet(rollouts, tmp_path, capfd):
    annotator = make_annotator(KnowledgeCache(tmp_path), "k", make_producers(PRIVILEGED))
    for episode in rollouts.episodes():
        assert annotator([episode]).done == 39
    again = annotator_for(open_set(tmp_path, "k"))
    assert isinstance(again, Annotator)
    assert again(list(rollouts.episodes())).done == 0
    assert again([]).frames == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # jsonargparse's own, from datasets.settings
def test_the_command_line(rollouts, tmp_path, monkeypatch, capsys):
    preset = tmp_path / "p.yaml"
    preset.write_text("annotate:\n  batch: 32\n")
    words = ["annotate", "--preset", str(preset), "--data", str(tmp_path), "--rollouts", str(rollouts.path)]
    words += ["--segmenter", "privileged"]
    monkeypatch.setattr(sys, "argv", words)
    main()
    first = capsys.readouterr().out
    assert "120 frames, 3 known or repeated, 117 to do" in first
    names = f"--preset {preset} --scenario JayWalk --simulator embedded --data {tmp_path} --rollouts {rollouts.path}"
    assert f"next: semore train {names} --knowledge privileged\n" in first
    main()
    assert "nothing to do" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*words, "--merge", "mean"])
    with pytest.raises(SemoreError, match="another --knowledge name"):
        main()
    monkeypatch.setattr(sys, "argv", [*words, "--rollouts", "nowhere"])
    with pytest.raises(SemoreError, match=r"semore collect .*--rollouts nowhere"):
        main()


def test_names_resolve_as_collect_writes_them():
    assert AnnotateSettings().folder == Path("data/rollouts/JayWalk-laptop.zarr")
    assert AnnotateSettings(rollouts="x").folder == Path("data/rollouts/x.zarr")
