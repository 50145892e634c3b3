"""Recording: the plan, what a killed collector leaves, and every way it refuses to work."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from semore.collect.__main__ import main
from semore.collect.embedded.world import EmbeddedSimulator
from semore.collect.env import DrivingEnv
from semore.collect.plan import CollectSettings, identity, plan, policy_attributes
from semore.collect.policies import POLICIES, make_policy
from semore.collect.recorder import episode_name, record
from semore.collect.workers import collect
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import EGO_COLUMN, FRAME_ARRAYS, SCHEMA_VERSION, SEED_SPLITS, STEP_ARRAYS, split_of
from semore.datasets.rollouts.store import Rollouts, row_digests
from semore.datasets.run_command import run_command

SMALL = {"camera": 32, "max_episode_steps": 60, "action_repeat": 2, "rollouts": "r"}


def recorded(path: Path, settings: CollectSettings, threads: int = 1) -> Rollouts:
    """The settings' plan recorded in this process, without workers."""
    rollouts = Rollouts(path)
    rollouts.create()
    for seed, policy in plan(settings):
        env = settings.env()
        record(rollouts, [env], make_policy(policy), [seed], policy_attributes(settings, policy), threads)
    return rollouts


def contents(episode: Path) -> dict[str, bytes | dict[str, Any]]:
    """Every file of an episode; its attributes without the code version, which another commit changes."""
    files: dict[str, Any] = {
        str(file.relative_to(episode)): file.read_bytes() for file in episode.rglob("*") if file.is_file()
    }
    attributes = json.loads(files["zarr.json"])["attributes"]
    assert attributes.pop("code_version")
    return files | {"zarr.json": attributes}


# The plan

SHARES = st.dictionaries(st.sampled_from(list(POLICIES)), st.floats(0.01, 1.0), min_size=1, max_size=3)


@given(policies=SHARES, short=st.integers(1, 40), more=st.integers(0, 40), first=st.integers(0, 1000))
@hypothesis_settings(deadline=None)
def test_a_longer_plan_begins_with_the_shorter_one(policies, short, more, first):
    settings = CollectSettings(episodes=short, validation_episodes=0, policies=policies, first_seed=first)
    episodes = plan(settings)
    longer = plan(replace(settings, episodes=short + more))
    assert longer[:short] == episodes
    assert [seed for seed, _ in longer] == list(range(first, first + short + more))


@given(policies=SHARES, episodes=st.integers(1, 80))
@hypothesis_settings(deadline=None)
def test_shares_are_within_one_episode_of_exact(policies, episodes):
    names = [name for _, name in plan(CollectSettings(episodes=episodes, validation_episodes=0, policies=policies))]
    for name, share in policies.items():
        exact = episodes * share / sum(policies.values())
        assert abs(names.count(name) - exact) < 1.0 + 1e-9


def test_validation_episodes_are_the_noisy_drivers_on_validation_seeds():
    settings = CollectSettings(episodes=3, validation_episodes=2, policies={"random": 1.0})
    start = SEED_SPLITS["validation"].start
    assert plan(settings)[3:] == [(start, "noisy_driver"), (start + 1, "noisy_driver")]
    assert {split_of(seed) for seed, _ in plan(settings)} == {"train", "validation"}


def test_a_behaviour_without_a_share_never_drives():
    policies = {"random": 0.0, "driver": 1.0, "wander": 1.0}
    drivers = [name for _, name in plan(CollectSettings(episodes=20, policies=policies))]
    assert drivers[:4] in (["driver", "wander"] * 2, ["wander", "driver"] * 2)
    assert "random" not in drivers


def test_splits_are_disjoint_and_seeds_outside_are_refused():
    assert [split_of(seed) for seed in (0, 999_999, 1_000_000, 1_099_999, 2_000_000, 2_099_999)] == [
        "train", "train", "validation", "validation", "test", "test",
    ]  # fmt: skip
    for seed in (-1, 1_100_000, 1_999_999, 2_100_000):
        with pytest.raises(SemoreError, match=f"seed {seed} "):
            split_of(seed)


# What is recorded


