"""Sweeps: the points that are meant, runs recognised by their settings, the table of what was driven, and a kill."""

from __future__ import annotations

import csv
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import TINY, make_data

from semore.datasets.atomic_io import read_json, write_json
from semore.datasets.command_line import read_settings
from semore.datasets.errors import SemoreError
from semore.datasets.settings import as_dict
from semore.evaluate.episodes import SIMULATOR_FAILED, Row
from semore.evaluate.statistics import across_runs, difference_across_runs
from semore.evaluate.sweep import __main__ as sweep
from semore.evaluate.sweep.__main__ import SweepSettings, run_points
from semore.evaluate.sweep.finished import Result
from semore.evaluate.sweep.points import (
    PlannedRun,
    Point,
    base_values,
    file_name,
    identity,
    plan,
    points_of,
    settings_of,
    with_finished,
)  # fmt: skip
from semore.evaluate.sweep.results import draw, place_of, records, write_tables

BASE = base_values(TINY)


def labels(*vary: str, design: str = "grid") -> list[str]:
    return [point.label for point in points_of(vary, design, BASE)]


def test_a_grid_has_every_combination_and_numbers_are_written_in_one_way():
    assert labels("agent.lr=3e-4,0.0010", "masks=plain,empty") == [
        "agent.lr=0.0003, masks=plain", "agent.lr=0.0003, masks=empty",
        "agent.lr=0.001, masks=plain", "agent.lr=0.001, masks=empty",
    ]  # fmt: skip
    assert labels("agent.encoder.channels=[4,8,8,8],[8, 16, 16, 16]") == [
        "agent.encoder.channels=[4,8,8,8]", "agent.encoder.channels=[8,16,16,16]",
    ]  # fmt: skip


def test_single_changes_one_setting_of_the_base_at_a_time():
    assert labels("agent.lr=1e-3,1e-4", "agent.tau=0.2", design="single") == [
        "agent.lr=0.001, agent.tau=0.01", "agent.lr=0.0001, agent.tau=0.01", "agent.lr=0.001, agent.tau=0.2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("vary", "says"),
    [
        (["agent.semantic_wait=1"], "did you mean agent.semantic_weight"),
        (["threads=1,2"], "no setting of a training run that can be varied"),
        (["seed=1,2"], "no setting of a training run that can be varied"),
        (["agent.lr"], "write NAME=VALUE,VALUE"),
        (["agent.lr="], "write NAME=VALUE,VALUE"),
        (["agent.lr=[1"], "write NAME=VALUE,VALUE"),
        (["agent.lr=1", "agent.lr=2"], "each setting once"),
    ],
)
def test_what_cannot_be_varied_is_refused_by_name(vary, says):
    with pytest.raises(SemoreError, match=says):
        points_of(vary, "grid", BASE)


def test_repeated_options_are_gathered(monkeypatch):
    words = ["--vary", "agent.lr=1,2", "--sweep=a", "--vary=masks=plain,empty", "--seeds", "[4]", "--base=x=[1,2]"]
    monkeypatch.setattr(sys, "argv", ["sweep", *words])
    found = read_settings(SweepSettings, "sweep")
    assert (found.vary, found.base) == (("agent.lr=1,2", "masks=plain,empty"), ("x=[1,2]",))
    assert (found.seeds, found.split) == ((4,), "validation")


def test_runs_are_planned_under_names_that_tell_them_apart(tmp_path):
    points = points_of(["agent.semantic_loss=balanced_bce,balanced_l1"], "grid", BASE)
    runs = plan(points, "debug", "JayWalk", ["schedule.updates=7"], (1, 4), tmp_path)
    assert [run.settings.folder for run in runs] == [
        tmp_path / f"agent.semantic_loss={loss}-seed{seed}"
        for loss in ("balanced_bce", "balanced_l1")
        for seed in (1, 4)
    ]
    assert {run.settings.schedule.updates for run in runs} == {7}
    assert [run.settings.agent.semantic_loss for run in runs[1:3]] == ["balanced_bce", "balanced_l1"]
    twice = [Point((("a", "1"),), (("agent.lr", "1e-3"),)), Point((("a", "2"),), (("agent.lr", "0.001"),))]
    with pytest.raises(SemoreError, match="a=2 and a=1 are the same settings"):
        plan(twice, "debug", "JayWalk", [], (1,), tmp_path)
    assert file_name("weather=a/b") != file_name("weather=ab")
    assert len(file_name("x" * 500)) < 130


