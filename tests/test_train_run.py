"""Whole training runs, seconds long: what they leave behind, that they repeat, resume after a kill, and refuse."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from annotate.engine import annotate_rollouts, make_annotator
from annotate.producers import PRIVILEGED, make_producers
from collect.behaviour import load_policy, make_policy
from collect.driving import DrivingEnv
from collect.recorder import record
from datasets.errors import SemoreError
from datasets.files import digest16, exclusive_lock, read_json
from datasets.frame_pool import DRIVERS, RANDOM
from datasets.knowledge import KnowledgeCache
from datasets.rollouts import Rollouts
from datasets.schema import SEED_SPLITS
from train import online
from train import run as run_module
from train.agent import Agent
from train.agent_settings import AgentSettings
from train.checkpoint import read_checkpoint, weights_digest
from train.encoder import EncoderSettings
from train.log import read_metrics
from train.replay import ReplaySettings
from train.run import train
from train.settings import ScheduleSettings, TrainSettings
from train.untrained import run_settings, untrained_policy

pytestmark = pytest.mark.filterwarnings("ignore:No complete tensor", "ignore::DeprecationWarning")

STEPS = 40
TINY = TrainSettings(
    rollouts="tiny",
    run="run",
    threads=1,
    device="cpu",
    agent=AgentSettings(EncoderSettings(size=32, channels=(4, 8, 8, 8), heads=2, latent=8), hidden=16, model_hidden=16),
    replay=ReplaySettings(pool_frames=400, filter_steps=60, random_steps=20),
    schedule=ScheduleSettings(
        updates=40, offline_updates=10, batch=8, cloning_decay=20, refresh_every=10, refresh_episodes=1,
        validate_every=15, validate_episodes=1, log_every=4,
    ),
)  # fmt: skip
# Checkpoints fall between log entries, so that half-summed losses must be saved too.
REFRESHES, VALIDATIONS = [10, 20, 30], [15, 30, 40]
FILES = {
    *(".lock", "settings.json", "metrics.csv", "last.ckpt", "policy.pt2", "summary.json", "tensorboard"),
    *("refresh.zarr", "knowledge_used.npy"),
}


class _Crash(RuntimeError):
    pass


def short_envs(settings: TrainSettings, count: int) -> list[DrivingEnv]:
    """As train.online.make_envs, but an episode ends after 40 simulator steps."""
    size, skip = settings.agent.encoder.size, settings.frame_skip
    return [DrivingEnv(settings.scenario, size=size, frame_skip=skip, max_episode_steps=STEPS) for _ in range(count)]


@pytest.fixture(autouse=True)
def _short_episodes(monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr(online, "make_envs", short_envs)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Five short recorded episodes, annotated: noisy driver and wanderer to train on, one to validate the mask."""
    root = tmp_path_factory.mktemp("data")
    rollouts = Rollouts(root / "rollouts" / "tiny.zarr")
    rollouts.create()
    env = DrivingEnv("JayWalk", frame_skip=2, max_episode_steps=STEPS)
    train_seed, held_out = SEED_SPLITS["train"].start, SEED_SPLITS["validation"].start
    for policy, seeds in (
        ("noisy_driver", [train_seed, train_seed + 1]),
        ("wander", [train_seed + 2, train_seed + 3]),
        ("noisy_driver", [held_out]),
    ):
        record(rollouts, [env], make_policy(policy), seeds, {"policy": policy, "action_repeat": 2})
    env.close()
    cache = KnowledgeCache(root / "knowledge")
    annotate_rollouts([rollouts.path], cache, "privileged", make_producers(PRIVILEGED), quiet=True, recipe=PRIVILEGED)
    return root