def test_a_recording_is_what_the_world_showed(tmp_path):
    settings = CollectSettings(**SMALL, episodes=1, validation_episodes=0, policies={"wander": 1.0}, scenario="HighWay")
    rollouts = recorded(tmp_path / "r.zarr", settings)
    (episode,) = rollouts.episodes()
    stored = episode.read(*FRAME_ARRAYS, *STEP_ARRAYS)
    env = DrivingEnv("HighWay", camera=32, size=32, frame_skip=1, max_episode_steps=60)
    _, info = env.reset(seed=0)
    for step in range(episode.steps + 1):
        images = env.snapshot.images
        for name in ("rgb", "semantic", "instance"):
            assert np.array_equal(stored[name][step], getattr(images, name)), (name, step)
        assert np.array_equal(stored["actors"][step], info["actors"])
        assert np.array_equal(stored["ego"][step], info["ego"])
        if step == episode.steps:
            break
        _, reward, terminated, truncated, info = env.step(stored["action"][step])
        assert stored["reward"][step] == np.float32(reward)
        assert (stored["terminated"][step], stored["truncated"][step]) == (terminated, truncated)
        assert stored["progress"][step] == pytest.approx(stored["speed"][step] * 0.05, rel=1e-6)
    assert terminated or truncated
    assert np.array_equal(stored["digest"], row_digests(stored["rgb"]))
    assert stored["progress"].sum() == pytest.approx(info["metrics"]["distance"], rel=1e-5)
    assert stored["impulse"].sum() == pytest.approx(info["metrics"]["crash_intensity"], rel=1e-5)
    assert (stored["action"][0::2] == stored["action"][1::2]).all()  # held for two steps
    assert stored["ego"][1:, [EGO_COLUMN["steer"]]] == pytest.approx(stored["action"][:, :1])
    about = episode.attributes
    assert about["total_reward"] == pytest.approx(stored["reward"].sum(), abs=1e-4)
    assert (about["ending"], about["seed"], about["split"]) == (info["ending"], 0, "train")
    assert (about["scenario"], about["weather"], about["policy"]) == ("HighWay", "hard_high_light", "wander")
    assert (about["simulator"], about["schema_version"], about["complete"]) == ("embedded", SCHEMA_VERSION, True)
    assert all(about[key] for key in ("simulator_version", "renderer_version", "code_version", "checksum"))
    assert dict(identity(settings, "wander")).items() <= dict(about).items()


def test_many_environments_and_threads_record_the_same_bytes(tmp_path):
    settings = CollectSettings(**SMALL, episodes=5, validation_episodes=0, policies={"noisy_driver": 1.0})
    one = recorded(tmp_path / "one.zarr", settings)
    many = Rollouts(tmp_path / "many.zarr")
    many.create()
    finished: list[tuple[str, int]] = []
    names = record(
        many, [settings.env() for _ in range(3)], make_policy("noisy_driver"), range(5),
        policy_attributes(settings, "noisy_driver"), threads=2, finished=lambda *what: finished.append(what),
    )  # fmt: skip
    assert names == many.names() == one.names()
    assert finished == [(name, many.episode(name).steps) for name in names]
    for name in names:
        assert contents(one.path / name) == contents(many.path / name)


def test_a_policy_that_diverges_is_named_and_its_episode_is_not_recorded(tmp_path):
    class Diverging:
        decisions = 0

        def start(self, seeds):
            pass

        def act(self, slots, observations, infos):
            self.decisions += 1
            return np.full((len(slots), 2), np.nan if self.decisions > 3 else 0.5, np.float32)

    rollouts = Rollouts(tmp_path / "r.zarr")
    rollouts.create()
    with pytest.raises(SemoreError, match=r"finite numbers, not \[nan, nan\]; a policy that gives such has diverged"):
        record(rollouts, [DrivingEnv(camera=8, size=8)], Diverging(), [1], {})
    assert rollouts.names() == []


def test_names_sort_by_seed():
    names = [episode_name("JayWalk", seed) for seed in (0, 9, 10, 999_999, 1_000_000, 2_099_999)]
    assert names == sorted(names)
    assert names[2] == "jaywalk-0000010"


# Killed, resumed, repeated

KILLED = CollectSettings(**SMALL, episodes=14, validation_episodes=2, policies={"noisy_driver": 0.5, "wander": 0.5})


def start(data: Path, log: Path) -> subprocess.Popen[bytes]:
    words = [f"--{name}={getattr(KILLED, name)}" for name in (*SMALL, "episodes", "validation_episodes")]
    command = [sys.executable, "-m", "semore.collect", "--preset=debug", *words, "--workers=2", f"--data={data}"]
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


def wait_until(condition, process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.005)


