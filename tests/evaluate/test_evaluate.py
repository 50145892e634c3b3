"""Statistics by hand, the rows of evaluation.csv, resuming, what Grey shows, and the video."""

from __future__ import annotations

import csv
import os
import shutil
import sys
from concurrent.futures import Future
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_moments import moment
from verdict_words import said

from semore.collect.env import DrivingEnv
from semore.collect.policies import load_view
from semore.datasets.atomic_io import write_json
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import SEED_SPLITS
from semore.datasets.settings import as_dict
from semore.evaluate import __main__ as command
from semore.evaluate import episodes
from semore.evaluate.episodes import Row, RunCourse, evaluate_courses, evaluate_policies, read_rows, write_rows
from semore.evaluate.film import video
from semore.evaluate.film.video import film, noted
from semore.evaluate.policies import POLICIES, Frozen, Grey
from semore.evaluate.report import media
from semore.evaluate.statistics import estimate, paired_difference
from semore.evaluate.table import differences, results
from semore.train.agent import Agent
from semore.train.agent_settings import AgentSettings
from semore.train.checkpoint import export_policy
from semore.train.encoder_settings import EncoderSettings
from semore.train.online import policy_view
from semore.train.run_io import untrained_policy
from semore.train.settings import TrainSettings

pytestmark = pytest.mark.filterwarnings("ignore:No complete tensor", "ignore::DeprecationWarning")

COLUMNS = "policy,scenario,weather,seed,ending,reward,distance,crash_intensity,steer,throttle,brake,steps"
COLUMNS += ",wall_time,renderer,policy_digest"
SEEDS = range(SEED_SPLITS["test"].start, SEED_SPLITS["test"].start + 10)
TRAINED = TrainSettings(
    run="run",
    seed=3,
    agent=AgentSettings(EncoderSettings(size=32, channels=(4, 8, 8, 8), heads=2, latent=8), hidden=16, model_hidden=16),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run's folder as training leaves it, with made-up weights that drive forwards."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    torch.manual_seed(11)
    agent = Agent(TRAINED.agent)
    with torch.no_grad():
        agent.actor[-1].weight.mul_(5.0)
        agent.actor[-1].bias.copy_(torch.tensor([0.0, 2.0, 0.0, 0.0]))
    export_policy(agent, folder / "policy.pt2", policy_view(TRAINED))
    write_json(folder / "settings.json", {"settings": as_dict(TRAINED)})
    mask = {"student_auc": 0.9, "constant_auc": 0.8, "difference_low": 0.05, "difference_high": 0.15, "healthy": True}
    write_json(folder / "summary.json", {"student_mask": mask})
    return folder


class Inline:
    """A process pool that works in this process, one job after the other."""

    def __init__(self, *_) -> None:
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        pass

    def submit(self, function, *arguments) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def jobs(monkeypatch) -> list[tuple[str, list[int]]]:
    """Short episodes in this process; the (policy, seeds) of every job done."""
    done: list[tuple[str, list[int]]] = []
    drive = episodes._drive

    def noting(course, policy, seeds):
        rows = drive(course, policy, seeds)
        done.append((policy, list(seeds)))
        return rows

    monkeypatch.setattr(episodes, "ProcessPoolExecutor", Inline)
    monkeypatch.setattr(episodes, "as_completed", list)
    monkeypatch.setattr(episodes, "_drive", noting)
    monkeypatch.setattr(episodes, "DrivingEnv", partial(DrivingEnv, max_episode_steps=20))
    threads = torch.get_num_threads()
    yield done
    torch.set_num_threads(threads)


def course_of(run: Path, **changes) -> RunCourse:
    return replace(RunCourse(run, "JayWalk", "", "published", "embedded"), **changes)


VALUES = st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=12)