def test_a_preset_among_the_base_settings_brings_its_values(tmp_path):
    (tmp_path / "p.yaml").write_text("{preset: paper, seed: 4}")
    paper = settings_of("paper", "HighBeam", ["seed=4"], Point((), ()))
    assert paper.agent.encoder.size == 128
    for base in (["preset=paper", "seed=4"], [f"config={tmp_path / 'p.yaml'}"]):
        assert settings_of("laptop", "HighBeam", base, Point((), ())) == paper
    named = settings_of("laptop", "HighBeam", [f"config={tmp_path / 'p.yaml'}", "preset=debug"], Point((), ()))
    assert named == settings_of("debug", "HighBeam", ["seed=4"], Point((), ()))


def test_settings_that_make_no_sense_together_are_refused_before_anything_runs():
    with pytest.raises(SemoreError, match="unknown masks 'blurred'"):
        settings_of("debug", "JayWalk", [], Point((), (("masks", "blurred"),)))


def test_finished_runs_are_known_by_their_settings_not_by_their_name(tmp_path):
    point = Point((("masks", "empty"),), (("masks", "empty"),))
    settings = replace(TINY, runs=str(tmp_path), run="masks=empty-seed1", masks="empty")
    runs = [PlannedRun(point, settings), PlannedRun(point, replace(settings, run="masks=empty-seed2", seed=2))]
    for folder, done in (("called-otherwise", runs[0]), ("begun", runs[1])):
        (tmp_path / folder).mkdir()
        written = as_dict(replace(done.settings, threads=7, data="elsewhere"))
        del written["agent"]["encoder"]["silent"]  # written before there was such a setting
        write_json(tmp_path / folder / "settings.json", {"settings": written})
    write_json(tmp_path / "called-otherwise" / "summary.json", {})
    done, missing = with_finished(runs, tmp_path)
    assert [run.settings.folder for run in done] == [tmp_path / "called-otherwise"]
    assert missing == [runs[1]]
    assert identity(done[0].settings) == identity(settings) != identity(replace(settings, masks="inverted"))


def finished(value: str, seed: int, rewards: list[float], lost: int | None = None) -> Result:
    """A run of the point λ = value; the episode number `lost` failed with its simulator."""
    rows = [
        Row(
            "trained",
            "JayWalk",
            "normal",
            1_002_000 + n,
            SIMULATOR_FAILED if n == lost else "success",
            reward,
            *[1.0] * 5,
            9,
        )
        for n, reward in enumerate(rewards)
    ]
    point = Point((("agent.semantic_weight", value),), (("agent.semantic_weight", value),))
    summary = {"student_mask": None, "best_update": 5, "best_validation_reward": 1.5, "seconds": 3.0}
    summary |= {"updates": 20, "rollouts": "f"}
    return Result(point, seed, Path(f"w={value}-seed{seed}"), rows, summary)


def test_the_table_tells_what_was_driven(tmp_path):
    results = [
        finished("0.0", 1, [10.0, 20.0, 30.0]), finished("0.0", 2, [12.0, 22.0, 32.0]),
        finished("1.0", 1, [15.0, 25.0, 35.0]), finished("1.0", 2, [17.0, -999.0, 37.0], lost=1),
    ]  # fmt: skip
    ours, theirs = place_of(results[2:]).rewards, place_of(results[:2]).rewards
    assert math.isnan(ours[1, 1])
    first, second = records(results)
    assert (first["seeds"], first["episodes"], second["episodes"]) == (2, 6, 5)
    assert first["reward"] == pytest.approx(21.0)
    assert first["std_of_seeds"] == pytest.approx(1.0)
    assert second["reward"] == pytest.approx((15 + 25 + 35 + 17 + 37) / 5)
    assert second["difference"] == pytest.approx(5.0)  # over the episodes that all have driven
    assert second["verdict"] == "no verdict: 2 of 50 test seeds, 2 of 5 training seeds"
    assert first["verdict"] == "the reference"
    assert (second["low"], second["high"]) == (across_runs(ours).low, across_runs(ours).high)
    assert second["difference_low"] == difference_across_runs(ours, theirs).low
    assert second["each_seed"] == "1: 25, 2: 27"
    points, runs = write_tables(results, tmp_path)
    with open(points, newline="") as handle:
        told = list(csv.DictReader(handle))
    assert [row["agent.semantic_weight"] for row in told] == ["0.0", "1.0"]
    assert float(told[1]["difference"]) == pytest.approx(5.0)
    with open(runs, newline="") as handle:
        last = list(csv.DictReader(handle))[-1]
    assert (last["run"], last["episodes"], last["failed"]) == ("w=1.0-seed2", "2", "1")
    assert float(last["reward"]) == pytest.approx(27.0)