def children_of(process: subprocess.Popen[bytes]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def test_killed_collectors_lose_tear_and_double_nothing(tmp_path):
    log, rollouts = tmp_path / "log", Rollouts(tmp_path / "data" / "rollouts" / "r.zarr")
    process = start(tmp_path / "data", log)
    wait_until(lambda: len(rollouts.names()) >= 2, process, log)
    workers = children_of(process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers):  # they end with their parent
        assert time.monotonic() < deadline
        time.sleep(0.01)

    wanted = [episode_name("JayWalk", seed) for seed, _ in plan(KILLED)]
    first = rollouts.names()
    assert 2 <= len(first) < len(wanted), "killed before or after the work"
    for episode in rollouts.episodes():
        episode.verify()
    times = {name: (rollouts.path / name / "zarr.json").stat().st_mtime_ns for name in first}
    torn = rollouts.path / f".tmp-1-{wanted[-1]}"
    (torn / "rgb").mkdir(parents=True)
    (torn / "rgb" / "zarr.json").write_text("{")

    process = start(tmp_path / "data", log)
    assert process.wait(120) == 0, log.read_text()
    said = log.read_text()
    assert f"{len(first)} of {len(wanted)} episodes there" in said
    assert "half-written" in said
    assert "episodes/s" in said
    assert sorted(os.listdir(rollouts.path)) == sorted([*wanted, "zarr.json"])
    assert times.items() <= {name: (rollouts.path / name / "zarr.json").stat().st_mtime_ns for name in wanted}.items()

    whole = recorded(tmp_path / "whole.zarr", KILLED)
    for episode in rollouts.episodes():
        episode.verify()
        assert contents(episode.path) == contents(whole.path / episode.name), episode.name
    assert rollouts.fingerprint() == whole.fingerprint()


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> CollectSettings:
    """Settings whose plan of five is recorded."""
    data = tmp_path_factory.mktemp("data")
    settings = CollectSettings(**SMALL, data=str(data), episodes=4, validation_episodes=1)
    recorded(data / "rollouts" / "r.zarr", settings)
    return settings


def files(settings: CollectSettings) -> dict[str, int]:
    root = Path(settings.data)
    return {
        str(path): path.stat().st_mtime_ns
        for path in root.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


@pytest.fixture
def no_workers(monkeypatch):
    def refuse(*_):
        raise AssertionError("there is nothing to record")

    monkeypatch.setattr("semore.collect.workers._record_parallel", refuse)


def test_a_second_run_does_nothing(finished, no_workers, capsys):
    before = files(finished)
    rollouts = collect(finished)
    assert files(finished) == before
    assert "5 of 5 episodes there" in capsys.readouterr().out
    assert len(rollouts.names()) == 5
    assert collect(replace(finished, episodes=3)).names() == rollouts.names()  # fewer: nothing to do either
    assert files(finished) == before


def test_leftovers_of_killed_writers_are_swept(finished, no_workers, capsys):
    path = Path(finished.data) / "rollouts" / "r.zarr"
    before = files(finished)
    (path / ".tmp-77-jaywalk-0000002" / "rgb").mkdir(parents=True)
    (path / ".tmp-78-zarr.json").write_text("{")
    names = Rollouts(path).names()
    collect(finished)
    assert "removed 2 half-written" in capsys.readouterr().out
    assert files(finished) == before
    assert Rollouts(path).names() == names


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"reward": "safety"}, "reward='published', you ask for 'safety'"),
        ({"camera": 48}, "camera=32, you ask for 48"),
        ({"action_repeat": 1}, "action_repeat=2, you ask for 1"),
        ({"max_episode_steps": 50}, "max_episode_steps=60, you ask for 50"),
        ({"weather": "midnight"}, "weather='hard_high_light', you ask for 'midnight'"),
        ({"jitter": False}, r"start_jitter=\[0.8, 0.06\], you ask for \[0.0, 0.0\]"),
        ({"policies": {"random": 1.0}}, "policy='.*', you ask for 'random'"),
    ],
)
def test_other_settings_over_the_same_episodes_are_refused_by_key(finished, no_workers, changed, key):
    before = files(finished)
    with pytest.raises(SemoreError, match=f"jaywalk-.* was recorded with {key}.*--rollouts"):
        collect(replace(finished, **changed))
    assert files(finished) == before


def test_another_renderer_does_not_mix_into_the_folder(finished, no_workers, monkeypatch):
    monkeypatch.setattr(EmbeddedSimulator, "renderer_version", "another")
    with pytest.raises(SemoreError, match=r"was recorded with renderer_version=.*'another'"):
        collect(replace(finished))


def test_spelling_a_default_out_changes_nothing(finished, no_workers):
    collect(replace(finished, weather="hard_high_light", scenario="jaywalk"))


def test_a_second_collector_is_refused_by_name(finished, no_workers):
    rollouts = Rollouts(Path(finished.data) / "rollouts" / "r.zarr")
    with rollouts.lock(), pytest.raises(SemoreError, match=rf"r\.zarr is already running as process {os.getpid()} on "):
        collect(finished)
    collect(finished)  # released


# One line for what is wrong


