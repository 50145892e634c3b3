"""Hints and remedies: each is a full command, which does with the user's own names what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from stub_checkout import make_checkout
from tiny_rollouts import tiny_rollouts

from semore.annotate.__main__ import after_pilot
from semore.annotate.annotate_hint import annotate_command, train_after
from semore.annotate.audit.__main__ import AuditSettings
from semore.annotate.audit.measure import Audit
from semore.annotate.pilot import Pilot
from semore.annotate.settings import AnnotateSettings, EndpointSettings
from semore.collect.carla.settings import CarlaSettings
from semore.collect.plan import CollectSettings
from semore.datasets.__main__ import command as datasets_command
from semore.datasets.atomic_io import write_json
from semore.datasets.command_line import read_settings
from semore.datasets.errors import SemoreError
from semore.datasets.hints import TARGETS, carried, command, recordings
from semore.datasets.knowledge.cache import KnowledgeCache, SetManifest, ensure_set
from semore.datasets.rollouts.merge import Merge
from semore.datasets.rollouts.recorded import recorded
from semore.datasets.settings import as_dict, load_settings
from semore.doctor import DoctorSettings
from semore.evaluate.__main__ import EvaluateSettings
from semore.evaluate.chosen_runs import ChosenRuns
from semore.evaluate.counterfactual.__main__ import CounterfactualSettings, train_with_changes
from semore.evaluate.episodes import Row
from semore.evaluate.film.__main__ import DemoSettings
from semore.evaluate.report.__main__ import ReportSettings
from semore.evaluate.run_commands import evaluate_command, require_policy
from semore.evaluate.run_commands import train_command as resume_command
from semore.evaluate.sweep.__main__ import SweepSettings, next_step
from semore.evaluate.sweep.finished import Result
from semore.evaluate.sweep.points import Point
from semore.evaluate.view.__main__ import ViewSettings
from semore.train.__main__ import next_command
from semore.train.settings import TrainSettings

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # jsonargparse's own

ROOT: Final = Path(__file__).resolve().parent.parent
ONE_FORM: Final = pytest.mark.parametrize("read", ["semore"], indirect=True)
"""For what names a command has: reading a command line takes its time, and make's form is the same everywhere."""
STAGES: Final = {
    "collect": CollectSettings, "annotate": AnnotateSettings, "train": TrainSettings, "evaluate": EvaluateSettings,
}  # fmt: skip
OTHERS: Final = {
    "report": ReportSettings, "compare": ChosenRuns, "view": ViewSettings, "demo": DemoSettings, "audit": AuditSettings,
    "counterfactual": CounterfactualSettings, "sweep": SweepSettings, "doctor": DoctorSettings,
}  # fmt: skip
STUB: Final = f"""#!{sys.executable}
import json, os, sys
print("SAID" + json.dumps([sys.argv[1:], {{k: v for k, v in os.environ.items() if k.startswith("SEMORE_")}}]))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A checkout whose console command only says what it was asked."""
    return make_checkout(tmp_path_factory.mktemp("checkout"), STUB)