@settings(max_examples=15, deadline=None)
@given(VALUES)
def test_an_estimate_s_mean_std_and_interval(values):
    found = estimate(values)
    mean = sum(values) / len(values)
    assert found.mean == pytest.approx(mean, abs=1e-6)
    assert found.std == pytest.approx((sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5, abs=1e-4)
    slack = 1e-9 * (1 + max(map(abs, values)))
    assert min(values) - slack <= found.low <= found.mean + slack
    assert found.mean - slack <= found.high <= max(values) + slack
    assert estimate(values) == found


def test_an_interval_is_the_percentile_bootstrap_s():
    values = np.random.default_rng(0).gamma(2.0, 100.0, 30)
    found = estimate(values.tolist())
    drawn = np.random.default_rng(1).choice(values, (20_000, 30)).mean(1)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, (0.025, 0.975))), rel=0.02)
    theirs = scipy.stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(2))
    interval = theirs.confidence_interval
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=0.02)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = [
        found.low <= 5.0 <= found.high for found in (estimate(generator.normal(5.0, 2.0, 40)) for _ in range(60))
    ]
    assert 0.85 <= np.mean(covered) <= 1.0


@pytest.mark.parametrize("values", [[7.0], [3.0, 3.0, 3.0]])
def test_without_spread_the_interval_is_the_mean(values):
    found = estimate(values)
    assert (found.mean, found.std, found.low, found.high) == (values[0], 0.0, values[0], values[0])


def test_paired_differences_see_what_seeds_hide():
    """Episodes differ by hundreds, the policies by one: paired it is certain, unpaired invisible."""
    hard = np.random.default_rng(0).normal(0, 300, 50)
    ours = (hard + 1.0 + np.random.default_rng(1).normal(0, 0.5, 50)).tolist()
    difference = paired_difference(ours, hard.tolist())
    assert difference.mean == pytest.approx(np.mean([a - b for a, b in zip(ours, hard, strict=True)]))
    assert 0.7 < difference.low < 1.0 < difference.high < 1.3
    assert estimate(ours).low < estimate(hard).mean
    swapped = paired_difference(hard.tolist(), ours)
    assert swapped.mean == pytest.approx(-difference.mean)
    assert swapped.high < 0
    with pytest.raises(ValueError, match="3 and 2"):
        paired_difference([1.0, 2.0, 3.0], [1.0, 2.0])


def a_row(policy: str = "trained", seed: int = SEEDS[0], reward: float = 1.0, **changes) -> Row:
    made = Row(policy, "JayWalk", "hard_high_light", seed, "success", reward, 2.0, 0.1 + 0.2, 0.0, 0.5, 0.0, 500)
    return replace(made, **changes)


def test_verdicts_of_the_table():
    seeds = range(50)
    rows = [a_row("trained", seed, 10.0 + seed % 7) for seed in seeds]
    rows += [a_row("random", seed, 1.0 + seed % 7) for seed in seeds]
    rows += [a_row("driver", seed, 30.0 + seed % 3) for seed in seeds]
    rows += [a_row("untrained", seed, 10.0 + (seed % 7) + (-1) ** seed) for seed in seeds]
    columns = [list(column.cells) for column in differences(rows).columns]
    assert columns[0] == ["random", "driver", "untrained"]
    assert columns[1][0] == "+9.0"
    assert columns[3] == ["ahead", "behind", "undecided"]
    assert columns[4] == ["1.00", "0.00", "0.50"]
    shown = [list(column.cells) for column in results(rows, "title").columns]
    assert shown[0] == ["trained", "random", "driver", "untrained"]
    assert shown[-1] == ["success 50"] * 4
    fewer = differences([row for row in rows if row.seed])
    assert set(fewer.columns[3].cells) == {"no verdict: 49 of 50 test seeds"}
    assert differences([row for row in rows if row.policy == "trained"]) is None


def test_rows_survive_the_file(tmp_path):
    rows = [a_row(wall_time=1.5, renderer="embedded 2"), a_row("random", SEEDS[1], -1e-17, ending="off_road", steps=3)]
    write_rows(tmp_path / "evaluation.csv", rows)
    assert read_rows(tmp_path / "evaluation.csv") == rows
    assert [row.wall_time for row in read_rows(tmp_path / "evaluation.csv")] == [1.5, 0.0]
    assert (tmp_path / "evaluation.csv").read_text().splitlines()[0] == COLUMNS
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.csv"]
    assert read_rows(tmp_path / "none.csv") == []
    (tmp_path / "other.csv").write_text("policy,seed\n")
    with pytest.raises(SemoreError, match=r"other\.csv.*move it away"):
        read_rows(tmp_path / "other.csv")


