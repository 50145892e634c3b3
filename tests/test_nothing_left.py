"""Commands that are refused, or fail before their first result, leave the tree as it was."""

from __future__ import annotations

import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from tiny_rollouts import tiny_arrays, tiny_rollouts
from tiny_run import asked, make_data

from semore.collect.__main__ import main as collect
from semore.collect.carla.ports import lease
from semore.collect.carla.server import Server
from semore.collect.carla.settings import CarlaSettings
from semore.datasets.atomic_io import exclusive_lock
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.merge import gather
from semore.datasets.rollouts.store import Rollouts
from semore.evaluate.sweep.__main__ import main as sweep
from semore.train import launch as seeds
from semore.train.__main__ import many
from semore.train.run import train


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Path:
    """Where commands are run that must leave nothing."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return tmp_path / "empty"


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["semore", *words])


def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of several seeds take seconds to have a process of their own; what they do there is the same."""
    monkeypatch.setattr(seeds._Processes, "run", lambda self, task, settings, gpus: task(settings, None))
    for name in ("redirect_stdout", "redirect_stderr"):  # of the whole process, hence of other threads too
        monkeypatch.setattr(seeds, name, nullcontext)


def test_a_run_without_rollouts_or_knowledge_leaves_nothing(data, empty):
    lost = asked(data, empty / "runs", rollouts="nowhere.zarr")
    for settings in (lost, asked(data, empty / "runs", knowledge="no-such-set")):
        with pytest.raises(SemoreError, match=r"does not exist|no knowledge set 'no-such-set'"):
            train(settings)
        assert not list(empty.iterdir())


def test_what_was_there_before_a_refused_run_stays(data, empty):
    settings = asked(data, empty, knowledge="no-such-set")
    settings.folder.mkdir()
    (settings.folder / "notes.txt").write_text("mine")
    with pytest.raises(SemoreError, match="no knowledge set"):
        train(settings)
    assert (settings.folder / "notes.txt").read_text() == "mine"
    (settings.folder / "notes.txt").unlink()
    with pytest.raises(SemoreError, match="no knowledge set"):
        train(settings)
    assert not list(settings.folder.iterdir())


def test_several_seeds_without_knowledge_leave_nothing(data, empty, monkeypatch, capsys):
    in_this_process(monkeypatch)
    with pytest.raises(SemoreError, match="2 of 2 runs failed"):
        many(asked(data, empty / "runs", seeds=(1, 2), knowledge="no-such-set"))
    assert capsys.readouterr().out.count("no knowledge set 'no-such-set'") == 2
    assert not list(empty.iterdir())


def test_a_sweep_without_rollouts_leaves_nothing(empty, monkeypatch):
    in_this_process(monkeypatch)
    command(monkeypatch, "--preset", "debug", "--vary", "agent.lr=1e-3,1e-4", "--seeds", "[1]")
    with pytest.raises(SemoreError, match=r"2 of 2 runs failed[\s\S]*JayWalk-debug\.zarr does not exist"):
        sweep()
    assert not list(empty.iterdir())


def test_a_server_that_says_nothing_and_ends_leaves_nothing(empty):
    settings = CarlaSettings(port=29133, command="/bin/true", start_timeout=5.0)
    with lease(settings, 0.0) as right:
        server = Server(settings, right)
        with pytest.raises(SemoreError, match="ended with code 0"):
            server.ready()
        server.stop()
    assert not list(empty.iterdir())


@pytest.mark.slow
def test_a_recording_without_a_server_leaves_nothing(empty, monkeypatch):
    words = ["--preset", "debug", "--simulator", "carla", "--carla.port", "29123", "--carla.start_timeout", "0.2"]
    command(monkeypatch, *words)
    with pytest.raises(SemoreError, match="no CARLA server answered at"):
        collect()
    assert not list(empty.iterdir())
    command(monkeypatch, *words, "--carla.command", "/bin/true")  # a server that says nothing and ends
    with pytest.raises(SemoreError, match="ended with code 0"):
        collect()
    assert not list(empty.iterdir())


@pytest.mark.slow
def test_what_a_server_said_is_kept(empty, monkeypatch):
    words = ["--simulator", "carla", "--carla.port", "29123", "--carla.start_timeout", "5"]
    command(monkeypatch, "--preset", "debug", *words, "--carla.command", "/bin/echo no display")
    with pytest.raises(SemoreError, match=r"its last words, from data/carla/server-29123\.log"):
        collect()
    assert [path for path in empty.rglob("*") if path.is_file()] == [empty / "data" / "carla" / "server-29123.log"]


def test_a_recording_that_fails_before_its_first_episode_leaves_nothing(empty):
    rollouts = Rollouts(empty / "data" / "rollouts" / "a.zarr")

    def record(episodes: int) -> None:
        with rollouts.lock():
            rollouts.create()
            for seed in range(episodes):
                rollouts.write(f"jaywalk-{seed:07d}", tiny_arrays(seed, 6), {})
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        record(0)
    assert not list(empty.iterdir())
    with pytest.raises(RuntimeError):
        record(1)
    assert rollouts.names() == ["jaywalk-0000000"]  # what is recorded stays
    with pytest.raises(RuntimeError):
        record(0)
    assert rollouts.names() == ["jaywalk-0000000"]


def test_a_merge_that_is_refused_leaves_no_target(tmp_path):
    here = tiny_rollouts(tmp_path / "a.zarr", 0), tiny_rollouts(tmp_path / "b.zarr", 0, ending="success")
    shutil.rmtree(here[1].path / "jaywalk-0000000")
    here[1].write("jaywalk-0000000", tiny_arrays(9, 6), {"camera": 16})
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SemoreError, match="have the same name but differ"):
        gather(tmp_path / "deep" / "c.zarr", [each.episode("jaywalk-0000000") for each in here])
    assert sorted(tmp_path.iterdir()) == before


def test_a_lock_that_is_refused_leaves_its_holder_s_folder(tmp_path):
    lock = tmp_path / "runs" / "a" / ".lock"
    with exclusive_lock(lock, "training"):
        with pytest.raises(SemoreError, match="already running"), exclusive_lock(lock, "training"):
            pass
        assert lock.exists()
    assert lock.exists()  # as after every run that ended well