@pytest.fixture(params=["semore", "make"])
def read(request, monkeypatch, checkout):
    """read(hint): what the command line asks of each command, as the command itself reads it. With "make" hints are in
    make's form, and true make runs them."""
    monkeypatch.chdir(checkout)
    for name in [name for name in os.environ if name.startswith("SEMORE_")]:
        monkeypatch.delenv(name)
    clean = dict(os.environ)
    if request.param == "make":
        monkeypatch.setenv("SEMORE_MAKE", "1")

    def asked(hint: str) -> list[Any]:
        path = f"{checkout}/.venv/bin:{clean['PATH']}"
        done = subprocess.run(
            ["bash", "-c", hint], cwd=checkout, env={**clean, "PATH": path}, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert hint.startswith("make ") or request.param == "semore"
        found = [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("SAID")]
        return [_understood(words, environment) for words, environment in found]

    def _understood(words: list[str], environment: dict[str, str]) -> Any:
        name, *rest = words
        with pytest.MonkeyPatch.context() as patch:
            for key, value in environment.items():
                patch.setenv(key, value)
            patch.setattr(sys, "argv", [name, *rest])
            return load_settings(STAGES[name], name) if name in STAGES else read_settings(OTHERS[name], name)

    return asked


def test_make_has_a_target_for_each_of_its_commands():
    (line,) = re.findall(r"^commands := (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert tuple(line.split()) == TARGETS


NAMED: Final = {"preset": "debug", "scenario": "HighBeam", "simulator": "carla", "rollouts": "x"}


def test_every_stage_hands_its_names_on_to_the_next(read):
    collecting = CollectSettings(**NAMED, data="my data")
    (annotating,) = read(command("annotate", recordings(collecting)))
    assert annotating.folder == collecting.rollouts_folder == Path("my data/rollouts/x.zarr")
    (training,) = read(train_after(annotating, "y"))
    assert (training.rollouts_folder, training.knowledge) == (annotating.folder, "y")
    assert (training.scenario, training.preset, training.simulator) == ("HighBeam", "debug", "carla")
    servers = CarlaSettings(port=2400, command="/opt/c a/run.sh -port={port} 'x'")
    run = replace(training, run="z", runs="my runs", method="sac", carla=servers)
    (evaluating,) = read(next_command(run))
    assert (evaluating.folder, evaluating.scenario) == (run.folder, "HighBeam") == (Path("my runs/z"), "HighBeam")
    assert (evaluating.carla, evaluating.episodes) == (servers, 2)
    (plain,) = read(next_command(replace(run, run="", method="drq", scenario="JayWalk")))
    assert plain.folder == Path("my runs/JayWalk-debug-drq-carla")


@ONE_FORM
def test_the_knowledge_set_is_named_unless_training_finds_it_by_itself(read):
    for settings, name in (
        (AnnotateSettings(), "privileged-cris-tiny"),
        (AnnotateSettings(segmenter="privileged"), "privileged"),
        (AnnotateSettings(preset="paper"), "privileged-cris-tiny"),  # the preset's own is another
        (AnnotateSettings(describer="endpoint", segmenter="clipseg"), "endpoint-clipseg"),
    ):
        (training,) = read(train_after(settings, settings.knowledge_set))
        assert (training.knowledge, training.preset) == (name, settings.preset)
    assert "knowledge" not in train_after(AnnotateSettings(), "privileged-cris-tiny").lower()


def test_a_pilot_leads_to_the_same_pass_a_larger_pilot_or_training(read):
    asked = AnnotateSettings(
        **NAMED, data="d", knowledge="y", describer="endpoint", sample=20, batch=5, merge="mean",
        endpoint=EndpointSettings("http://there:1/v1", "a model"),
    )  # fmt: skip
    many, few = Audit("y", 0.5, Counter()), Audit("y", 0.5, Counter())
    for count in ("frames", "shown", "shown_named"):
        setattr(many, count, 25)
        setattr(few, count, 25 if count == "frames" else 7)
    assert read(after_pilot(asked, Pilot(many, 9), [])) == [replace(asked, sample=0)]
    assert read(after_pilot(asked, Pilot(few, 9), [])) == [replace(asked, sample=80)]
    assert isinstance(read(after_pilot(asked, Pilot(few, 0), []))[0], TrainSettings)
    many.without = 25
    told = after_pilot(asked, Pilot(many, 9), [])
    assert told.startswith("mend what the warnings name, then ")
    assert read(told.partition("then ")[2]) == [asked]


def test_odd_values_come_through_the_shell_and_make(read):
    for odd in ("a b", "it's", 'say "so"', "a$HOME", "a#b", "100%", "a\\b", "é;&|"):
        (view,) = read(command("view", {"data": odd, "episode": odd, "rollouts": odd}))
        assert (view.data, view.episode, view.rollouts) == (odd, odd, odd)
    (report,) = read(command("report", {"runs": ("runs/a", "my runs/b c")}))
    assert report.runs == ("runs/a", "my runs/b c")
    (report,) = read(command("report", {"runs": ("runs/a", "b")}))
    assert report.runs == ("runs/a", "b")
    (sweep,) = read(command("sweep", {"vary": ("agent.lr=3e-4,1e-3", "a=[1,2]"), "seeds": (1, 2), "workers": 3}))
    assert (sweep.vary, sweep.seeds, sweep.workers) == (("agent.lr=3e-4,1e-3", "a=[1,2]"), (1, 2), 3)


def test_make_carries_the_names_that_only_the_next_stage_takes(monkeypatch):
    assert carried() == {}
    for name, value in (("MAKE", "1"), ("RUN", "z"), ("KNOWLEDGE", "y"), ("SAMPLE", "5"), ("SCENARIO", "HighBeam")):
        monkeypatch.setenv(f"SEMORE_{name}", value)
    assert carried() == {"scenario": "HighBeam", "run": "z", "knowledge": "y"}
    hint = command("annotate", carried() | recordings(CollectSettings(scenario="JayWalk", rollouts="x")))
    assert hint == "make annotate SCENARIO=JayWalk RUN=z KNOWLEDGE=y ROLLOUTS=x"
    assert command("datasets show", {"data": "d"}, "x") == ".venv/bin/semore datasets show x --data d"


def test_a_default_is_named_where_the_environment_or_a_preset_file_says_otherwise(monkeypatch):
    asked = {"preset": "laptop", "scenario": "JayWalk", "knowledge": "privileged-cris-tiny"}
    assert command("train", asked) == "semore train"
    assert command("train", {"preset": "my.yaml", "scenario": "JayWalk"}) == (
        "semore train --preset my.yaml --scenario JayWalk"
    )
    monkeypatch.setenv("SEMORE_SCENARIO", "HighBeam")
    monkeypatch.setenv("SEMORE_DESCRIBER", "endpoint")
    assert command("train", asked) == "semore train --scenario JayWalk --knowledge privileged-cris-tiny"


@ONE_FORM
def test_what_is_not_recorded_is_answered_with_the_command_that_records_it(read, tmp_path):
    wanted = TrainSettings(preset="debug", scenario="HighBeam", weather="midnight", data=str(tmp_path), rollouts="x")
    for change in ("does not exist", "has no episode"):
        with pytest.raises(SemoreError, match=rf"x\.zarr {change}; record it: ") as refused:
            recorded(wanted)
        (made,) = read(re.findall("`(.*)`", str(refused.value))[0])
        assert (made.rollouts_folder, made.weather) == (wanted.rollouts_folder, "midnight")
        assert (made.scenario, made.preset) == ("HighBeam", "debug")
        tiny_rollouts(wanted.rollouts_folder)
    tiny_rollouts(wanted.rollouts_folder, 3)
    with pytest.raises(SemoreError, match=r"xx\.zarr does not exist; did you mean x\? Or record it: "):
        recorded(replace(wanted, rollouts="xx"))
    assert recorded(wanted).names() == ["jaywalk-0000003"]


@ONE_FORM
def test_training_is_in_the_scenario_and_weather_that_was_recorded(read, tmp_path):
    asked = AnnotateSettings(data=str(tmp_path), rollouts=str(tmp_path / "x.zarr"))
    for about, weather in (
        ({"scenario": "HighBeam", "weather": "hard_rain"}, "hard_rain"),
        ({"weather": "midnight"}, "midnight"),
    ):
        episodes = tiny_rollouts(tmp_path / f"{weather}.zarr", 1, **about).episodes()
        (training,) = read(train_after(asked, "y", episodes))
        assert (training.scenario, training.weather) == (about.get("scenario", "JayWalk"), weather)
    episodes = tiny_rollouts(tmp_path / "own.zarr", 1, scenario="HighBeam", weather="midnight").episodes()
    assert "weather" not in train_after(asked, "y", episodes)


@ONE_FORM
def test_a_missing_set_is_made_by_the_producers_of_its_name_an_old_one_by_its_own(read, tmp_path):
    asked = AuditSettings(preset="debug", scenario="HighBeam", data=str(tmp_path), rollouts="x")
    (made,) = read(annotate_command(asked, "endpoint-clipseg"))
    assert (made.describer, made.segmenter, made.knowledge_set) == ("endpoint", "clipseg", "endpoint-clipseg")
    assert made.folder == tmp_path / "rollouts" / "x.zarr"
    recipe = as_dict(AnnotateSettings(describer="endpoint", endpoint=EndpointSettings("http://there:1/v1")))
    recipe = {name: recipe[name] for name in ("describer", "segmenter", "judge", "endpoint")}
    ensure_set(KnowledgeCache(tmp_path / "knowledge"), "y", SetManifest({"a": 1}, {"b": 1}, None, "mean", recipe))
    (made,) = read(annotate_command(asked, "y"))
    assert (made.describer, made.endpoint.url, made.merge) == ("endpoint", "http://there:1/v1", "mean")
    assert made.knowledge_set == "y"


@ONE_FORM
def test_a_run_is_finished_and_evaluated_as_what_it_was_begun(read, tmp_path):
    run = TrainSettings(preset="debug", scenario="HighBeam", rollouts="x", knowledge="y", runs="elsewhere", run="q")
    run = replace(run, seed=4, schedule=replace(run.schedule, updates=7), reward="safety")
    folder = tmp_path / "runs" / "z"  # the run has been moved since
    write_json(folder / "settings.json", {"settings": as_dict(run)})
    assert read(resume_command(folder)) == [replace(run, runs=str(folder.parent), run="z")]
    (evaluating,) = read(evaluate_command(folder))
    assert (evaluating.folder, evaluating.scenario, evaluating.preset) == (folder, "HighBeam", "debug")
    with pytest.raises(SemoreError, match="holds no trained policy") as refused:
        require_policy(folder, evaluating)
    assert read(re.findall("`(.*)`", str(refused.value))[0])[0].rollouts == "x"
    nobody = replace(evaluating, run="nobody")
    with pytest.raises(SemoreError, match="holds no trained policy") as refused:
        require_policy(nobody.folder, nobody)
    assert read(re.findall("`(.*)`", str(refused.value))[0])[0].folder == nobody.folder


@ONE_FORM
def test_a_counterfactual_is_trained_with_the_changes_that_the_data_allow(read, tmp_path):
    run = TrainSettings(preset="debug", scenario="HighBeam", data=str(tmp_path), rollouts="x", knowledge="y")
    (asked,) = read(train_with_changes(CounterfactualSettings(episodes=3), run))
    assert (asked.train, asked.preset, asked.scenario, asked.episodes) == (True, "debug", "HighBeam", 3)
    assert "rollouts=x" in asked.base
    assert asked.variants
    assert "privileged_mask" not in asked.variants
    ensure_set(KnowledgeCache(tmp_path / "knowledge"), "privileged", SetManifest({"a": 1}, {"b": 1}, None))
    (asked,) = read(train_with_changes(CounterfactualSettings(), run))
    assert asked.variants == ()


@ONE_FORM
def test_the_best_of_a_sweep_is_driven_on_test_episodes(read, tmp_path):
    def result(value: str, reward: float) -> Result:
        point = Point((("agent.lr", value),), (("agent.lr", value), ("grey", "true")))
        row = Row("trained", "HighBeam", "midnight", 1_002_000, "success", reward, 1.0, 0.0, 0.0, 0.0, 0.0, 9)
        return Result(point, 1, tmp_path / value, [row], {})

    asked = SweepSettings(
        preset="debug", scenario="HighBeam", base=("rollouts=x", "knowledge=y"), seeds=(1, 2), sweep="s",
        vary=("agent.lr=0.1,0.2",), design="single",
    )  # fmt: skip
    found = [result("0.1", 3.0), result("0.2", 5.0)]
    best = replace(asked, vary=("agent.lr=0.2", "grey=true"), design="grid", split="test")
    assert read(next_step(asked, found)) == [best]
    (report,) = read(next_step(best, found))
    assert report.runs == (str(tmp_path / "0.1"), str(tmp_path / "0.2"))


def test_a_merged_folder_is_trained_as_what_it_holds(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, seed, weather in (("a", 1, "midnight"), ("b", 2, "midnight"), ("c", 3, "hard_rain")):
        about = {"scenario": "HighBeam", "weather": weather, "simulator": "embedded"}
        tiny_rollouts(Path(f"data/rollouts/{name}.zarr"), seed, **about)
    (tmp_path / "runs" / "all").mkdir(parents=True)  # somebody's run of other data
    assert Merge("all", ("a", "b")).execute() == 0
    (hint,) = re.findall("next: (.*)", capsys.readouterr().out)
    first, second = (shlex.split(part)[2:] for part in hint.split(" && "))
    annotating, training = (
        load_settings(AnnotateSettings, "annotate", first),
        load_settings(TrainSettings, "train", second),
    )
    assert annotating.folder == training.rollouts_folder == Path("data/rollouts/all.zarr")
    assert (training.scenario, training.weather, training.folder) == ("HighBeam", "midnight", Path("runs/all-2"))
    assert Merge("all", ("c",)).execute() == 0
    said = capsys.readouterr().out
    assert "more than one weather" in said
    (hint,) = re.findall("next: (.*)", said)
    assert datasets_command(shlex.split(hint)[2:]).execute() == 0
    assert Path("data/rollouts/all-hard_rain.zarr").is_dir()
