"""Many seeds at once: each is the run it would be alone, and what one meets is no affair of the others."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from distributed import LocalCluster
from psutil import Process
from tiny_run import TINY, asked, make_data, metrics, shorten

from semore.datasets.atomic_io import exclusive_lock, read_json
from semore.datasets.errors import SemoreError, Stopped
from semore.datasets.run_command import run_command
from semore.train import launch as seeds
from semore.train import run as run_module
from semore.train.__main__ import many
from semore.train.launch import runs_of, train_seeds
from semore.train.run import train
from semore.train.settings import TrainSettings

pytestmark = pytest.mark.filterwarnings("ignore:No complete tensor", "ignore::DeprecationWarning")

KILLED = 3
SCHEDULE = replace(TINY.schedule, updates=8, refresh_every=0, validate_every=0)


def no_export(agent: Any, path: Path, view: Any) -> None:
    path.touch()


def short_one(settings: TrainSettings, share: seeds.Share | None) -> dict[str, Any] | str:
    """In the run's own process: episodes end early, and a certain seed dies as from want of memory."""
    shorten(pytest.MonkeyPatch())
    run_module.export_policy = no_export
    if settings.seed == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    return seeds._one(settings, share)


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
    shorten(monkeypatch)
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


def process_number(_: TrainSettings, __: seeds.Share | None) -> dict[str, Any]:
    return {"process": os.getpid()}


@pytest.mark.slow
def test_runs_begin_under_a_long_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 92)))
    (tmp_path / ("x" * 92)).mkdir()
    assert seeds._Processes(None).run(process_number, TINY, seeds._Gpus(0, 1))["process"] != os.getpid()


def test_seeds_without_sense_are_refused_before_any_process_starts(data, tmp_path, monkeypatch):
    monkeypatch.setattr(seeds, "_one", lambda *_: pytest.fail("a run"))
    with pytest.raises(SemoreError, match="unknown reward"):
        many(asked(data, tmp_path, seeds=(1, 2), reward="fast"))


@pytest.mark.parametrize(
    ("visible", "gpu", "name"),
    [(None, 1, "1"), ("", 1, "1"), ("5,7", 1, "7"), ("7", 0, "7"), ("GPU-8ab, GPU-9cd", 1, "GPU-9cd")],
)
def test_a_run_gets_one_of_the_gpus_that_the_user_lets_us_see(data, tmp_path, monkeypatch, visible, gpu, name):
    (run,) = runs_of(asked(data, tmp_path, seeds=(5,)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(run_module, "train", lambda _: {"seen": os.environ.get("CUDA_VISIBLE_DEVICES")})
    assert seeds._one(run, seeds.Share(gpu, 1)) == {"seen": name}


def test_runs_are_dealt_over_gpus_or_the_cores_that_are_ours(data, tmp_path, monkeypatch):
    at_once = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, workers: int) -> None:
            at_once.append(workers)
            super().__init__(workers)

    monkeypatch.setattr(seeds, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(seeds._Processes, "run", noted_run)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(3, 9)))  # six, of however many there are
    settings = asked(data, tmp_path, seeds=(1, 2, 3), threads=2, device="auto")

    def shares(parallel: int = 0) -> list[tuple[int, int] | None]:
        told = {run.seed: outcome for run, outcome in train_seeds(replace(settings, parallel=parallel))}
        return [told[seed]["share"] for seed in settings.seeds]

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [share.runs for share in shares()] == [1, 1, 1]
    assert [share.runs for share in shares(parallel=3)] == [2, 2, 2]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert shares() == [None, None, None]
    assert at_once == [2, 3, 3]


def noted_run(self: seeds._Processes, task: seeds.Task, run: TrainSettings, gpus: seeds._Gpus) -> dict[str, Any]:
    with gpus.one() as share:
        return {"share": share}