@pytest.mark.parametrize(("missing", "last"), [(3, "steps"), (2, "wall_time"), (1, "renderer")])
def test_files_from_before_the_last_columns_are_read_and_driven_anew_once(run, jobs, tmp_path, capsys, missing, last):
    path = tmp_path / "evaluation.csv"
    (driven,) = evaluate_policies(course_of(run), ("random",), SEEDS[:1], path, 1)
    lines = [line.rsplit(",", missing)[0] for line in path.read_text().splitlines()]
    assert lines[0].endswith(last)
    path.write_text("\n".join(lines) + "\n")
    (old,) = read_rows(path)
    assert old == replace(driven, renderer=driven.renderer if missing == 1 else "", policy_digest="")
    jobs.clear()
    for _ in range(2):  # they do not say which policy they are of; the new ones do
        assert evaluate_policies(course_of(run), ("random",), SEEDS[:1], path, 1) == [driven]
        assert jobs == [("random", [SEEDS[0]])]
    assert "1 episodes are of another policy, or do not say of which" in capsys.readouterr().out


def test_every_policy_drives_the_same_seeds(run, jobs, tmp_path):
    path = tmp_path / "evaluation.csv"
    rows = evaluate_policies(course_of(run), tuple(POLICIES), SEEDS[:3], path, 1)
    assert [(row.policy, row.seed) for row in rows] == [(policy, seed) for policy in POLICIES for seed in SEEDS[:3]]
    assert read_rows(path) == rows
    with open(path, newline="") as handle:
        table = list(csv.reader(handle))
    assert ",".join(table[0]) == COLUMNS == ",".join(field.name for field in fields(Row))
    assert all(len(line) == 15 for line in table)
    assert {(row.scenario, row.weather) for row in rows} == {("JayWalk", "hard_high_light")}
    by = {policy: [row for row in rows if row.policy == policy] for policy in POLICIES}
    assert all((row.throttle, row.brake, row.steer) == (1.0, 0.0, 0.0) for row in by["full_throttle"])
    assert all(row.steps == 20 and row.ending == "success" for row in by["driver"])
    assert all(row.wall_time > 0 and row.renderer.startswith("embedded ") for row in rows)
    for row in rows:
        # The published reward, from the row's own totals.
        expected = row.distance - 0.001 * row.crash_intensity - 0.1 * row.steps * (row.brake + row.steer)
        assert row.reward == pytest.approx(expected, abs=1e-3)
        assert row.throttle >= 0
        assert 0 <= row.brake <= 1
        assert 0 <= row.steer <= 1


def test_an_evaluation_does_only_what_is_missing(run, jobs, tmp_path):
    path = tmp_path / "evaluation.csv"
    policies = ("trained", "random", "driver")
    rows = evaluate_policies(course_of(run), policies, SEEDS, path, 1)
    groups = [list(SEEDS[: episodes.TOGETHER]), list(SEEDS[episodes.TOGETHER :])]
    assert jobs == [(policy, group) for policy in policies for group in groups]
    jobs.clear()
    assert evaluate_policies(course_of(run), policies, SEEDS, path, 1) == rows
    assert jobs == []
    lost = {
        ("random", SEEDS[2]),
        ("random", SEEDS[7]),
        ("driver", SEEDS[9]),
        *(("trained", seed) for seed in groups[1]),
    }
    write_rows(path, [row for row in rows if (row.policy, row.seed) not in lost])
    assert evaluate_policies(course_of(run), policies, SEEDS, path, 1) == rows
    assert jobs == [("trained", groups[1]), ("random", [SEEDS[2], SEEDS[7]]), ("driver", [SEEDS[9]])]
    assert read_rows(path) == rows  # in the same order


