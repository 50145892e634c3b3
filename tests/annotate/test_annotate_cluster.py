"""The pass on Dask workers: equal to the pass alone, and whole after everything that can go wrong has."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tiny_qwen2vl

from semore.annotate.pipeline import annotate_rollouts
from semore.annotate.registry import make_producers
from semore.annotate.rehearsal.__main__ import KINDS, RehearsalSettings, rehearse
from semore.annotate.rehearsal.check import finished, problems
from semore.annotate.rehearsal.fake import fake_producers
from semore.annotate.rehearsal.faults import Faults
from semore.annotate.rehearsal.rollouts import random_rollouts
from semore.annotate.scheduling.dask_executor import DaskExecutor
from semore.annotate.settings import ExecutorSettings, ProducerSettings, QwenSettings
from semore.annotate.summary import Summary
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.cache import KnowledgeCache, open_set
from semore.datasets.rollouts.store import Rollouts


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory) -> Rollouts:
    return random_rollouts(tmp_path_factory.mktemp("rollouts") / "r.zarr", 3, 40, side=16)


def annotate(rollouts: Rollouts, root: Path, executor: ExecutorSettings | None, producers=None) -> Summary:
    return annotate_rollouts(
        [rollouts.path],
        KnowledgeCache(root),
        "k",
        producers or fake_producers(0.002),
        batch=8,
        quiet=True,
        executor=executor,
    )


def served(rollouts: Rollouts, root: Path) -> list[tuple[bytes, bytes]]:
    knowledge, found = open_set(root, "k"), []
    for episode in rollouts.episodes():
        arrays = episode.read("digest", "state_digest")
        masks, valid = knowledge.h_ka(arrays["digest"], arrays["state_digest"], size=(16, 16))
        found.append((masks.tobytes(), valid.tobytes()))
    return found


def test_workers_make_what_one_process_makes_and_only_counts_come_back(rollouts, tmp_path):
    alone = annotate(rollouts, tmp_path / "alone", None)
    together = annotate(rollouts, tmp_path / "together", ExecutorSettings("local", 2))
    assert served(rollouts, tmp_path / "alone") == served(rollouts, tmp_path / "together")
    assert alone.statuses == together.statuses
    assert (alone.frames, alone.todo, alone.done) == (together.frames, together.todo, together.done) == (120,) * 3
    assert list(tmp_path.glob("together/passes/*-k.json"))


@pytest.mark.slow
def test_a_real_model_runs_on_a_worker(tmp_path):
    rollouts = random_rollouts(tmp_path / "r.zarr", 1, 8, side=16)
    model = str(tiny_qwen2vl.build(tmp_path / "qwen"))
    qwen = QwenSettings(model=model, upscale=56, max_new_tokens=6, device="cpu")
    crews = {"alone": None, "together": ExecutorSettings("local", 1)}
    found = {
        where: annotate(rollouts, tmp_path / where, crew, make_producers(ProducerSettings("qwen2-vl", qwen=qwen)))
        for where, crew in crews.items()
    }
    assert found["alone"].statuses == found["together"].statuses
    assert found["together"].failed == 0 < found["together"].done
    assert served(rollouts, tmp_path / "alone") == served(rollouts, tmp_path / "together")


def test_a_rehearsal_with_every_fault_ends_with_one_winner_per_key(tmp_path):
    told: list[str] = []
    # One batch a share, so that no fault hides another.
    settings = RehearsalSettings(episodes=2, frames=32, seconds=0.004, batch=2, commit_seconds=0.001)
    outcome = rehearse(settings, tmp_path, told.append)
    assert outcome.problems == (), told
    struck = {path.name.split("-")[1] for path in (tmp_path / "log").glob("struck-*")}
    assert struck == set(KINDS) - {"poison", "poison_kill", "timeout"}
    assert outcome.deaths >= 3  # the frame that kills took that many workers before it was given up
    assert any("disk is full" in line for line in told)


def dask(*words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "distributed.cli." + words[0], "--scheduler-file", *words[1:], "--no-dashboard"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def cluster(file: Path) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
    """A scheduler and a worker as a lab would start them."""
    file.unlink(missing_ok=True)
    scheduler = dask("dask_scheduler", str(file), "--port", "0")
    until(file.exists)
    return scheduler, dask("dask_worker", str(file), "--nthreads", "1", "--no-nanny")


def until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_lost_scheduler_is_awaited_and_nothing_finished_is_done_again(rollouts, tmp_path):
    (tmp_path / "log").mkdir()
    faults = Faults(tmp_path / "log", None, {})
    file = tmp_path / "scheduler.json"
    processes = cluster(file)
    executor = ExecutorSettings(str(file), patience=60, commit_seconds=1.0)
    results: list[Summary] = []
    thread = threading.Thread(
        target=lambda: results.append(annotate(rollouts, tmp_path / "k", executor, fake_producers(0.25, faults)))
    )
    try:
        thread.start()
        until(lambda: len(list(tmp_path.glob("k/texts/*.h5"))) >= 2)
        for process in processes:
            process.kill()
            process.wait()
        done, asked = finished(tmp_path / "k", "k", rollouts)["texts"], len(faults.asked("texts"))
        assert 0 < len(done) < 120
        processes = cluster(file)
        thread.join(90)
        assert not thread.is_alive()
    finally:
        for process in processes:
            process.kill()
    assert results
    assert problems(tmp_path / "k", "k", rollouts, ()) == []
    counts = faults.asked("texts")
    assert len(counts) < 120 + asked - len(done) + 1  # only what was not committed was asked again
    assert all(counts.count(frame) == 1 for frame in done)


def test_no_scheduler_is_one_clear_error(rollouts, tmp_path):
    with (
        pytest.raises(SemoreError, match=r"nowhere\.json: no answer or no worker within 1 s.*SCHEDULER=local"),
        DaskExecutor(ExecutorSettings(str(tmp_path / "nowhere.json"), patience=1.0), print),
    ):
        pass