def command(monkeypatch, capsys, *words: str) -> str:
    """The error a failing `semore collect` prints: its only line on stderr."""
    monkeypatch.setattr(sys, "argv", ["collect", "--preset=debug", *words])
    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("--scenario=Jay", "unknown scenario 'Jay'; choose one of JayWalk, HighBeam, HighWay"),
        ("--weather=snow", "unknown weather 'snow'"),
        ("--simulator=unreal", "unknown simulator 'unreal'; choose one of embedded, carla"),
        ('--policies={"drunk": 1.0}', "unknown policy 'drunk'"),
        ('--policies={"checkpoint:nowhere.pt2": 1.0}', "nowhere.pt2 does not exist"),
        ('--policies={"driver": 0.0}', "not all zero"),
        ('--policies={"driver": 2.0, "random": -1.0}', "non-negative"),
        ("--reward=cash", "unknown reward 'cash'"),
        ("--episodes=0", "episodes is 0"),
        ("--validation_episodes=-1", "validation_episodes is -1"),
        ("--validation_episodes=100001", "validation_episodes is 100001"),
        ("--workers=0", "workers is 0"),
        ("--camera=0", "camera is 0"),
        ("--camera=7", "camera size 7 is too small"),
        ("--first_seed=999999", "seeds 999999..1000002 leave the training split"),
        ("--first_seed=-1", "seeds -1..2 leave"),
        ("--preset=huge", "unknown preset 'huge'; choose one of debug, laptop, paper, scratch"),
    ],
)
def test_a_wrong_setting_is_one_line_and_makes_no_folder(monkeypatch, capsys, tmp_path, word, named):
    data = tmp_path / "data"
    assert named in command(monkeypatch, capsys, f"--data={data}", word)
    assert not data.exists()


def test_a_foreign_or_newer_folder_is_one_line(monkeypatch, capsys, tmp_path):
    folder = tmp_path / "rollouts" / "r.zarr"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("precious")
    assert "is no rollouts folder" in command(monkeypatch, capsys, f"--data={tmp_path}", "--rollouts=r")
    assert os.listdir(folder) == ["thesis.txt"]
    zarr.create_group(tmp_path / "rollouts" / "g.zarr", zarr_format=3)
    assert "not of Semore rollouts" in command(monkeypatch, capsys, f"--data={tmp_path}", "--rollouts=g")
    newer = Rollouts(tmp_path / "rollouts" / "n.zarr")
    newer.create()
    root = newer.path / "zarr.json"
    told, newer_still = (f'"schema_version": {version}' for version in (SCHEMA_VERSION, SCHEMA_VERSION + 1))
    root.write_text(root.read_text().replace(told, newer_still))
    line = command(monkeypatch, capsys, f"--data={tmp_path}", "--rollouts=n")
    assert f"n.zarr has schema version {SCHEMA_VERSION + 1}, this code reads {SCHEMA_VERSION}" in line


def test_the_real_command_prints_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "semore.collect", "--scenario", "Jay", "--data", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == "error: unknown scenario 'Jay'; choose one of JayWalk, HighBeam, HighWay\n"
    assert done.stdout == ""


@pytest.mark.parametrize("after", [0, 1, 7, 20])
def test_a_full_disk_is_named_and_leaves_nothing_of_the_episode(monkeypatch, tmp_path, after):
    settings = CollectSettings(**SMALL, episodes=2, validation_episodes=0, policies={"driver": 1.0})
    rollouts = recorded(tmp_path / "r.zarr", replace(settings, episodes=1))
    before = contents(rollouts.path / rollouts.names()[0])
    written, write = [], Path.write_bytes

    def full(self, content):
        if len(written) >= after:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(self)
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SemoreError, match=r"r\.zarr: the disk is full; episode jaywalk-0000001 was not kept"):
        record(rollouts, [settings.env()], make_policy("driver"), [1], {})
    assert len(written) == after
    assert sorted(os.listdir(rollouts.path)) == ["jaywalk-0000000", "zarr.json"]
    assert contents(rollouts.path / "jaywalk-0000000") == before
    monkeypatch.setattr(Path, "write_bytes", write)
    record(rollouts, [settings.env()], make_policy("driver"), [1], {})
    rollouts.episode("jaywalk-0000001").verify()


def test_a_disk_that_fills_up_at_the_last_moment(monkeypatch, tmp_path):
    settings = CollectSettings(**SMALL, episodes=1, validation_episodes=0, policies={"driver": 1.0})

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    rollouts = Rollouts(tmp_path / "r.zarr")
    rollouts.create()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SemoreError, match="disk is full"):
        record(rollouts, [settings.env()], make_policy("driver"), [0], {})
    assert os.listdir(rollouts.path) == ["zarr.json"]