def other_policy(path: Path) -> None:
    """Replace a policy.pt2 by that of other weights, with the time of a file that is years old."""
    torch.manual_seed(12)
    export_policy(Agent(TRAINED.agent), path, policy_view(TRAINED))
    os.utime(path, (10**9, 10**9))


def test_content_and_not_time_tells_whether_a_policy_was_driven(run, jobs, tmp_path):
    own = tmp_path / "run"
    shutil.copytree(run, own, copy_function=shutil.copyfile)
    path = own / "evaluation.csv"
    rows = evaluate_policies(course_of(own), ("trained",), SEEDS[:1], path, 1)
    jobs.clear()
    copy = tmp_path / "copy"
    shutil.copytree(own, copy)
    os.utime(copy / "evaluation.csv", (10**9, 10**9))  # as a copy may have it: much older than its policy
    assert evaluate_policies(course_of(copy), ("trained",), SEEDS[:1], copy / "evaluation.csv", 1) == rows
    assert jobs == []
    other_policy(own / "policy.pt2")
    (row,) = evaluate_policies(course_of(own), ("trained",), SEEDS[:1], path, 1)
    assert jobs == [("trained", [SEEDS[0]])]
    assert row.policy_digest != rows[0].policy_digest
    assert row.reward != rows[0].reward
    assert read_rows(path) == [row]


@pytest.mark.usefixtures("jobs")
def test_a_video_of_a_replaced_policy_is_filmed_again(run, tmp_path, monkeypatch):
    own, filmed = tmp_path / "run", []
    shutil.copytree(run, own)
    (own / "evaluation.csv").unlink(missing_ok=True)
    words = ["evaluate", "--preset", "debug", "--runs", str(tmp_path), "--run", "run", "--episodes", "1"]
    monkeypatch.setattr(sys, "argv", [*words, "--policies", "[trained]"])
    monkeypatch.setattr(video, "record", lambda *_: filmed.append(1) or [moment(0)])
    path = own / f"JayWalk-hard_high_light-{SEEDS[0]}.mp4"

    def times_filmed() -> int:
        command.main()
        assert noted(course_of(own).policy_digest, path) == moment(0).metrics
        return len(filmed)

    assert times_filmed() == 1
    os.utime(path, (10**9, 10**9))  # a time says nothing
    assert times_filmed() == 1
    other_policy(own / "policy.pt2")
    assert times_filmed() == 2
    write_json(path.with_suffix(".json"), moment(0).metrics)  # as notes were before they named the policy
    assert times_filmed() == 3


def test_a_report_films_again_what_is_of_another_policy(run, tmp_path, monkeypatch):
    own, films = tmp_path / "run", []
    shutil.copytree(run, own)
    world = course_of(own, weather="midnight")
    crashed, calm = [moment(0), moment(9, 50.0)], [moment(0), moment(9)]
    monkeypatch.setattr(media, "record", lambda *_: films.append(1) or (crashed if len(films) == 1 else calm))
    path = own / "films" / f"JayWalk-midnight-{SEEDS[0]}.mp4"
    for _ in range(2):
        assert media._film(world, SEEDS[0], True)["crash_intensity"] == 50.0
    assert len(films) == 1
    assert path.with_suffix(".jpg").exists()
    other_policy(own / "policy.pt2")
    assert media._film(world, SEEDS[0], False)["crash_intensity"] == 0.0
    assert not path.exists()  # the other policy's, which would pass for this one's
    assert not path.with_suffix(".jpg").exists()
    media._film(world, SEEDS[0], True)
    assert path.exists()
    assert len(films) == 3


