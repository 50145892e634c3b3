"""SIGTERM and SIGUSR1 end a training politely, also one that SLURM has started, and what SLURM says is not obeyed."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lightning_utilities.core.rank_zero import rank_zero_only
from tiny_run import asked, assert_same_run, make_data, run_whole

from semore.datasets.errors import Stopped
from semore.datasets.run_command import run_command
from semore.train.actor import Actor
from semore.train.agent import Agent
from semore.train.checkpoint import read_checkpoint
from semore.train.replay import SelectiveReplay
from semore.train.run import train
from semore.train.settings import TrainSettings

pytestmark = [
    pytest.mark.filterwarnings("ignore:No complete tensor", "ignore::DeprecationWarning"),
    pytest.mark.usefixtures("short_runs", "no_export"),
]

ROOT = Path(__file__).parents[2]
FOLDERS = [str(ROOT / "tests" / "train"), str(ROOT / "tests")]
SECOND_TASK = {
    "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4", "SLURM_PROCID": "1", "SLURM_LOCALID": "1",
    "SLURM_NODEID": "0", "SLURM_NNODES": "1", "SLURM_NODELIST": "here",
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> tuple[TrainSettings, dict[str, Any]]:
    return run_whole(asked(data, tmp_path_factory.mktemp("runs")))


@pytest.fixture
def _slurm(monkeypatch, tmp_path):
    """As a process that `srun` has started, in a folder where an installed srun is found, as Lightning sees it."""
    for name, value in SECOND_TASK.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # what Lightning makes of SLURM_PROCID when it is imported
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def signalled(monkeypatch: pytest.MonkeyPatch, target: object, name: str, number: int, sent: signal.Signals) -> None:
    """Send a signal to this process in call `number` of target.name, before it does anything."""
    original, calls = getattr(target, name), []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), sent)
        return original(*args, **kwargs)

    monkeypatch.setattr(target, name, counted)


@pytest.mark.usefixtures("_slurm")
@pytest.mark.parametrize(
    ("sent", "target", "name", "call", "update"),
    [
        pytest.param(signal.SIGUSR1, Agent, "update", 17, 17, id="SIGUSR1 in an update"),
        pytest.param(signal.SIGTERM, Actor, "_refresh", 2, 20, id="SIGTERM in a refresh"),
    ],
)
def test_a_signalled_run_saves_and_resumes_to_the_same_weights(
    data, whole, tmp_path, monkeypatch, recwarn, sent, target, name, call, update
):
    settings = asked(data, tmp_path / "runs")
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    with monkeypatch.context() as patch:
        signalled(patch, target, name, call, sent)
        with pytest.raises(Stopped, match=f"^saved at update {update}; the same command goes on$"):
            train(settings)
    assert read_checkpoint(settings.folder / "last.ckpt", {})["agent"]["updates"] == update
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == handlers
    Path("hpc_ckpt_1.ckpt").write_text("of another run of this folder, by an earlier version")
    assert_same_run(settings, train(settings), whole)
    assert [entry.name for entry in Path.cwd().iterdir()] == ["hpc_ckpt_1.ckpt"]
    assert not [each for each in recwarn if "srun" in str(each.message)]
    written = [(run.folder / "tensorboard").iterdir() for run in (settings, whole[0])]
    ours, theirs = (sum(file.stat().st_size for file in files) for files in written)
    assert ours > theirs / 2 > 1000  # nobody's logger was silenced


def test_a_signal_before_the_first_update_has_nothing_to_save(data, tmp_path, monkeypatch):
    settings = asked(data, tmp_path)
    signalled(monkeypatch, SelectiveReplay, "add", 2, signal.SIGUSR1)
    with pytest.raises(Stopped, match="nothing new to save, at update 0; the same command goes on"):
        train(settings)
    assert not (settings.folder / "last.ckpt").exists()


def test_a_polite_end_has_an_exit_code_of_its_own(capsys):
    def stopped() -> None:
        raise Stopped("saved at update 3; the same command goes on")

    with pytest.raises(SystemExit) as ended:
        run_command(stopped)
    assert ended.value.code == 75
    assert capsys.readouterr().err == "saved at update 3; the same command goes on\n"


SECOND = """
import os, signal, time
from semore.train.stopping import polite_end
with polite_end() as stop:
    os.kill(os.getpid(), signal.SIGUSR1)
    print(stop.asked, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("still here", flush=True)
"""


def test_a_second_signal_ends_at_once():
    done = subprocess.run([sys.executable, "-c", SECOND], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "True\n")


@pytest.mark.parametrize(
    "module",
    [
        "semore.train.__main__",
        "semore.evaluate.sweep.__main__",
        "study.__main__",
        "semore.evaluate.counterfactual.__main__",
    ],
)
def test_only_the_first_task_of_a_step_trains(monkeypatch, capsys, module):
    main = importlib.import_module(module).main
    monkeypatch.setattr(sys, "argv", [module, "--runs", "/nowhere"])
    for name, value in SECOND_TASK.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert ended.value.code == 0  # an error could make SLURM end the task that trains
    said = capsys.readouterr().err
    assert "task 1 of the 4" in said
    assert "--ntasks=1" in said


def test_lightning_is_started_in_one_place_only():
    sources = [path for folder in ("train", "evaluate", "annotate", "perf") for path in (ROOT / folder).rglob("*.py")]
    assert [path.name for path in sources if "lightning.Trainer(" in path.read_text(encoding="utf-8")] == [
        "lightning_trainer.py"
    ]


CHILD = """
import os, signal, sys
sys.path[:0] = {tests!r}
from test_train_stopping import *
from tiny_run import shorten
from semore.train import run as run_module
shorten(pytest.MonkeyPatch())
update = Agent.update

def signalling(self, *arguments, **named):
    if self.updates == 11:
        os.kill(os.getpid(), signal.SIGUSR1)
    return update(self, *arguments, **named)

Agent.update = signalling
run_module.export_policy = lambda agent, path, view: path.touch()
run_command(lambda: print(train(asked(Path(sys.argv[1]), Path(sys.argv[2])))["weights_sha256"]))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("_slurm")
def test_processes_that_slurm_starts_and_warns(data, whole, tmp_path):
    command = [
        sys.executable,
        "-c",
        CHILD.format(tests=FOLDERS),
        str(data),
        str(tmp_path / "runs"),
    ]
    ends = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        ends.append((done.returncode, done.stdout.splitlines()[-1]))
        assert "srun" not in done.stderr
        assert "Traceback" not in done.stderr
    assert [code for code, _ in ends] == [75, 0]
    assert ends[1][1] == whole[1]["weights_sha256"]
    assert not list(Path.cwd().iterdir())
