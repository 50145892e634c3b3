"""Exact resume: wherever a run ends, the same command makes of it the run that nobody disturbed, bit for bit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import TINY, Crash, asked, assert_same_run, crash, interrupted, know, make_data, run_whole

from semore.annotate.episodes import EpisodeAnnotator
from semore.annotate.interfaces import Producers
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.store import Rollouts
from semore.train import checkpoint
from semore.train import run as run_module
from semore.train.agent import Agent
from semore.train.checkpoint import Checkpoint, read_checkpoint
from semore.train.metrics import read_metrics
from semore.train.replay import SelectiveReplay
from semore.train.run import train
from semore.train.settings import TrainSettings

pytestmark = [
    pytest.mark.filterwarnings("ignore:No complete tensor", "ignore::DeprecationWarning"),
    pytest.mark.usefixtures("short_runs", "no_export"),
]

HARD: dict[str, Any] = {
    # The pool evicts, the filter is at work all along, and of a refresh only some frames are annotated.
    "replay": replace(TINY.replay, pool_frames=100, filter_steps=400),
    "schedule": replace(TINY.schedule, refresh_frames=7),
}


def load_and_draw(producers: Producers) -> None:
    """As weights that are initialised before they are read."""
    torch.rand(7)


@pytest.fixture(autouse=True)
def _loading_draws(monkeypatch):
    monkeypatch.setattr(Producers, "load", load_and_draw)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def data(recorded, tmp_path) -> Path:
    """A copy, so that no other run has annotated what this one will record."""
    return Path(shutil.copytree(recorded, tmp_path / "data"))


@pytest.fixture(scope="module")
def whole(recorded, tmp_path_factory) -> tuple[TrainSettings, dict[str, Any]]:
    root = tmp_path_factory.mktemp("whole")
    shutil.copytree(recorded, root / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Producers, "load", load_and_draw)
        return run_whole(asked(root / "data", root, **HARD))


def test_the_run_is_hard_to_resume(whole):
    """What the tests below go through: episodes forgotten, decisions dropped late, frames without knowledge."""
    last = read_checkpoint(whole[0].folder / "last.ckpt", {})["replay"]
    assert len(last["episodes"]) < 4 + 3
    rows = {(update, name): value for update, name, value in read_metrics(whole[0].folder / "metrics.csv")}
    for update in (20, 40):
        assert rows[update, "replay/delta"] > 0.5
        assert rows[update, "replay/dropped"] > 0
        assert 0 < rows[update, "replay/unjudged_share"] < 1
        assert 0 < rows[update, "replay/known_share"] < 1
        assert rows[update, "replay/student_share"] > 1 - rows[update, "replay/known_share"]
        assert rows[update, "replay/staleness"] > 0
    assert rows[20, "refresh/annotated"] == 7
    assert rows[40, "replay/share_trained"] > 0.2


CHILD = """
import os, signal, sys
sys.path[:0] = {tests!r}
from pathlib import Path
from test_train_resume import HARD, Producers, asked, load_and_draw, pytest, train
from semore.train.validation import Validation
from tiny_run import shorten
shorten(pytest.MonkeyPatch())
Producers.load, validate = load_and_draw, Validation.after

def killing(self, update):
    if update == 30:
        os.kill(os.getpid(), signal.SIGKILL)
    return validate(self, update)