def test_an_interrupted_evaluation_keeps_what_was_driven(run, jobs, tmp_path, monkeypatch):
    path = tmp_path / "evaluation.csv"
    inner = episodes._drive

    def failing(course, policy, seeds):
        if policy == "driver":
            raise RuntimeError("the power went")
        return inner(course, policy, seeds)

    with monkeypatch.context() as patch:
        patch.setattr(episodes, "_drive", failing)
        with pytest.raises(RuntimeError, match="the power went"):
            evaluate_policies(course_of(run), ("random", "driver"), SEEDS[:2], path, 1)
    kept = read_rows(path)
    assert [(row.policy, row.seed) for row in kept] == [("random", SEEDS[0]), ("random", SEEDS[1])]
    jobs.clear()
    rows = evaluate_policies(course_of(run), ("random", "driver"), SEEDS[:2], path, 1)
    assert jobs == [("driver", list(SEEDS[:2]))]
    assert rows[:2] == kept


def test_without_workers_this_process_drives_the_same_episodes(run, jobs, tmp_path):
    policies, seeds, threads = ("random", "trained"), SEEDS[:3], torch.get_num_threads()
    here = evaluate_policies(course_of(run), policies, seeds, tmp_path / "here.csv", 0)
    assert jobs == []
    assert torch.get_num_threads() == threads
    assert here == evaluate_policies(course_of(run), policies, seeds, tmp_path / "workers.csv", 1)
    assert here == evaluate_policies(course_of(run), policies, seeds, tmp_path / "here.csv", 0)


def test_rows_of_other_scenarios_weathers_and_policies_stay(run, jobs, tmp_path):
    path = tmp_path / "evaluation.csv"
    digest = course_of(run).policy_digest
    foreign = [
        a_row("random", SEEDS[0], scenario="HighBeam", weather="midnight", policy_digest=digest),
        a_row("random", SEEDS[0], weather="midnight", policy_digest=digest),
        a_row("trained", SEEDS[5], policy_digest=digest),
    ]
    write_rows(path, foreign)
    (row,) = evaluate_policies(course_of(run), ("random",), SEEDS[:1], path, 1)
    assert set(read_rows(path)) == {*foreign, row}
    (dark,) = evaluate_policies(course_of(run, weather="midnight"), ("random",), SEEDS[:1], path, 1)
    assert dark == foreign[1]
    assert jobs == [("random", [SEEDS[0]])]


def test_a_matrix_is_driven_cell_by_cell_into_one_file(run, jobs, tmp_path):
    path = tmp_path / "evaluation.csv"
    courses = [
        course_of(run, scenario=scenario, weather=weather)
        for scenario in ("JayWalk", "HighBeam")
        for weather in ("midnight", "")
    ]
    rows = evaluate_courses(courses, ("full_throttle", "random"), SEEDS[:2], path, 1)
    # HighBeam's own weather is midnight.
    cells = [("JayWalk", "midnight"), ("JayWalk", "hard_high_light"), ("HighBeam", "midnight")]
    expected = [(*cell, policy, seed) for cell in cells for policy in ("full_throttle", "random") for seed in SEEDS[:2]]
    assert [(row.scenario, row.weather, row.policy, row.seed) for row in rows] == expected
    assert read_rows(path) == rows
    assert len(jobs) == 6
    write_rows(path, rows[:5] + rows[6:])
    jobs.clear()
    assert evaluate_courses(courses, ("full_throttle", "random"), SEEDS[:2], path, 1) == rows == read_rows(path)
    assert jobs == [("full_throttle", [SEEDS[1]])]


def test_worker_processes_give_the_same_rows(run, tmp_path):
    """The real pool and whole episodes; random actions end them soon."""
    rows = evaluate_policies(course_of(run), ("random",), SEEDS[:2], tmp_path / "evaluation.csv", 1)
    threads = torch.get_num_threads()
    try:
        assert rows == episodes._drive(course_of(run), "random", SEEDS[:2])
    finally:
        torch.set_num_threads(threads)
    assert rows == read_rows(tmp_path / "evaluation.csv")


class Witness:
    def __init__(self) -> None:
        self.seen: list = []

    def start(self, seeds) -> None:
        self.seen.append(list(seeds))

    def act(self, slots, observations, infos):
        self.seen.append((list(slots), observations, list(infos)))
        return np.zeros((len(slots), 2), np.float32)


