"""why, diff, stats and sets: what they say about a frame, a change of producers, and the cache."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_rollouts import episode_arrays

from semore.datasets.__main__ import COMMANDS, command
from semore.datasets.action_text import action_words
from semore.datasets.errors import SemoreError, UsageError
from semore.datasets.knowledge.admin.diff import compare, stale
from semore.datasets.knowledge.admin.gc import Gc
from semore.datasets.knowledge.admin.needs import changes, summary
from semore.datasets.knowledge.admin.stats import runs_by_set
from semore.datasets.knowledge.admin.why import explain, find_frame
from semore.datasets.knowledge.cache import KnowledgeCache, SetManifest, ensure_set
from semore.datasets.knowledge.rates import remember_rate, seconds_per_frame
from semore.datasets.knowledge.records import Identity, Status, Text, note, record_keys
from semore.datasets.rollouts.store import Rollouts

STEPS, SIDE = 9, 8
DESCRIBER: Identity = {"kind": "d", "prompt": "one", "privileged": False}
SEGMENTER: Identity = {"kind": "s", "privileged": True}
JUDGE: Identity = {"kind": "j", "privileged": False}
MANIFEST = SetManifest(DESCRIBER, SEGMENTER, JUDGE)
ANSWERS = [
    Text(("car", "bus")),
    Text(()),
    Text((), Status.EMPTY, "no list"),
    Text((), Status.FAILED, "time-out"),
    Text(("car",)),  # its mask has failed
    Text(("dog",)),  # its mask was never made
    *[Text(("car",))] * (STEPS - 6),
    None,  # frames 9: never described
]


class World:
    """Two episodes of STEPS steps, and a cache that knows the frames of the first as ANSWERS says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rollouts = Rollouts(root / "rollouts" / "JayWalk-laptop.zarr")
        self.rollouts.create()
        for seed in range(2):
            attributes = {"camera": SIDE, "action_repeat": 1, "split": "train"}
            self.rollouts.write(f"episode-{seed}", episode_arrays(STEPS, seed), attributes)
        self.episodes = list(self.rollouts.episodes())
        self.cache = KnowledgeCache(root / "knowledge")
        arrays = self.episodes[0].read("digest", "state_digest", "action")
        self.frames, self.states = arrays["digest"], arrays["state_digest"]
        self.words = action_words(arrays["action"])
        known = [row for row, text in enumerate(ANSWERS) if text is not None]
        self.describe(DESCRIBER, known, [text for text in ANSWERS if text is not None])
        self.segment(SEGMENTER, [0, 0, 4, 6, 7, 8], ["car", "bus", "car", "car", "car", "car"], failed=[4])
        keys = record_keys("verdicts", JUDGE, self.frames[:3], self.states[:3], self.words[:3])
        values = np.array([1, 0, 255], np.uint8)
        self.cache.verdicts.add(JUDGE, keys, self.frames[:3], [0, 0, 1], [note(reason="")] * 3, values)
        self.cache.commit()
        self.set = ensure_set(self.cache, "s", MANIFEST)

    def describe(self, who: Identity, rows: Sequence[int], texts: Sequence[Text]) -> None:
        keys = record_keys("texts", who, self.frames[rows], self.states[rows])
        statuses, notes = [text.status for text in texts], [text.encode() for text in texts]
        self.cache.texts.add(who, keys, self.frames[rows], statuses, notes)
        self.cache.commit()

    def segment(self, who: Identity, rows: Sequence[int], phrases: Sequence[str], failed: Sequence[int] = ()) -> None:
        keys = record_keys("masks", who, self.frames[rows], self.states[rows], phrases)
        statuses = [Status.FAILED if row in failed else Status.OK for row in rows]
        notes = [
            note(phrase=phrase, reason="boom" if row in failed else "")
            for row, phrase in zip(rows, phrases, strict=True)
        ]
        masks = np.random.default_rng(0).integers(0, 256, (len(rows), SIDE, SIDE), np.uint8)
        self.cache.masks.add(who, keys, self.frames[rows], statuses, notes, masks)
        self.cache.commit()


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path)


# why


