"""The study: what it plans, in which order it works, what it does not do twice, and a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tiny_run import TINY, make_data

from semore.datasets.atomic_io import digest16, read_json, write_json
from semore.datasets.errors import SemoreError
from semore.datasets.settings import as_dict
from semore.evaluate.episodes import Row, read_rows, write_rows
from semore.evaluate.sweep.points import identity
from semore.train.settings import hyperparameters
from study import __main__ as study
from study.__main__ import StudySettings, finished, run_study
from study.drive import Drive
from study.plan import PARTS, SCENARIOS, Planned, changed, plan, work
from study.results.collect import collect_results


@pytest.fixture(scope="module")
def planned() -> list[Planned]:
    return plan("debug", SCENARIOS, (1, 2, 3, 4, 5), (1, 2), "runs/study")


def test_the_plan_has_every_run_and_none_twice(planned):
    everything = work(planned, list(PARTS))
    assert Counter(each.part for each in everything) == {
        "main": 75, "rivals": 30, "ablations": 24, "masks": 12, "safety": 30, "sensitivity": 22,
    }  # fmt: skip
    assert len({each.settings.run for each in everything}) == len(everything)
    assert len({identity(each.settings) for each in everything}) == len(everything)
    names = {identity(each.settings): each.settings.run for each in everything}
    assert all(names[identity(each.settings)] == each.settings.run for each in planned)


WITHOUT = {
    "no-semantic-loss": (False, False), "no-cross-attention": (True, True), "no-mask-path": (False, True),
    "no-motion-stream": (True, True),
}  # fmt: skip
"""Ablations by name, and what is left of the masks: whether one reaches z, and whether any is taught."""


def test_runs_are_what_their_names_say(planned):
    own = {each.settings.run: each.settings for each in planned}
    assert own["HighBeam-curl-seed3"].method == "curl"
    assert own["HighBeam-curl-seed3"].agent.contrast_weight == 1.0
    assert own["HighWay-drq-safety-seed2"].reward == "safety"
    full = own["JayWalk-semore-seed1"]
    assert own["JayWalk-semore-no-motion-stream-seed1"].agent.encoder.silent == "motion"
    reads = {label: own[f"JayWalk-semore-{label}-seed1"].agent for label in WITHOUT}
    assert {label: (each.encoder.reads_mask, each.teaches_mask) for label, each in reads.items()} == WITHOUT
    assert reads["no-cross-attention"].encoder.concatenates_mask
    assert full.agent.encoder.concatenates_mask
    assert own["JayWalk-semore-exact-seed1"] == replace(full, run="JayWalk-semore-exact-seed1", knowledge="privileged")
    assert own["JayWalk-semore-channels-double-seed2"].agent.encoder.channels == (8, 16, 16, 16)
    assert own["JayWalk-semore-lr-triple-seed2"].agent.lr == pytest.approx(3 * full.agent.lr)
    assert {each.settings.run for each in planned if each.label in ("full", "cris-tiny") and each.part != "main"} <= {
        each.settings.run for each in planned if each.part == "main"
    }
    assert {each.part for each in planned if each.settings.seed > 2} == {"main", "rivals"}


def test_the_work_goes_part_by_part_and_seed_by_seed(planned):
    chosen = work(planned, ["masks", "rivals"])
    assert [each.part for each in chosen] == ["masks"] * 12 + ["rivals"] * 30
    assert [each.settings.seed for each in chosen] == [1] * 6 + [2] * 6 + [
        seed for seed in range(1, 6) for _ in range(6)
    ]
    assert {each.settings.scenario for each in chosen[12:18]} == set(SCENARIOS)
    assert not {each.settings.run for each in chosen} & {each.settings.run for each in work(planned, ["main"])}


def test_what_makes_no_sense_is_refused(planned):
    with pytest.raises(SemoreError, match="unknown parts \\['mian'\\]; choose from main, rivals"):
        work(planned, ["mian"])
    with pytest.raises(SemoreError, match="unknown scenarios \\['Mars'\\]"):
        plan("debug", ["Mars"], (1,), (1,), "runs/study")
    with pytest.raises(SemoreError, match="seeds \\[1, 1\\] must name"):
        StudySettings(preset="debug", seeds=(1, 1)).plan()


def test_settings_are_changed_by_their_dotted_names():
    after = changed(TINY, {"agent.encoder.mask": "zeros", "agent.lr": 0.5, "masks": "empty"})
    assert (after.agent.encoder.mask, after.agent.lr, after.masks) == ("zeros", 0.5, "empty")
    assert changed(after, {"agent.encoder.mask": "student", "agent.lr": TINY.agent.lr, "masks": "plain"}) == TINY


def make_finished(each: Planned, reward: float = 1.0) -> None:
    """What a trained and driven run leaves behind."""
    settings, folder = each.settings, each.settings.folder
    folder.mkdir(parents=True)
    identity = hyperparameters(settings) | {"rollouts_fingerprint": "f"}
    write_json(folder / "settings.json", {"settings": as_dict(settings), "identity": identity})
    summary = {
        "method": settings.method, "seed": settings.seed, "updates": 60, "best_update": 30, "seconds": 5.0,
        "best_validation_reward": reward, "student_mask": None, "weights_sha256": "ab", "rollouts": "f",
    }  # fmt: skip
    write_json(folder / "summary.json", summary)
    (folder / "metrics.csv").write_text("update,metric,value\n30,replay/offered,9\n30,validation/reward,1.0\n")
    (folder / "policy.pt2").write_bytes(b"weights")
    driven = ((policy, seed) for policies, seeds in Drive(2, 1).wanted() for policy in policies for seed in seeds)
    digest = digest16(b"weights").hex()
    rows = [
        Row(policy, settings.scenario, "normal", seed, "success", reward, 9, 0, 0, 0, 0, 50, policy_digest=digest)
        for policy, seed in driven
    ]
    write_rows(folder / "evaluation.csv", rows)


@pytest.fixture
def light(monkeypatch, tmp_path):
    """A study whose data are there, whose world needs no driving, and whose view of a policy file is never asked."""
    monkeypatch.setattr(study, "prepare", lambda *_: None)
    monkeypatch.setattr(study, "drive_world", lambda *_: [])
    return StudySettings(
        preset="debug", parts=("rivals",), scenarios=("JayWalk",), seeds=(1, 2), episodes=2, blindfolded=1,
        first_episode=0, runs=str(tmp_path),
    )  # fmt: skip


def test_a_run_that_fails_is_named_and_finished_ones_are_left_alone(light, monkeypatch, capsys):
    asked = []

    def trained(runs, parallel, scheduler, then):
        for run in runs:
            asked.append(run.run)
            (each,) = (each for each in work(light.plan(), list(PARTS)) if each.settings == run)
            if run.run == "JayWalk-cloning-seed2":
                yield run, "no room left on the disk"
                continue
            make_finished(each)
            yield run, {}

    monkeypatch.setattr(study, "train_runs", trained)
    with pytest.raises(SemoreError, match=r"1 of 4 runs failed(.|\n)*JayWalk-cloning-seed2: no room left"):
        run_study(light)
    names = [f"JayWalk-{method}-seed{seed}" for seed in (1, 2) for method in ("sac-segmentation", "cloning")]
    assert asked == names
    asked.clear()
    with pytest.raises(SemoreError, match="1 of 4 runs failed"):
        run_study(light)
    assert asked == names[-1:]
    assert "4 runs, 3 are finished; to do: rivals 1" in capsys.readouterr().out


def test_what_is_finished_is_collected_and_what_is_of_other_settings_named(light, capsys):
    first, second, third, _ = work(light.plan(), light.parts)
    for each, reward in ((first, 3.0), (second, 5.0), (third, 7.0)):
        make_finished(each, reward)
    write_json(light.folder / "study.json", {"preset": "debug", "base": [], "drive": asdict(light.drive)})
    changed_since = read_json(third.settings.folder / "settings.json")
    changed_since["identity"]["agent.lr"] = 0.5
    write_json(third.settings.folder / "settings.json", changed_since)
    assert [finished(each.settings) for each in (first, second, third)] == [True, True, False]
    found = collect_results(light.folder)
    assert [(run.part, run.label, run.train_seed) for run in found.runs] == [
        ("rivals", "sac-segmentation", 1), ("rivals", "cloning", 1),
    ]  # fmt: skip
    assert [each.episode_reward for each in found.episodes] == [3.0] * 4 + [5.0] * 4
    assert {each.reward for each in found.episodes} == {"published"}
    assert "left out" in (said := capsys.readouterr().out)
    assert third.settings.run in said


def test_a_run_is_driven_until_all_its_episodes_are_there(light):
    (first, *_) = work(light.plan(), light.parts)
    assert light.drive.missing(first.settings)
    make_finished(first)
    assert not Drive(2, 1).missing(first.settings)
    assert Drive(3, 1).missing(first.settings)
    assert Drive(2, 2).missing(first.settings)
    assert Drive(2, 1, first=1).missing(first.settings)


COMMAND = [
    "--preset", "debug", "--scenarios", "[JayWalk]", "--parts", "[rivals]", "--seeds", "[1]", "--episodes", "2",
    "--blindfolded", "1", "--parallel", "1", "--base", "rollouts=tiny", "--base", "knowledge=privileged",
    "--base", "threads=1", "--base", "schedule.updates=12", "--base", "schedule.refresh_every=0",
    "--base", "schedule.validate_episodes=1",
]  # fmt: skip


def whole(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.timeout(900)  # three commands of several processes each, on a machine that may be busy
def test_a_killed_study_goes_on_and_does_nothing_twice(tmp_path):
    data = make_data(tmp_path / "data")
    command = [sys.executable, "-m", "study", *COMMAND, "--runs", str(tmp_path), "--base", f"data={data}"]
    folder = tmp_path / "study"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 400
    while not list(folder.glob("*/summary.json")) and time.monotonic() < end and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)  # the training processes see to themselves
    process.wait()
    (first,) = folder.glob("*/summary.json")
    written, weights = first.stat().st_mtime_ns, read_json(first)["weights_sha256"]
    whole(command)
    assert (first.stat().st_mtime_ns, read_json(first)["weights_sha256"]) == (written, weights)
    for method in ("sac-segmentation", "cloning"):
        rows = read_rows(folder / f"JayWalk-{method}-seed1" / "evaluation.csv")
        assert Counter(row.policy for row in rows) == {"trained": 2, "trained_grey": 1, "trained_frozen": 1}
        assert read_json(folder / f"JayWalk-{method}-seed1" / "cost.json")["driving"] > 0
    assert len(read_rows(folder / "world" / "published.csv")) == 12
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "study.json"}
    assert "2 runs, 2 are finished; to do: nothing" in whole(command)
    after = {path: path.stat().st_mtime_ns for path in times if path.is_file() and path.suffix != ".lock"}
    assert after == {path: times[path] for path in after}
    results = [sys.executable, "-m", "study.results", "--runs", str(tmp_path), "--folder", str(tmp_path / "docs")]
    assert "2 runs, 20 episodes" in whole([*results, "--page", str(tmp_path / "results.md")])
    assert "cloning alone | 1 × 2 |" in Path(tmp_path / "results.md").read_text()
