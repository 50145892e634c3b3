"""One thread writes while another drives: what overlaps, what waits, and what a failure on either side leaves."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semore.collect import workers
from semore.collect.env import DrivingEnv
from semore.collect.plan import CollectSettings, plan
from semore.collect.policies import make_policy
from semore.collect.recorder import episode_name, record
from semore.collect.recording import EpisodeRecorder
from semore.collect.workers import collect
from semore.collect.writer import WAITING, EpisodeWriter
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import MAX_EPISODE_STEPS
from semore.datasets.rollouts.store import Rollouts

SMALL: dict[str, Any] = {"camera": 16, "max_episode_steps": 30, "rollouts": "r", "policies": {"full_throttle": 1.0}}
SOON = 20.0  # s; far longer than anything here takes


class Shelf:
    """Stands in for Rollouts: keeps what it is given, in order, while `open` is set."""

    def __init__(self, bad: str = "") -> None:
        self.kept: list[str] = []
        self.threads: set[int] = set()
        self.begun, self.open = threading.Semaphore(0), threading.Event()
        self.bad = bad

    def write(self, name: str, arrays: dict[str, np.ndarray], attributes: dict[str, Any]) -> None:
        self.begun.release()
        assert self.open.wait(SOON)
        if name == self.bad:
            raise SemoreError(f"no room for {name}")
        self.threads.add(threading.get_ident())
        self.kept.append(name)


def episode(steps: int = 1) -> dict[str, np.ndarray]:
    return {"action": np.zeros((steps, 2), np.float32)}


def writer(shelf: Shelf, told: list[Any]) -> EpisodeWriter:
    return EpisodeWriter(shelf, lambda name, steps: told.append((name, steps, threading.get_ident())))  # type: ignore[arg-type]


# The writer


def test_writes_on_one_other_thread_in_order_and_tells_the_putting_one():
    shelf, told = Shelf(), []
    shelf.open.set()
    with writer(shelf, told) as busy:
        for number in range(6):
            busy.put(str(number), lambda n=number: episode(n + 1), {})
    assert shelf.kept == [str(number) for number in range(6)]
    assert told == [(str(number), number + 1, threading.get_ident()) for number in range(6)]
    assert len(shelf.threads) == 1
    assert threading.get_ident() not in shelf.threads


def test_few_episodes_wait_and_the_next_put_blocks():
    shelf, put, told = Shelf(), [], []

    def drive() -> None:
        with writer(shelf, told) as busy:
            for number in range(WAITING + 4):
                busy.put(str(number), episode, {})
                put.append(number)

    driver = threading.Thread(target=drive)
    driver.start()
    assert shelf.begun.acquire(timeout=SOON)
    deadline = time.monotonic() + SOON
    while len(put) < WAITING + 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(put) == WAITING + 1
    assert shelf.kept == told == []
    shelf.open.set()
    driver.join(SOON)
    assert len(shelf.kept) == len(told) == WAITING + 4


def test_an_error_surfaces_at_the_next_put_and_nothing_behind_it_is_written():
    shelf, told = Shelf(bad="1"), []
    shelf.open.set()
    put = []

    def drive() -> None:
        with writer(shelf, told) as busy:
            for number in range(50):
                busy.put(str(number), episode, {})
                put.append(number)

    with pytest.raises(SemoreError, match="no room for 1"):
        drive()
    assert len(put) < 50
    assert shelf.kept == [name for name, *_ in told] == ["0"]


def test_an_error_in_the_last_episode_surfaces_on_leaving():
    shelf, told = Shelf(bad="0"), []
    shelf.open.set()
    with pytest.raises(SemoreError, match="no room for 0"), writer(shelf, told) as busy:
        busy.put("0", episode, {})
    with pytest.raises(ZeroDivisionError), writer(shelf, told) as busy:
        busy.put("9", lambda: episode(1 // 0), {})
    assert shelf.kept == told == []


def test_a_driver_that_fails_keeps_what_was_driven():
    shelf, told = Shelf(), []
    shelf.open.set()

    def drive() -> None:
        with writer(shelf, told) as busy:
            busy.put("0", episode, {})
            busy.put("1", episode, {})
            _ = 1 // 0

    with pytest.raises(ZeroDivisionError):
        drive()
    assert shelf.kept == ["0", "1"]


# Recording


def test_the_next_episode_drives_while_one_is_written(monkeypatch, tmp_path):
    settings = CollectSettings(**SMALL)
    env, driven, real = settings.env(), threading.Event(), Rollouts.write

    def patient(self, name, arrays, attributes):
        if name == episode_name("JayWalk", 0):
            assert driven.wait(SOON), "the second episode waited for the first one's writing"
        real(self, name, arrays, attributes)

    def reset(self, *, seed=None, options=None):
        if seed == 1:
            driven.set()
        return start(self, seed=seed, options=options)

    start = DrivingEnv.reset
    monkeypatch.setattr(Rollouts, "write", patient)
    monkeypatch.setattr(DrivingEnv, "reset", reset)
    rollouts, told = Rollouts(tmp_path / "r.zarr"), []
    rollouts.create()
    names = record(rollouts, [env], make_policy("driver"), range(3), {}, finished=lambda *what: told.append(what))
    assert names == rollouts.names() == [name for name, _ in told]


def test_a_failed_write_stops_the_recording_and_leaves_whole_episodes(monkeypatch, tmp_path):
    settings = CollectSettings(**SMALL)
    rollouts, real = Rollouts(tmp_path / "r.zarr"), Rollouts.write
    rollouts.create()

    def full(self, name, arrays, attributes):
        if name == episode_name("JayWalk", 2):
            raise SemoreError("the disk is full")
        real(self, name, arrays, attributes)

    monkeypatch.setattr(Rollouts, "write", full)
    with pytest.raises(SemoreError, match="disk is full"):
        record(rollouts, [settings.env()], make_policy("driver"), range(40), {})
    assert rollouts.names() == [episode_name("JayWalk", seed) for seed in (0, 1)]
    for kept in rollouts.episodes():
        kept.verify()


def test_episodes_longer_than_the_usual_limit_are_whole():
    env = CollectSettings(**SMALL).env()
    env.reset(seed=0)
    recorder, steps = EpisodeRecorder(env.snapshot), []
    env.listener = steps.append
    env.step(np.array([0.0, 1.0], np.float32))
    count = 2 * MAX_EPISODE_STEPS + 20
    for number in range(count):
        recorder(replace(steps[number % 2], reward=float(number)))
    arrays = recorder.arrays()
    assert np.array_equal(arrays["reward"], np.arange(count, dtype=np.float32))
    assert len(arrays["rgb"]) == len(arrays["digest"]) == count + 1
    for parity, step in enumerate(steps):
        assert (arrays["rgb"][1 + parity :: 2] == step.snapshot.images.rgb).all()
        assert (arrays["actors"][1 + parity :: 2] == step.snapshot.actors).all()


# Workers


@pytest.fixture
def task(tmp_path: Path) -> tuple[Rollouts, CollectSettings]:
    """An empty folder, and settings for twelve episodes on two workers."""
    settings = CollectSettings(**SMALL, data=str(tmp_path), episodes=12, validation_episodes=0, workers=2)
    rollouts = Rollouts(tmp_path / "rollouts" / "r.zarr")
    rollouts.create()
    return rollouts, settings


def test_a_killed_worker_is_told_of_and_finished_episodes_stay(task):
    rollouts, settings = task
    before = {int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()}
    settings = replace(settings, max_episode_steps=200)
    with closing(workers._record_parallel(rollouts, settings, plan(settings))) as recording:
        first, _ = next(recording)
        now = {int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()}
        for pid in now - before:
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
                break
        with pytest.raises(SemoreError, match="a recording worker died"):
            list(recording)
    assert first in rollouts.names()
    assert len(rollouts.names()) < 12
    for kept in rollouts.episodes():
        kept.verify()
    assert len(collect(settings).names()) == 12
    assert not list(rollouts.path.glob(".tmp-*"))


@pytest.mark.parametrize(
    ("seed", "behaviour", "error", "named"),
    [
        (3, "drunk", SemoreError, "unknown policy 'drunk'"),
        (-7, "driver", RuntimeError, "a recording worker failed:\nTraceback"),
    ],
)
def test_an_error_in_a_worker_surfaces_and_leaves_whole_episodes(task, seed, behaviour, error, named):
    rollouts, settings = task
    settings = replace(settings, workers=1)
    todo = [(0, "driver"), (1, "driver"), (seed, behaviour), (4, "driver"), (5, "driver")]
    with pytest.raises(error, match=named):
        list(workers._record_parallel(rollouts, settings, todo))
    for kept in rollouts.episodes():
        kept.verify()
    assert not list(rollouts.path.glob(".tmp-*"))


def test_a_recorder_used_again_leaves_nothing_of_the_last_episode(tmp_path):
    seeds = [3, 4, 5, 6, 7, 8]

    def recorded(name: str, *batches: list[int]) -> dict[str, str]:
        rollouts = Rollouts(tmp_path / f"{name}.zarr")
        rollouts.create()
        for batch in batches:
            env = DrivingEnv("HighBeam", camera=16, size=16, max_episode_steps=90)
            record(rollouts, [env], make_policy("full_throttle"), batch, {})
        return {episode.name: episode.attributes["checksum"] for episode in rollouts.episodes()}

    together = recorded("together", seeds)
    assert together == recorded("apart", *([seed] for seed in seeds))
    lengths = {episode.steps for episode in Rollouts(tmp_path / "together.zarr").episodes()}
    assert len(lengths) > 1