def test_enough_seeds_have_a_verdict_unless_the_sweep_makes_them_unequal():
    def told(setting: str) -> str:
        points = [Point(((setting, value),), ((setting, value),)) for value in ("1", "2")]
        rewards = [[float(place + 100 * number) for place in range(50)] for number in range(2)]
        return str(
            records(
                [
                    replace(finished("0", seed, own), point=point)
                    for point, own in zip(points, rewards, strict=True)
                    for seed in range(5)
                ]
            )[1]["verdict"]
        )

    assert told("agent.semantic_weight") == "ahead"
    assert told("agent.encoder.channels") == "no verdict: unequal size"


def test_the_plot_has_a_panel_for_each_setting(tmp_path):
    def result(axes: tuple[tuple[str, str], ...], reward: float) -> Result:
        return replace(finished("0", 1, [reward, reward + 1]), point=Point(axes, axes))

    results = [
        result((("agent.lr", lr), ("masks", masks)), reward)
        for lr, reward in (("0.0001", 1.0), ("0.01", 2.0))
        for masks in ("plain", "empty")
    ]
    one = np.asarray(Image.open(draw(results[:1], tmp_path / "one.png", "validation")))
    two = np.asarray(Image.open(draw(results, tmp_path / "two.png", "validation")))
    assert one.shape == two.shape
    assert (one != two).any()
    single = draw([finished("0.0", 1, [1.0, 2.0])], tmp_path / "single.png", "test")
    assert two.shape[1] == 2 * np.asarray(Image.open(single)).shape[1]


def test_a_run_that_fails_is_named_and_the_others_are_compared(tmp_path, monkeypatch, capsys):
    results = {1: finished("0.0", 1, [1.0, 2.0]), 2: finished("0.0", 2, [3.0, 4.0])}

    def trained(runs, parallel, scheduler):
        for run in runs:
            if run.seed == 2:
                yield run, "no room left on the disk"
                continue
            run.folder.mkdir(parents=True)
            write_json(run.folder / "settings.json", {"settings": as_dict(run)})
            write_json(run.folder / "summary.json", dict(results[1].summary))
            yield run, {}

    monkeypatch.setattr(sweep, "train_runs", trained)
    monkeypatch.setattr(sweep, "_drive", lambda _, run: results[run.settings.seed].rows)
    settings = SweepSettings(preset="debug", seeds=(1, 2), runs=str(tmp_path))
    with pytest.raises(SemoreError, match=r"1 of 2 runs failed(.|\n)*masks=empty-seed2: no room left on the disk"):
        run_points(settings, points_of(["masks=empty"], "grid", BASE))
    assert (tmp_path / "sweep" / "sweep.csv").exists()
    assert "1: 2" in capsys.readouterr().out


COMMAND = [
    "--preset", "debug", "--sweep", "killed", "--vary", "agent.semantic_weight=0.5,1", "--seeds", "[1]",
    "--episodes", "1", "--parallel", "1", "--workers", "1", "--base", "rollouts=tiny", "--base", "knowledge=privileged",
    "--base", "threads=1", "--base", "schedule.updates=12", "--base", "schedule.refresh_every=0",
    "--base", "schedule.validate_episodes=1",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)  # two commands of several processes each, on a machine that may be busy
def test_a_killed_sweep_goes_on_and_trains_nothing_twice(tmp_path):
    data = make_data(tmp_path / "data")
    command = [
        sys.executable,
        "-m",
        "semore.evaluate.sweep",
        *COMMAND,
        "--runs",
        str(tmp_path),
        "--base",
        f"data={data}",
    ]
    folder = tmp_path / "killed"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 400
    while not list(folder.glob("*/summary.json")) and time.monotonic() < end and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)  # the training processes see to themselves
    process.wait()
    (first,) = folder.glob("*/summary.json")
    written = first.stat().st_mtime_ns
    whole = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "2 points × 1 seeds; 1 runs are finished" in whole.stdout
    assert first.stat().st_mtime_ns == written
    with open(folder / "runs.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["agent.semantic_weight"] for row in rows] == ["0.5", "1"]
    assert all(read_json(folder / row["run"] / "summary.json")["updates"] == 12 for row in rows)
    assert (folder / "sweep.png").stat().st_size > 1000