def test_grey_shows_grey_and_passes_the_rest_on():
    witness = Witness()
    grey = Grey(witness)
    observations = np.random.default_rng(0).integers(0, 256, (2, 9, 4, 4), np.uint8)
    before = observations.copy()
    grey.start([7, 8])
    assert grey.act([1, 3], observations, [{"a": 1}, {"b": 2}]).shape == (2, 2)
    seeds, (slots, shown, infos) = witness.seen
    assert (seeds, slots, infos) == ([7, 8], [1, 3], [{"a": 1}, {"b": 2}])
    assert (shown.shape, shown.dtype, shown.min(), shown.max()) == ((2, 9, 4, 4), np.uint8, 128, 128)
    assert np.array_equal(observations, before)


def test_the_grey_row_is_the_trained_network_blindfolded(run):
    observations = np.random.default_rng(0).integers(0, 256, (2, 9, 32, 32), np.uint8)
    blind, seeing = POLICIES["trained_grey"](run), POLICIES["trained"](run)
    one, two = blind.act([0, 1], observations, [{}] * 2)
    assert np.array_equal(one, two)
    expected = seeing.act([0, 1], np.full_like(observations, 128), [{}] * 2)
    assert np.array_equal(np.stack([one, two]), expected)
    assert not np.array_equal(*seeing.act([0, 1], observations, [{}] * 2))


def test_frozen_shows_each_episode_its_own_first_observation():
    witness = Witness()
    frozen = Frozen(witness)
    first, later = np.random.default_rng(0).integers(0, 256, (2, 3, 9, 4, 4), np.uint8)
    frozen.start([7, 8, 9])
    frozen.act([0, 1, 2], first, [{}] * 3)
    frozen.act([0, 2], later[[0, 2]], [{}] * 2)  # the episode of slot 1 has ended
    assert np.array_equal(witness.seen[1][1], first)
    assert np.array_equal(witness.seen[2][1], first[[0, 2]])
    frozen.start([10])
    frozen.act([0], later[:1], [{}])
    assert np.array_equal(witness.seen[4][1], later[:1])


def test_the_untrained_row_is_the_seed_s_first_network(run):
    torch.manual_seed(TRAINED.seed)
    agent = Agent(TRAINED.agent)
    observations = np.random.default_rng(0).integers(0, 256, (3, 9, 32, 32), np.uint8)
    with torch.no_grad():
        expected = torch.tanh(agent(torch.from_numpy(observations))[0]).numpy()
    torch.manual_seed(99)
    for _ in range(2):
        policy = untrained_policy(run)
        policy.start([1, 2, 3])
        assert np.array_equal(policy.act(range(3), observations, [{}] * 3), expected)
    assert policy.view == load_view(run)
    assert not np.allclose(expected, POLICIES["trained"](run).act(range(3), observations, [{}] * 3))


def test_environments_show_what_the_policy_was_trained_on(run, jobs):
    (env,) = course_of(run, weather="midnight").envs(1)
    assert env.observation_space.shape == (9, 32, 32)
    assert env.weather.name == "midnight"
    env.reset(seed=SEEDS[0])
    assert env.step(np.array([0.0, 1.0], np.float32))[-1]["metrics"]["steps"] == 2  # its frame skip
    safe = course_of(run, reward="safety").envs(1)[0]
    assert (env._reward, safe._reward) == ("published", "safety")


@pytest.mark.usefixtures("jobs")
def test_the_video_shows_every_decision_and_the_end(run, tmp_path):
    path = tmp_path / "v.mp4"
    count = film(course_of(run), SEEDS[0], path)
    assert count == 20 // 2 + 1
    with imageio.get_reader(path) as reader:
        assert reader.count_frames() == count
        pictures = [np.asarray(picture) for picture in reader]
    assert len(pictures) == count
    assert pictures[0].shape == (512, 512, 3)
    assert pictures[0][:256].std() > 10
    above, below = pictures[-1][32:256, :256].astype(int), pictures[-1][288:, :256].astype(int)
    assert np.abs(above - below).mean() > 1  # the student's mask lies over the lower one
    assert {entry.name for entry in tmp_path.iterdir()} == {"v.mp4", "v.json"}