def test_why_agrees_with_what_training_reads(world):
    _, valid = world.set.h_ka(world.frames, world.states, size=(SIDE, SIDE))
    assert world.set.valid(world.frames, world.states).tolist() == valid.tolist()
    found = [explain(world.set, world.episodes[0], row) for row in range(STEPS + 1)]
    assert [each.valid for each in found] == valid.tolist()
    assert [each.why.partition(":")[0] for each in found] == [
        "max of 2 masks",
        "a known empty scene",
        "the text is empty",
        "the text is failed",
        "1 of 1 masks cannot be used",
        "1 of 1 masks cannot be used",
        *["max of 1 masks"] * (STEPS - 6),
        f"no text by {summary(DESCRIBER)}",
    ]
    assert "time-out" in found[3].why
    assert "'car' failed" in found[4].why
    assert "'dog' missing" in found[5].why
    text, car, bus, verdict = found[0].answers
    assert (text.winner.phrases, car.asked, bus.asked) == (("car", "bus"), "car", "bus")
    assert (verdict.asked, verdict.winner.verdict) == (world.words[0], 1)
    assert [each.level for each in found[-1].answers] == ["texts"]  # no action after the last frame


def test_why_names_the_very_record_that_serves_and_those_that_lost(world):
    for phrase in ("van", "tram", "truck"):
        world.describe(DESCRIBER, [3], [Text((phrase,))])
    answer = explain(world.set, world.episodes[0], 3).answers[0]
    keys = record_keys("texts", DESCRIBER, world.frames[3:4], world.states[3:4])
    assert answer.winner.digest == world.cache.texts.records(keys)[0].tobytes().hex()
    assert answer.winner.phrases == world.set.texts(world.frames[3:4], world.states[3:4])[0].phrases
    assert [loser.status for loser in answer.losers] == ["ok", "ok", "failed"]
    assert answer.losers[-1].reason == "time-out"
    assert Path(answer.winner.shard).exists()


def test_why_says_who_else_has_answered(world):
    changed: Mapping[str, str | bool] = {**DESCRIBER, "prompt": "two"}
    other = ensure_set(world.cache, "other", replace(MANIFEST, describer=changed))
    found = explain(other, world.episodes[0], 0)
    assert not found.valid
    assert found.answers[0].winner is None
    assert found.answers[0].others == (f"ok by {summary(DESCRIBER)}, which differs in prompt: two → one",)


def test_frames_are_found_by_name_or_path_and_refused_with_reasons(world):
    folder = world.rollouts.path
    for name in ("episode-1:9", f"{folder}/episode-1:9"):
        episode, row = find_frame(name, folder)
        assert (episode.name, row) == ("episode-1", 9)
    for name, reason in (
        ("episode-1", "EPISODE:FRAME"),
        ("episode-1:-1", "EPISODE:FRAME"),
        ("episode-1:10", "frames 0 to 9"),
        ("nobody:1", "it has 2: episode-0 … episode-1"),
        (f"{folder}-not/episode-1:0", "does not exist"),
    ):
        with pytest.raises(SemoreError, match=reason):
            find_frame(name, folder)


# diff


def test_a_changed_prompt_makes_every_frame_stale_and_a_changed_merge_none(world):
    new = replace(MANIFEST, describer={**DESCRIBER, "prompt": "two"})
    found = stale(world.cache, MANIFEST, new, world.episodes)
    assert found.changed == {"texts": ["prompt: one → two"]}
    assert found.frames == 2 * (STEPS + 1)
    assert found.served == found.stale == int(world.set.valid(world.frames, world.states).sum())
    assert found.todo == found.frames == found.make["texts"]
    usable = [len(text.phrases) for text in ANSWERS if text is not None and text.status == Status.OK]
    assert found.make["masks"] == round(found.frames * float(np.mean(usable)))  # the old prompt's phrases per frame
    assert found.make["verdicts"] == 2 * STEPS - 3
    assert found.bytes > 0
    assert found.seconds is None
    remember_rate(world.cache.root, new, 0.5)
    assert seconds_per_frame(world.cache.root, MANIFEST) == 0.5  # another prompt is as fast
    assert stale(world.cache, MANIFEST, new, world.episodes).seconds == 0.5 * found.frames
    merged = stale(world.cache, MANIFEST, replace(MANIFEST, merge="mean"), world.episodes)
    assert (merged.changed, merged.stale) == ({}, 0)


def test_a_changed_segmenter_keeps_the_texts_and_stale_counts_what_annotating_then_makes(world):
    new = replace(MANIFEST, segmenter={**SEGMENTER, "weights": "new"})
    found = stale(world.cache, MANIFEST, new, world.episodes[:1])
    assert found.changed == {"masks": ["weights: none → new"]}
    assert found.make["texts"] == 2  # the failed and the missing one
    known = sum(len(text.phrases) for text in ANSWERS if text is not None)
    assert found.make["masks"] == known + round(2 * known / 7)
    assert found.stale == found.served - 1  # the known empty scene needs no mask
    world.segment(new.segmenter, [0, 0, 4, 5, 6, 7, 8], ["car", "bus", "car", "dog", "car", "car", "car"])
    assert stale(world.cache, MANIFEST, new, world.episodes[:1]).stale == 0