def test_runs_that_begin_get_the_gpu_on_which_fewest_are_under_way():
    """Four at once on two GPUs; then the two of one of them end before the others."""
    gpus = seeds._Gpus(2, 4)
    with gpus.one() as first, gpus.one() as second:
        assert (first, second) == ((0, 2), (1, 2))
        with gpus.one() as third, gpus.one() as fourth:
            assert (third.gpu, fourth.gpu) == (0, 1)
        with gpus.one() as fifth:
            assert fifth.gpu == 0
    ended = ExitStack()
    gone, left = ended.enter_context(gpus.one()), ExitStack()
    stays = left.enter_context(gpus.one())
    ended.close()
    with gpus.one() as again:
        assert (gone.gpu, stays.gpu, again.gpu) == (0, 1, 0)
    left.close()


def test_runs_that_share_a_gpu_keep_to_their_part_of_its_memory(data, tmp_path, monkeypatch):
    (run,) = runs_of(asked(data, tmp_path, seeds=(5,), device="auto"))
    parts = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(run_module, "train", lambda _: {})
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", parts.append)
    seeds._one(run, seeds.Share(0, 1))
    seeds._one(run, seeds.Share(0, 3))
    seeds._one(replace(run, device="cpu"), seeds.Share(0, 3))
    assert parts == [pytest.approx(0.3)]


@pytest.mark.slow
@pytest.mark.timeout(900)  # six trainings in processes of their own, on a machine that may be busy
def test_seeds_on_a_cluster_are_the_same_runs(data, tmp_path, monkeypatch):
    """Also where one worker trains both at once."""
    here = asked(data, tmp_path / "here", schedule=SCHEDULE, seeds=(1, KILLED + 1))
    monkeypatch.setattr(seeds, "_one", short_one)
    assert len(list(train_seeds(here))) == 2
    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=":0") as shared:
        for place, scheduler in (("own", "local"), ("shared", shared.scheduler_address)):
            there = replace(here, runs=str(tmp_path / place), scheduler=scheduler)
            assert len(list(train_seeds(there))) == 2
            for one, two in zip(runs_of(here), runs_of(there), strict=True):
                summaries = [read_json(run.folder / "summary.json") for run in (one, two)]
                assert summaries[0]["weights_sha256"] == summaries[1]["weights_sha256"]
                assert metrics(one) == metrics(two)
                told = (two.folder / "train.log").read_text()
                assert [run.seed for run in runs_of(there) if run.folder.name in told] == [two.seed]


@pytest.mark.slow
@pytest.mark.parametrize("everybody", [False, True], ids=["the command alone", "every process, as SLURM does"])
def test_signalled_seeds_save_and_go_on_to_the_same_weights(data, tmp_path, monkeypatch, capsys, everybody):
    """Two are under way and one waits; the signal comes once both have done an update."""
    longer = replace(SCHEDULE, updates=60, log_every=1)
    settings = asked(data, tmp_path / "many", schedule=longer, seeds=(1, 2, KILLED + 1), parallel=2)
    runs = runs_of(settings)
    monkeypatch.setattr(seeds, "_one", short_one)

    def signal_them() -> None:
        while not all((run.folder / "metrics.csv").exists() and len(metrics(run)) > 1 for run in runs[:2]):
            time.sleep(0.05)
        me = Process()
        if everybody:
            servers = [each for each in me.children() if "forkserver" in " ".join(each.cmdline())]
            for process in [each for server in servers for each in [server, *server.children()]]:
                process.send_signal(signal.SIGUSR1)
        me.send_signal(signal.SIGUSR1)

    sender = Thread(target=signal_them)
    sender.start()
    with pytest.raises(Stopped, match="stopped with 3 of 3 runs unfinished; the same command goes on with them"):
        list(train_seeds(settings))
    sender.join()
    printed = capsys.readouterr().out
    for run in runs[:2]:
        assert f"{run.folder}: saved at update " in printed
        assert (run.folder / "last.ckpt").exists()
    assert f"{runs[2].folder}: not begun" in printed
    outcomes = {run.seed: outcome for run, outcome in train_seeds(settings)}
    shorten(monkeypatch)
    monkeypatch.setattr(run_module, "export_policy", no_export)
    alone = train(replace(runs[0], runs=str(tmp_path / "alone")))
    assert outcomes[1]["weights_sha256"] == alone["weights_sha256"]
    assert all(isinstance(outcome, dict) for outcome in outcomes.values())