Validation.after = killing
train(asked(Path(sys.argv[1]), Path(sys.argv[2]), **HARD))
"""


def test_a_killed_run_resumes_to_the_same_weights(data, whole, tmp_path):
    """SIGKILL at update 30, with a refresh recorded that no checkpoint knows of, and a torn last line of metrics."""
    settings = asked(data, tmp_path, **HARD)
    command = [
        sys.executable,
        "-c",
        CHILD.format(tests=[str(Path(__file__).parent), str(Path(__file__).parents[1])]),
        str(data),
        str(tmp_path),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    state = read_checkpoint(settings.folder / "last.ckpt", {})
    assert state["agent"]["updates"] == 20
    assert len(Rollouts(settings.folder / "refresh.zarr").names()) == 3 == len(state["refresh"]["recorded"]) + 1
    metrics = settings.folder / "metrics.csv"
    assert max(update for update, _, _ in read_metrics(metrics)) == 30
    metrics.write_text(metrics.read_text() + "29,loss/q,0.1\n2")
    assert not (settings.folder / "summary.json").exists()
    assert_same_run(settings, train(settings), whole)


def at_call(target: object, name: str, number: int):
    """Crash in call `number` of target.name, before it does anything."""
    original, calls = getattr(target, name), []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            raise Crash
        return original(*args, **kwargs)

    return target, name, counted


def test_a_run_that_ends_while_its_pool_fills_starts_anew(data, whole, tmp_path):
    settings = asked(data, tmp_path, **HARD)
    interrupted(settings, *at_call(SelectiveReplay, "add", 3))
    assert not (settings.folder / "last.ckpt").exists()
    assert_same_run(settings, train(settings), whole)


@pytest.mark.slow
@pytest.mark.parametrize("update", [5, 30])
def test_a_run_that_ends_in_an_update_resumes_to_the_same_weights(data, whole, tmp_path, update):
    settings = asked(data, tmp_path, **HARD)
    interrupted(settings, *at_call(Agent, "update", update))
    assert (settings.folder / "last.ckpt").exists() == (update > 10)
    assert_same_run(settings, train(settings), whole)


@pytest.mark.parametrize(
    "others", [pytest.param(False, marks=pytest.mark.slow, id="alone"), pytest.param(True, id="with others annotating")]
)
def test_a_run_that_ends_between_recording_and_annotating(data, whole, tmp_path, others):
    settings = asked(data, tmp_path, **HARD)
    interrupted(settings, *at_call(EpisodeAnnotator, "__call__", 2))
    assert len(Rollouts(settings.folder / "refresh.zarr").names()) == 2
    if others:  # every frame of them, and every frame of the recorded rollouts that had no knowledge
        know(data, settings.folder / "refresh.zarr", data / "rollouts" / "tiny.zarr", off_decisions=True)
    assert_same_run(settings, train(settings), whole)


def test_a_run_that_ends_between_annotating_and_its_checkpoint(data, whole, tmp_path):
    settings = asked(data, tmp_path, **HARD)
    interrupted(settings, *at_call(Checkpoint, "save", 3))
    assert read_checkpoint(settings.folder / "last.ckpt", {})["agent"]["updates"] == 15
    know(data, settings.folder / "refresh.zarr", data / "rollouts" / "tiny.zarr", off_decisions=True)
    assert_same_run(settings, train(settings), whole)


@pytest.mark.slow
def test_a_run_that_ends_between_its_best_and_its_last_checkpoint(data, whole, tmp_path):
    """Twice in a row, the second time over what the first resume left."""
    settings = asked(data, tmp_path, **HARD)
    assert whole[1]["best_update"] >= 15
    for _ in range(2):
        original = checkpoint.save_checkpoint

        def torn(path: Path, content: Any, original=original) -> None:
            if path.name == "last.ckpt" and (settings.folder / "best.ckpt").exists():
                raise Crash
            original(path, content)

        interrupted(settings, checkpoint, "save_checkpoint", torn)
    assert_same_run(settings, train(settings), whole)


def test_a_checkpoint_of_a_gpu_goes_on_here_and_says_so(data, whole, tmp_path, capsys):
    """A checkpoint of this CPU, with what a GPU's has more: its random state, and an Adam that counts on the GPU."""
    settings = asked(data, tmp_path, **HARD)
    interrupted(settings, *at_call(Checkpoint, "save", 3))
    state = read_checkpoint(settings.folder / "last.ckpt", {})
    state["random"]["cuda"] = [torch.zeros(16, dtype=torch.uint8)]
    for optimizer in state["optimizers"]:
        for group in optimizer["param_groups"]:
            group["capturable"] = True
    checkpoint.save_checkpoint(settings.folder / "last.ckpt", state)
    assert_same_run(settings, train(settings), whole)
    assert "the checkpoint was written on a GPU and this is a CPU" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_killed_after_its_last_update_only_writes_what_is_missing(data, whole, tmp_path, monkeypatch):
    settings = asked(data, tmp_path, **HARD)
    interrupted(settings, run_module, "export_policy", crash)
    assert not (settings.folder / "policy.pt2").exists()
    exported: list[dict[str, Any]] = []
    monkeypatch.setattr(run_module, "export_policy", lambda agent, path, view: (exported.append(view), path.touch()))
    monkeypatch.setattr(Agent, "update", lambda *_, **__: pytest.fail("an update too many"))
    assert_same_run(settings, train(settings), whole)
    assert [view["update"] for view in exported] == [whole[1]["best_update"]]


@pytest.mark.slow
def test_masks_that_changed_since_the_checkpoint_end_the_run_with_an_error(data, tmp_path):
    settings = asked(data, tmp_path, **HARD)
    interrupted(settings, *at_call(Agent, "update", 30))
    newest = max((data / "knowledge" / "masks").glob("*.h5"), key=lambda shard: shard.stat().st_mtime_ns)
    newest.unlink()
    with pytest.raises(SemoreError, match="cached masks are no longer those of the checkpoint"):
        train(settings)


@pytest.mark.slow
def test_a_run_with_finer_masks_and_a_latent_of_their_own_resumes_to_the_same_weights(recorded, tmp_path):
    """Interrupted in an update, with all that belongs to that form at work."""
    encoder = replace(TINY.agent.encoder, mask="own", mask_side=32, mask_path="concat", fusion="concat")
    agent = replace(TINY.agent, encoder=encoder, auxiliaries=(*TINY.agent.auxiliaries, "semantic_features"))
    first, second = (
        asked(Path(shutil.copytree(recorded, tmp_path / name / "data")), tmp_path / name, agent=agent, **HARD)
        for name in ("first", "second")
    )
    undisturbed = run_whole(first)
    interrupted(second, *at_call(Agent, "update", 30))
    assert (second.folder / "last.ckpt").exists()
    assert_same_run(second, train(second), undisturbed)
    quality = undisturbed[1]["student_mask"]
    assert quality is None or 0.0 <= quality["student_auc"] <= 1.0
    shares = [value for _, name, value in read_metrics(second.folder / "metrics.csv") if name == "replay/student_share"]
    assert set(shares) == {1.0}