def test_only_frames_with_decisions_count_unless_rows_are_given(world):
    world.rollouts.write("skipping", episode_arrays(STEPS, 5), {"camera": SIDE, "action_repeat": 4})
    episode = world.rollouts.episode("skipping")
    assert episode.decision_rows.tolist() == [0, 4, 8, 9]
    assert stale(world.cache, None, MANIFEST, [episode]).frames == 4
    every = [np.arange(STEPS + 1)]
    found = stale(world.cache, None, MANIFEST, [episode], every)
    assert (found.frames, found.make["verdicts"]) == (STEPS + 1, STEPS)


def test_two_sets_are_compared_frame_by_frame(world):
    new = replace(MANIFEST, describer={**DESCRIBER, "prompt": "two"})
    same, fewer = Text(("bus", "car")), Text(("car",))  # order does not matter
    world.describe(new.describer, [0, 1, 6, 7, 9], [same, fewer, fewer, Text(()), Text(())])
    world.segment(SEGMENTER, [1], ["car"])
    found = compare(world.set, ensure_set(world.cache, "new", new), world.episodes)
    assert (found.both, found.first, found.second) == (4, 1, 1)  # 0, 1, 6, 7; 8; 9
    assert found.neither == 2 * (STEPS + 1) - 6
    assert (found.phrases, found.h_ka) == (2, 2)
    assert found.overlap == pytest.approx(0.5)  # rows 0 and 6 are the same, in 1 and 7 one is empty
    assert (found.verdicts, found.verdicts_equal) == (2, 2)


# stats, sets, command line


def run(*arguments: str) -> int:
    return command(list(arguments)).execute()


def test_reports_as_json_and_for_people(world, capsys, monkeypatch):
    monkeypatch.chdir(world.root)
    settings = world.root / "runs" / "first" / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"settings": {"knowledge": "s"}}))
    world.describe(DESCRIBER, [3], [Text(("van",))])
    common = ("--data", str(world.root))
    for line in ("why episode-0:3", "diff s", "diff s s", "stats", "sets", "gc", "verify"):
        arguments = line.split()
        assert run(*arguments, *common) == 0
        assert capsys.readouterr().out.strip()
        assert run(*arguments, *common, "--json") == 0
        json.loads(capsys.readouterr().out)
    run("stats", *common, "--json")
    texts, masks, verdicts = json.loads(capsys.readouterr().out)["producers"]
    assert {key: texts[key] for key in ("keys", "ok", "empty", "failed", "lost")} == {
        "keys": 9, "ok": 8, "empty": 1, "failed": 0, "lost": 1
    }  # fmt: skip
    assert texts["phrases"]["car"] == 5
    assert 0.3 < masks["coverage"] < 0.7
    assert (verdicts["ok"], verdicts["empty"], verdicts["sets"]) == (2, 1, ["s"])
    run("sets", *common, "--json")
    (found,) = json.loads(capsys.readouterr().out)
    assert found["records"] == {"texts": 9, "masks": 6, "verdicts": 3}
    assert found["runs"] == ["runs/first"]
    assert runs_by_set(world.root / "nowhere") == {}


def test_the_command_line_explains_itself(world, tmp_path):
    shown = subprocess.run(
        [sys.executable, "-m", "semore.datasets", "--help"], capture_output=True, text=True, check=True
    )
    for name in COMMANDS:
        assert name in shown.stdout
    wrong = subprocess.run(
        [sys.executable, "-m", "semore.datasets", "why", "episode-0:99", "--data", str(world.root)],
        capture_output=True,
        text=True,
    )
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: ")
    assert "Traceback" not in wrong.stderr


def test_flags_and_positions():
    assert command(["gc", "--yes", "--runs", "a", "b"]) == Gc(yes=True, runs=["a", "b"])
    assert command(["diff", "--json", "a"]).other == ""
    assert command(["diff", "a", "b"]).other == "b"
    for wrong in (["why"], ["nothing"], ["stats", "--phrases", "many"]):
        with pytest.raises(UsageError, match="semore datasets"):
            command(wrong)
    with pytest.raises(SemoreError, match="nothing is annotated there yet"):
        command(["sets", "--data", "/nowhere"]).execute()


def test_changes_name_the_fields():
    assert changes({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": True}) == ["b: 2 → 3", "c: none → True"]
    assert changes(None, None) == []