def test_the_command_line(run, jobs, tmp_path, monkeypatch, capsys):
    words = ["evaluate", "--preset", "debug", "--runs", str(run.parent), "--run", "run", "--episodes", "2"]
    words += ["--policies", "[trained, random]", "--video", "false"]
    monkeypatch.setattr(sys, "argv", words)
    command.main()
    shown = capsys.readouterr().out
    assert said(shown) == []
    for part in ("trained", "random", "paired differences", "student mask: AUC 0.900", "healthy", "evaluation.csv"):
        assert part in shown
    assert len(read_rows(run / "evaluation.csv")) == 4
    assert len(jobs) == 2
    command.main()
    assert len(jobs) == 2
    assert not list(run.glob("*.mp4"))
    monkeypatch.setattr(sys, "argv", [*words, "--scenarios", "[JayWalk, HighWay]", "--weathers", "['', midnight]"])
    jobs.clear()
    command.main()
    assert len(jobs) == 6  # JayWalk in its own weather is there
    assert len(read_rows(run / "evaluation.csv")) == 16
    assert "run: HighWay, midnight, 2 test seeds" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr(sys, "argv", [*words, "--policies", "[trained]"])
    command.main()
    assert "paired differences" not in capsys.readouterr().out  # one policy has nobody to differ from
    for extra, word in (
        (["--policies", "[pilot]"], "pilot"),
        (["--episodes", "0"], "episodes 0"),
        (["--run", "nobody"], "holds no trained policy"),
    ):
        monkeypatch.setattr(sys, "argv", [*words, *extra])
        with pytest.raises(SemoreError, match=word):
            command.main()


def test_a_row_s_fields_are_the_metrics_of_an_episode(run, jobs):
    """asdict(Row) minus who, where and which episode is exactly what the environment reports."""
    (env,) = course_of(run).envs(1)
    _, info = env.reset(seed=SEEDS[0])
    about = {"policy", "scenario", "weather", "seed", "wall_time", "renderer", "policy_digest"}
    assert set(asdict(a_row())) - about == set(info["metrics"])


def test_a_policy_without_its_run_is_driven_and_its_training_called_unknown(run, jobs, tmp_path, monkeypatch, capsys):
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(run / "policy.pt2", alone)
    words = ["evaluate", "--preset", "debug", "--runs", str(tmp_path), "--run", "alone", "--episodes", "1"]
    monkeypatch.setattr(sys, "argv", [*words, "--policies", "trained", "untrained"])
    monkeypatch.setattr(video, "record", lambda *_: [moment(0)])
    command.main()
    assert [name for name, _ in jobs] == ["trained"]  # what it was before its training, nobody knows
    shown = " ".join(capsys.readouterr().out.split())
    assert f"student mask: unknown, as all of its training: there is no {alone}/summary.json" in shown
    assert f"next: bring settings.json, summary.json, metrics.csv of its training run into {alone}" in shown
    monkeypatch.setattr(sys, "argv", [*words, "--policies", "untrained"])
    with pytest.raises(SemoreError, match=r"untrained needs .*settings\.json"):
        command.main()
    assert len(jobs) == 1


def test_a_run_whose_own_policy_was_not_driven_is_to_be_driven_next(run, jobs, tmp_path, monkeypatch, capsys):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "evaluation.csv").unlink(missing_ok=True)
    (tmp_path / "run" / "metrics.csv").touch()
    words = ["evaluate", "--preset", "debug", "--runs", str(tmp_path), "--run", "run", "--episodes", "1"]
    for policy, hint in (
        ("random", f"semore evaluate --runs {tmp_path} --run run"),
        ("trained", "semore report --runs "),
    ):
        monkeypatch.setattr(sys, "argv", [*words, "--video", "false", "--policies", policy])
        command.main()
        assert f"next: {hint}" in capsys.readouterr().out