def asked(data: Path, runs: Path, **changes: Any) -> TrainSettings:
    return replace(TINY, data=str(data), runs=str(runs), **{"knowledge": "privileged"} | changes)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> tuple[TrainSettings, dict[str, Any]]:
    """A run nobody disturbed, and its summary."""
    settings = asked(data, tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(online, "make_envs", short_envs)
        return settings, train(settings)


@pytest.fixture
def _no_export(monkeypatch):
    """An empty policy file instead of the export, which takes longer than the rest of these runs."""
    monkeypatch.setattr(run_module, "export_policy", lambda agent, path, view: path.touch())


def outcome(summary: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in summary.items() if key != "seconds"}


def assert_same_run(settings: TrainSettings, summary: dict[str, Any], whole) -> None:
    """Same weights, same summary, same rows of metrics in the same order, none twice."""
    assert summary["weights_sha256"] == whole[1]["weights_sha256"]
    assert outcome(summary) == outcome(whole[1])
    assert (settings.folder / "metrics.csv").read_text() == (whole[0].folder / "metrics.csv").read_text()
    names = [Rollouts(each.folder / "refresh.zarr").names() for each in (settings, whole[0])]
    assert names[0] == names[1]
    assert {entry.name for entry in settings.folder.iterdir()} == FILES


def test_a_run_leaves_everything_it_should(whole):
    settings, summary = whole
    assert {entry.name for entry in settings.folder.iterdir()} == FILES
    assert summary == read_json(settings.folder / "summary.json")
    assert summary["updates"] == 40
    assert summary["best_update"] in VALIDATIONS
    assert list((settings.folder / "tensorboard").glob("events.out.tfevents.*"))
    saved = read_json(settings.folder / "settings.json")
    assert saved["settings"]["agent"]["encoder"]["channels"] == [4, 8, 8, 8]
    assert saved["identity"]["rollouts_fingerprint"] == summary["rollouts"]
    used = np.load(settings.folder / "knowledge_used.npy")
    assert used.shape[1:] == (16,)
    assert len(used) > 100
    assert summary["knowledge"] == digest16(used.tobytes()).hex()
    refreshed = Rollouts(settings.folder / "refresh.zarr")
    assert len(refreshed.names()) == len(REFRESHES)
    seeds = [episode.attributes["seed"] for episode in refreshed.episodes()]
    assert seeds == [online.REFRESH_SEEDS + index for index in range(3)]
    # Neither a driver to imitate nor one of the method's initial random steps.
    assert not {episode.attributes["policy"] for episode in refreshed.episodes()} & {*DRIVERS, *RANDOM}


def test_metrics_are_tidy(whole):
    rows = list(read_metrics(whole[0].folder / "metrics.csv"))
    lines = (whole[0].folder / "metrics.csv").read_text().splitlines()
    assert lines[0] == "update,metric,value"
    assert len(lines) == len(rows) + 1
    assert max(Counter((update, name) for update, name, _ in rows).values()) == 1
    assert [update for update, _, _ in rows] == sorted(update for update, _, _ in rows)
    at: dict[str, list[int]] = {}
    for update, name, value in rows:
        assert np.isfinite(value), name
        at.setdefault(name, []).append(update)
    logged = list(range(4, 41, 4))
    for name in ("loss/q", "loss/transition", "loss/reward", "loss/semantic", "loss/actor", "health/student_std"):
        assert at[name] == logged, name
    assert at["refresh/steps"] == REFRESHES
    assert at["validation/reward"] == VALIDATIONS
    values = {(update, name): value for update, name, value in rows}
    assert values[40, "replay/known_share"] == 1.0  # refreshed frames were annotated before they were used
    grown = [values[update, "replay/frames"] for update in logged]
    assert grown[0] == grown[1] < grown[2] == grown[3] == grown[4] < grown[5]
    assert values[40, "replay/delta"] == 0.0
    best = max((values[update, "validation/reward"], -update) for update in VALIDATIONS)
    assert (whole[1]["best_validation_reward"], -whole[1]["best_update"]) == best


def test_last_checkpoint_and_exported_policy_hold_the_weights_they_claim(whole):
    settings, summary = whole
    state = read_checkpoint(settings.folder / "last.ckpt")
    agent = Agent(settings.agent)
    agent.load_state_dict(state["agent"]["weights"])
    assert weights_digest(agent) == summary["weights_sha256"]
    agent.load_state_dict(state["course"]["best_weights"])
    observations = np.random.default_rng(0).integers(0, 256, (3, 9, 32, 32), np.uint8)
    policy = load_policy(settings.folder)
    with torch.no_grad():
        expected = torch.tanh(agent(torch.from_numpy(observations))[0])
    np.testing.assert_allclose(policy.act(range(3), observations, [{}] * 3), expected, atol=1e-5)
    view = {"size": 32, "stack": 3, "frame_skip": 2, "scenario": "JayWalk", "weather": "", "reward": "published"}
    assert policy.view == {**view, "update": summary["best_update"]}


@pytest.mark.usefixtures("_no_export")
def test_the_same_seed_gives_the_same_weights_and_another_one_others(data, whole, tmp_path):
    again = asked(data, tmp_path)
    torch.manual_seed(12345)  # whatever went on before in this process
    assert_same_run(again, train(again), whole)
    other = asked(data, tmp_path, run="other", seed=2)
    assert train(other)["weights_sha256"] != whole[1]["weights_sha256"]


def test_a_finished_run_is_not_trained_again(whole, monkeypatch, capsys):
    settings, summary = whole
    times = {path: path.stat().st_mtime_ns for path in settings.folder.iterdir() if path.name != ".lock"}
    monkeypatch.setattr(Agent, "update", lambda *_: pytest.fail("an update of a finished run"))
    assert train(settings) == summary
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_the_untrained_row_is_the_network_before_its_first_update(data, tmp_path, monkeypatch):
    settings, first = asked(data, tmp_path, seed=5), []

    def stop(self, batch, weights):
        first.append(weights_digest(self))
        raise _Crash

    monkeypatch.setattr(Agent, "update", stop)
    with pytest.raises(_Crash):
        train(settings)
    assert run_settings(settings.folder) == settings
    torch.manual_seed(settings.seed)
    agent = Agent(settings.agent)
    assert [weights_digest(agent)] == first
    torch.manual_seed(999)
    observations = np.random.default_rng(0).integers(0, 256, (2, 9, 32, 32), np.uint8)
    found = [untrained_policy(settings.folder).act([0, 1], observations, [{}] * 2) for _ in range(2)]
    with torch.no_grad():
        expected = torch.tanh(agent(torch.from_numpy(observations))[0]).numpy()
    assert np.array_equal(found[0], expected)
    assert np.array_equal(found[1], expected)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seed": 7}, "seed 1 → 7"),
        ({"reward": "safety"}, "reward 'published' → 'safety'"),
        ({"schedule": replace(TINY.schedule, updates=41)}, r"schedule\.updates 40 → 41"),
        ({"agent": replace(TINY.agent, gamma=0.5)}, r"agent\.gamma 0\.99 → 0\.5"),
    ],
)
def test_other_settings_need_another_run(whole, changes, key):
    settings = replace(whole[0], **changes)
    with pytest.raises(SemoreError, match=key) as caught:
        train(settings)
    assert "--run NAME" in str(caught.value)
    assert set(str(caught.value).split("(")[1].split()) & {"run", "threads", "device"} == set()


