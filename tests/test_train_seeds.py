"""Many seeds at once: each is the run it would be alone, and what one meets is no affair of the others."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import TINY, asked, make_data, metrics, short_envs

from datasets.errors import SemoreError
from datasets.files import exclusive_lock, read_json
from datasets.settings import run_command
from train import online, seeds
from train import run as run_module
from train.__main__ import many
from train.run import train
from train.seeds import runs_of, train_seeds
from train.settings import TrainSettings

pytestmark = pytest.mark.filterwarnings("ignore:No complete tensor", "ignore::DeprecationWarning")

KILLED = 3
SCHEDULE = replace(TINY.schedule, updates=8, refresh_every=0, validate_every=0)


def no_export(agent: Any, path: Path, view: Any) -> None:
    path.touch()


def short_one(settings: TrainSettings, gpu: int | None) -> dict[str, Any] | str:
    """In the run's own process: episodes end early, and a certain seed dies as from want of memory."""
    online.make_envs, run_module.export_policy = short_envs, no_export
    if settings.seed == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    return seeds._one(settings, gpu)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    torch.set_num_threads(threads)


def test_each_seed_is_a_run_of_its_own_name(tmp_path):
    settings = replace(TINY, runs=str(tmp_path), seeds=(4, 7), parallel=2, scheduler="local")
    runs = runs_of(settings)
    assert [(run.seed, run.folder) for run in runs] == [(4, tmp_path / "run-seed4"), (7, tmp_path / "run-seed7")]
    same = replace(settings, seeds=(), parallel=0, scheduler="none")
    assert [replace(run, seed=same.seed, run=same.run) for run in runs] == [same, same]
    assert runs_of(replace(settings, run="", method="sac"))[0].folder == tmp_path / "JayWalk-laptop-sac-seed4"


@pytest.mark.slow
def test_seeds_are_the_single_runs_bit_for_bit_and_one_that_dies_stops_nobody(data, tmp_path, monkeypatch, capsys):
    settings = asked(data, tmp_path / "many", schedule=SCHEDULE, seeds=(KILLED, 1, 2), parallel=2)
    with monkeypatch.context() as patch:
        patch.setattr(seeds, "_one", short_one)
        with pytest.raises(SystemExit) as ended:
            run_command(lambda: many(settings))
    assert ended.value.code == 1
    printed = capsys.readouterr()
    assert "1 of 3 runs failed; the same command goes on with them" in printed.err
    assert f"{tmp_path}/many/run-seed{KILLED}: error: BrokenProcessPool" in printed.out
    monkeypatch.setattr(online, "make_envs", short_envs)
    monkeypatch.setattr(run_module, "export_policy", no_export)
    for run in runs_of(settings)[1:]:
        single = replace(run, runs=str(tmp_path / "single"))
        summary, found = train(single), read_json(run.folder / "summary.json")
        assert {**summary, "seconds": 0} == {**found, "seconds": 0}
        assert metrics(single) == metrics(run)
        assert f"{run.folder}: best validation reward" in printed.out
        assert found["weights_sha256"] in printed.out
        assert "transitions admitted" in (run.folder / "train.log").read_text()
        assert train(run) == found  # and it is the run a single command would go on with
    shas = {read_json(run.folder / "summary.json")["weights_sha256"] for run in runs_of(settings)[1:]}
    assert len(shas) == 2


def test_what_the_user_must_mend_is_the_run_s_outcome_and_in_its_log(data, tmp_path):
    (run,) = runs_of(asked(data, tmp_path, seeds=(5,)))
    with exclusive_lock(run.folder / ".lock", "test"):
        outcome = seeds._one(run, None)
    assert "already running as process" in outcome
    assert outcome in (run.folder / "train.log").read_text()


def test_what_nobody_foresaw_leaves_its_traceback_in_the_log(data, tmp_path, monkeypatch):
    (run,) = runs_of(asked(data, tmp_path, seeds=(5,)))
    monkeypatch.setattr(run_module, "train", lambda _: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        seeds._one(run, None)
    assert "ZeroDivisionError" in (run.folder / "train.log").read_text()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no such scheduler file"),
        ('{"addr', "the scheduler file names no address"),
        ('{"address": "tcp://127.0.0.1:9"}', r"Timed out trying to connect to tcp://127\.0\.0\.1:9"),
    ],
)
def test_a_scheduler_that_is_not_there_is_one_error_with_a_remedy(tmp_path, monkeypatch, content, reason):
    monkeypatch.setattr(seeds, "PATIENCE", 0.5)
    if content is not None:
        (tmp_path / "scheduler.json").write_text(content)
    settings = replace(TINY, runs=str(tmp_path), seeds=(1, 2), scheduler=str(tmp_path / "scheduler.json"))
    with pytest.raises(SemoreError, match=rf"scheduler\.json cannot be reached \({reason}.*\); start `dask scheduler`"):
        many(settings)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


@pytest.mark.parametrize("length", [75, 76, 92])
def test_the_fork_server_is_asked_where_the_kernel_takes_its_socket_s_address(tmp_path, monkeypatch, length):
    """Measured on the true thing: a socket bound where multiprocessing would."""
    folder = Path(f"/tmp/{'x' * (length - 5)}")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    inner = folder / "pymp-12345678"
    inner.mkdir(parents=True)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            refused = pytest.raises(OSError, match="AF_UNIX path too long")
            with nullcontext() if length < 76 else refused:
                listener.bind(str(inner / "listener-12345678"))
        assert seeds._sockets_fit() is (length < 76)
    finally:
        shutil.rmtree(folder)


def process_number(_: TrainSettings, __: int | None) -> dict[str, Any]:
    return {"process": os.getpid()}


@pytest.mark.slow
def test_runs_begin_under_a_long_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 92)))
    (tmp_path / ("x" * 92)).mkdir()
    assert seeds._apart(process_number, TINY, None)["process"] != os.getpid()


def test_seeds_without_sense_are_refused_before_any_process_starts(data, tmp_path, monkeypatch):
    monkeypatch.setattr(seeds, "_one", lambda *_: pytest.fail("a run"))
    with pytest.raises(SemoreError, match="unknown reward"):
        many(asked(data, tmp_path, seeds=(1, 2), reward="fast"))


@pytest.mark.slow
def test_seeds_on_a_cluster_are_the_same_runs(data, tmp_path, monkeypatch):
    here = asked(data, tmp_path / "here", schedule=SCHEDULE, seeds=(1, KILLED + 1))
    there = replace(here, runs=str(tmp_path / "there"), scheduler="local")
    monkeypatch.setattr(seeds, "_one", short_one)
    for each in (here, there):
        assert len(list(train_seeds(each))) == 2
    for one, two in zip(runs_of(here), runs_of(there), strict=True):
        summaries = [read_json(run.folder / "summary.json") for run in (one, two)]
        assert summaries[0]["weights_sha256"] == summaries[1]["weights_sha256"]
        assert metrics(one) == metrics(two)
