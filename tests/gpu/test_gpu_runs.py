"""Whole runs on a GPU: resumed to the same weights, moved between CPU and GPU, two at once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from test_train_resume import HARD, at_call
from tiny_run import asked, assert_same_run, interrupted, make_data, run_whole, shorten

from semore.datasets.atomic_io import read_json
from semore.train import launch
from semore.train.checkpoint import Checkpoint, read_checkpoint
from semore.train.launch import runs_of, train_seeds
from semore.train.metrics import read_metrics
from semore.train.run import train
from semore.train.settings import TrainSettings

pytestmark = pytest.mark.filterwarnings("ignore:No complete tensor", "ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def _short_episodes(monkeypatch):
    shorten(monkeypatch)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def data(recorded, tmp_path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "data"))


@pytest.mark.parametrize("capture", [True, False])
def test_an_interrupted_run_resumes_to_the_same_weights(recorded, data, tmp_path, capture):
    """Recorded updates, and those done as they stand."""
    changes = {**HARD, "device": "cuda", "capture": capture}
    shutil.copytree(recorded, tmp_path / "whole" / "data")
    whole = run_whole(asked(tmp_path / "whole" / "data", tmp_path / "whole", **changes))
    settings = asked(data, tmp_path, **changes)
    interrupted(settings, *at_call(Checkpoint, "save", 3))
    assert read_checkpoint(settings.folder / "last.ckpt", {})["random"]["cuda"]
    assert_same_run(settings, train(settings), whole)
    names = {name for _, name, _ in read_metrics(settings.folder / "metrics.csv")}
    assert "speed/gpu_memory_gib" in names


@pytest.mark.parametrize(("first", "then"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_run_goes_on_where_it_did_not_begin(data, tmp_path, capsys, first, then):
    interrupted(asked(data, tmp_path, **HARD, device=first), *at_call(Checkpoint, "save", 3))
    summary = train(asked(data, tmp_path, **HARD, device=then))
    assert summary["updates"] == 40
    assert "draws other numbers" in capsys.readouterr().err


def short_one(settings: TrainSettings, share: launch.Share | None) -> dict[str, Any] | str:
    """In the run's own process."""
    shorten(pytest.MonkeyPatch())
    return launch._one(settings, share)


def test_two_seeds_at_once_on_one_gpu_end_with_summaries_of_their_own(data, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    settings = asked(data, tmp_path, device="cuda", seeds=(1, 2), parallel=2)
    monkeypatch.setattr(launch, "_one", short_one)
    outcomes = {run.seed: outcome for run, outcome in train_seeds(settings)}
    for run in runs_of(settings):
        assert outcomes[run.seed] == read_json(run.folder / "summary.json")
        assert "on the GPU" in (run.folder / "train.log").read_text()
    assert outcomes[1]["weights_sha256"] != outcomes[2]["weights_sha256"]