def test_other_rollouts_need_another_run(data, whole, tmp_path):
    fewer = tmp_path / "rollouts" / "tiny.zarr"
    shutil.copytree(data / "rollouts" / "tiny.zarr", fewer)
    shutil.rmtree(next(path for path in sorted(fewer.iterdir()) if path.is_dir()))
    with pytest.raises(SemoreError, match="rollouts_fingerprint"):
        train(replace(whole[0], data=str(tmp_path)))


CHILD = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_train_run import asked, online, short_envs, train
online.make_envs = short_envs
drive, calls = online.Validation.drive, []

def killing(self, agent):
    calls.append(agent.updates)
    if agent.updates == 30:
        os.kill(os.getpid(), signal.SIGKILL)
    return drive(self, agent)

online.Validation.drive = killing
train(asked(Path(sys.argv[1]), Path(sys.argv[2])))
"""


@pytest.mark.usefixtures("_no_export")
def test_a_killed_run_resumes_to_the_same_weights(data, whole, tmp_path):
    """SIGKILL at update 30, with a refresh recorded that no checkpoint knows of, and a torn last line of metrics."""
    settings = asked(data, tmp_path)
    command = [sys.executable, "-c", CHILD.format(tests=str(Path(__file__).parent)), str(data), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    state = read_checkpoint(settings.folder / "last.ckpt")
    assert state["agent"]["updates"] == 20
    assert len(Rollouts(settings.folder / "refresh.zarr").names()) == 3 == len(state["refreshed"]) + 1
    metrics = settings.folder / "metrics.csv"
    assert max(update for update, _, _ in read_metrics(metrics)) == 28
    metrics.write_text(metrics.read_text() + "29,loss/q,0.1\n2")
    assert not (settings.folder / "summary.json").exists()
    assert_same_run(settings, train(settings), whole)


@pytest.mark.usefixtures("_no_export")
@pytest.mark.parametrize("update", [4, 11, 29])
def test_a_run_that_crashes_anywhere_resumes_to_the_same_weights(data, whole, tmp_path, monkeypatch, update):
    settings, original = asked(data, tmp_path), Agent.update

    def crashing(self, batch, weights):
        if self.updates == update:
            raise _Crash
        return original(self, batch, weights)

    with monkeypatch.context() as patch:
        patch.setattr(Agent, "update", crashing)
        with pytest.raises(_Crash):
            train(settings)
    assert (settings.folder / "last.ckpt").exists() == (update > 10)
    assert_same_run(settings, train(settings), whole)


def test_a_run_killed_after_its_last_update_only_writes_what_is_missing(data, whole, tmp_path, monkeypatch):
    settings = asked(data, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "export_policy", lambda *_: (_ for _ in ()).throw(_Crash()))
        with pytest.raises(_Crash):
            train(settings)
    assert not (settings.folder / "policy.pt2").exists()
    monkeypatch.setattr(Agent, "update", lambda *_: pytest.fail("an update too many"))
    assert_same_run(settings, train(settings), whole)
    one, two = (load_policy(each.folder) for each in (settings, whole[0]))
    observations = np.random.default_rng(0).integers(0, 256, (2, 9, 32, 32), np.uint8)
    assert np.array_equal(one.act([0, 1], observations, [{}] * 2), two.act([0, 1], observations, [{}] * 2))


def test_a_second_trainer_is_refused_by_name(data, tmp_path):
    settings = asked(data, tmp_path)
    with exclusive_lock(settings.folder / ".lock", "test"):
        with pytest.raises(SemoreError, match=f"already running as process {os.getpid()}"):
            train(settings)
        assert not (settings.folder / "settings.json").exists()


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_a_torn_checkpoint_is_one_clear_error(whole, tmp_path, damage):
    settings = replace(whole[0], runs=str(tmp_path))
    shutil.copytree(whole[0].folder, settings.folder)
    (settings.folder / "summary.json").unlink()
    checkpoint = settings.folder / "last.ckpt"
    whole_file = checkpoint.read_bytes()
    content = {"truncated": whole_file[: len(whole_file) // 2], "text": b"not a checkpoint\n", "empty": b""}
    checkpoint.write_bytes(content[damage])
    with pytest.raises(SemoreError, match=r"last\.ckpt cannot be read .* delete it"):
        train(settings)


def test_a_checkpoint_of_another_version_is_named(whole, tmp_path):
    torch.save({"checkpoint_version": 99}, tmp_path / "last.ckpt")
    with pytest.raises(SemoreError, match="checkpoint version 99"):
        read_checkpoint(tmp_path / "last.ckpt")


def test_missing_rollouts_and_missing_knowledge_are_one_clear_error_each(data, tmp_path):
    with pytest.raises(SemoreError, match=r"nowhere\.zarr does not exist; run `make collect`"):
        train(asked(data, tmp_path, rollouts="nowhere"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SemoreError, match="no knowledge set 'typo'; there is privileged"):
        train(asked(data, tmp_path, knowledge="typo"))


def test_a_run_that_never_began_does_not_bind_its_name(data, tmp_path, monkeypatch):
    """A mistyped setting that stopped the run before its first checkpoint can be mended under the same name."""
    with pytest.raises(SemoreError, match="typo"):
        train(asked(data, tmp_path, knowledge="typo"))
    monkeypatch.setattr(Agent, "update", lambda *_: (_ for _ in ()).throw(_Crash()))
    with pytest.raises(_Crash):
        train(asked(data, tmp_path))
    saved = read_json(tmp_path / "run" / "settings.json")
    assert saved["settings"]["knowledge"] == saved["identity"]["knowledge"] == "privileged"


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"weather": "midnight"}, "weather 'hard_high_light'"), ({"scenario": "HighWay"}, "scenario 'J")],
)
def test_rollouts_of_another_world_are_refused(data, tmp_path, changes, key):
    settings = asked(data, tmp_path, **changes)
    with pytest.raises(SemoreError, match=f"was recorded with {key}.*SCENARIO= and WEATHER="):
        train(settings)
    assert not settings.folder.exists()


def test_frames_without_any_knowledge_are_refused(data, tmp_path):
    shutil.copytree(data / "rollouts", tmp_path / "rollouts")
    make_annotator(KnowledgeCache(tmp_path / "knowledge"), "privileged", make_producers(PRIVILEGED))
    with pytest.raises(SemoreError, match=r"no frame has knowledge .*`make annotate`"):
        train(asked(tmp_path, tmp_path / "runs"))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"scenario": "Monaco"}, "JayWalk"),
        ({"reward": "fast"}, "published, safety"),
        ({"device": "tpu"}, "auto, cpu, cuda"),
        ({"agent": replace(TINY.agent, semantic_loss="l2")}, "balanced_bce"),
        ({"agent": replace(TINY.agent, transition_latent="semantic")}, "motion, fused"),
        ({"agent": replace(TINY.agent, encoder=EncoderSettings(size=20))}, "size 20"),
        ({"replay": ReplaySettings(admission="all")}, "recommended, literal, off"),
        ({"schedule": replace(TINY.schedule, batch=0)}, "schedule.batch"),
    ],
)
def test_settings_without_sense_are_refused_before_anything_is_written(data, tmp_path, changes, word):
    with pytest.raises(SemoreError, match=word):
        train(asked(data, tmp_path, **changes))
    assert list(tmp_path.iterdir()) == []


def test_the_schedule_by_hand():
    schedule = ScheduleSettings(
        updates=101, offline_updates=10, cloning=2.0, cloning_decay=40, student_start=0.1, student_end=0.6,
        refresh_every=5, validate_every=50,
    )  # fmt: skip
    weights = {update: schedule.weights(update) for update in (0, 9, 10, 30, 50, 51, 100)}
    assert [round(each.cloning, 6) for each in weights.values()] == [2.0, 2.0, 2.0, 1.0, 0.0, 0.0, 0.0]
    assert [each.cloning_shapes_encoder for each in weights.values()] == [True, True, *[False] * 5]
    assert weights[0].student_share == pytest.approx(0.1)
    assert weights[50].student_share == pytest.approx(0.35)
    assert weights[100].student_share == pytest.approx(0.6)
    assert [update for update in range(1, 102) if schedule.refreshes(update)] == list(range(10, 101, 5))
    assert [update for update in range(1, 102) if schedule.validates(update)] == [50, 100, 101]
    never = replace(schedule, refresh_every=0, validate_every=0)
    assert not any(never.refreshes(update) for update in range(1, 102))
    assert [update for update in range(1, 102) if never.validates(update)] == [101]
