"""Whole training runs, seconds long: what they leave behind, that they repeat, and refuse."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_run import (
    FILES,
    REFRESHES,
    TINY,
    VALIDATIONS,
    Crash,
    asked,
    assert_same_run,
    crash,
    interrupted,
    make_data,
    run_whole,
)  # fmt: skip

from semore.annotate.registry import PRIVILEGED, make_producers
from semore.collect.policies import load_policy
from semore.datasets.atomic_io import digest16, exclusive_lock, read_json, write_json
from semore.datasets.errors import SemoreError
from semore.datasets.frame_pool import DRIVERS, RANDOM
from semore.datasets.knowledge.cache import KnowledgeCache, KnowledgeSet, ensure_set
from semore.datasets.rollouts.store import Rollouts
from semore.train.admission import ReplaySettings
from semore.train.agent import Agent
from semore.train.checkpoint import read_checkpoint, weights_digest
from semore.train.encoder_settings import EncoderSettings
from semore.train.metrics import read_metrics
from semore.train.module import Semore
from semore.train.refresh import REFRESH_SEEDS
from semore.train.run import train
from semore.train.run_io import run_settings, untrained_policy
from semore.train.schedule import ScheduleSettings
from semore.train.settings import TrainSettings

pytestmark = [
    pytest.mark.filterwarnings("ignore:No complete tensor", "ignore::DeprecationWarning"),
    pytest.mark.usefixtures("short_runs"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> tuple[TrainSettings, dict[str, Any]]:
    """A run nobody disturbed, and its summary."""
    return run_whole(asked(data, tmp_path_factory.mktemp("runs")))


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
    assert seeds == [REFRESH_SEEDS + index for index in range(3)]
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
    for name in ("reward", "reward_std", "collisions", "steer_change"):
        assert at[f"validation/{name}"] == VALIDATIONS, name
    values = {(update, name): value for update, name, value in rows}
    assert values[40, "replay/known_share"] == 1.0  # refreshed frames were annotated before they were used
    grown = [values[update, "replay/frames"] for update in logged]
    assert grown[0] == grown[1] < grown[2] == grown[3] < grown[4] == grown[5]  # after 10 and 20 updates
    assert values[40, "replay/delta"] == 0.0
    best = max((values[update, "validation/reward"], -update) for update in VALIDATIONS)
    assert (whole[1]["best_validation_reward"], -whole[1]["best_update"]) == best


def test_last_checkpoint_and_exported_policy_hold_the_weights_they_claim(whole):
    settings, summary = whole
    state = read_checkpoint(settings.folder / "last.ckpt", {})
    agent = Agent(settings.agent)
    agent.load_state_dict(state["agent"]["weights"])
    assert weights_digest(agent) == summary["weights_sha256"]
    agent.load_state_dict(state["validation"]["best_weights"])
    observations = np.random.default_rng(0).integers(0, 256, (3, 9, 32, 32), np.uint8)
    policy = load_policy(settings.folder)
    with torch.no_grad():
        expected = torch.tanh(agent(torch.from_numpy(observations))[0])
    np.testing.assert_allclose(policy.act(range(3), observations, [{}] * 3), expected, atol=1e-5)
    view = {
        "size": 32, "stack": 3, "frame_skip": 2, "scenario": "JayWalk", "weather": "", "reward": "published",
        "simulator": "embedded", "grey": False,
    }  # fmt: skip
    assert policy.view == {**view, "update": summary["best_update"]}


def plain_mean(weights: list[dict[str, torch.Tensor]], keep: float) -> dict[str, torch.Tensor]:
    """A running mean of the weights after each update, written out."""
    mean = {name: value.double() for name, value in weights[0].items()}
    for each in weights[1:]:
        mean = {name: keep * mean[name] + (1.0 - keep) * value.double() for name, value in each.items()}
    return mean


@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize("keep", [0.0, 0.9])
def test_what_is_validated_and_exported_is_the_running_mean_of_the_weights(data, tmp_path, monkeypatch, keep):
    after: list[dict[str, torch.Tensor]] = []
    step = Semore.training_step

    def remembering(module: Semore, update: int) -> None:
        step(module, update)
        after.append({name: value.clone() for name, value in module.agent.state_dict().items()})

    monkeypatch.setattr(Semore, "training_step", remembering)
    settings = asked(data, tmp_path)
    schedule = replace(settings.schedule, updates=12, averaging=keep, validate_every=0)
    settings = replace(settings, schedule=schedule)
    train(settings)
    best = read_checkpoint(settings.folder / "best.ckpt", {})["agent"]["weights"]
    expected = plain_mean(after, keep)
    assert len(after) == 12
    assert best.keys() == expected.keys()
    for name, value in best.items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-4, atol=1e-6)


COMPLAINTS = ("constant student mask", "dead stream", "dead gate", "exploding Q", "starved buffer", "zigzag steering")


@pytest.mark.usefixtures("no_export")
def test_the_same_seed_gives_the_same_weights_and_another_one_others(data, whole, tmp_path, capfd):
    again = asked(data, tmp_path)
    torch.manual_seed(12345)  # whatever went on before in this process
    assert_same_run(again, train(again), whole)
    other = asked(data, tmp_path, run="other", seed=2)
    assert train(other)["weights_sha256"] != whole[1]["weights_sha256"]
    printed = "".join(capfd.readouterr())
    assert "validation reward" in printed
    assert not [name for name in COMPLAINTS if name in printed]  # healthy runs


def test_a_finished_run_is_not_trained_again(whole, monkeypatch, capsys):
    settings, summary = whole
    times = {path: path.stat().st_mtime_ns for path in settings.folder.iterdir() if path.name != ".lock"}
    monkeypatch.setattr(Agent, "update", lambda *_, **__: pytest.fail("an update of a finished run"))
    assert train(settings) == summary
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_the_untrained_row_is_the_network_before_its_first_update(data, tmp_path, monkeypatch):
    settings, first = asked(data, tmp_path, seed=5), []

    def stop(self, batch, weights, watch):
        first.append(weights_digest(self))
        raise Crash

    monkeypatch.setattr(Agent, "update", stop)
    with pytest.raises(Crash):
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
    torch.save({"checkpoint_version": 1}, tmp_path / "last.ckpt")
    with pytest.raises(SemoreError, match=r"last\.ckpt has checkpoint version 1, this code reads 4; .*--run NAME"):
        read_checkpoint(tmp_path / "last.ckpt", {})


@pytest.mark.parametrize(
    ("key", "other"),
    [("method", "curl"), ("rollouts", "0" * 32), ("simulator_version", "0"), ("renderer_version", "0.1")],
)
def test_a_checkpoint_of_another_method_world_or_data_is_refused_by_both_values(whole, tmp_path, key, other):
    settings = replace(whole[0], runs=str(tmp_path))
    shutil.copytree(whole[0].folder, settings.folder)
    (settings.folder / "summary.json").unlink()
    path = settings.folder / "last.ckpt"
    content = torch.load(path, weights_only=True)
    mine = content["identity"][key]
    torch.save({**content, "identity": {**content["identity"], key: other}}, path)
    with pytest.raises(SemoreError, match="--run NAME") as caught:
        train(settings)
    assert all(word in str(caught.value) for word in (str(path), key, other, str(mine)))


def test_the_best_checkpoint_is_the_exported_policy(whole):
    settings, summary = whole
    best = read_checkpoint(settings.folder / "best.ckpt", {"method": "semore"})["agent"]
    assert (best["updates"], best["reward"]) == (summary["best_update"], summary["best_validation_reward"])
    last = read_checkpoint(settings.folder / "last.ckpt", {})["validation"]["best_weights"]
    assert best["weights"].keys() == last.keys()
    assert all(torch.equal(value, last[name]) for name, value in best["weights"].items())


def test_missing_rollouts_and_missing_knowledge_are_one_clear_error_each(data, tmp_path):
    with pytest.raises(
        SemoreError, match=r"nowhere\.zarr does not exist; record it: `semore collect .*--rollouts nowhere`"
    ):
        train(asked(data, tmp_path, rollouts="nowhere"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SemoreError, match="no knowledge set 'typo': there is privileged"):
        train(asked(data, tmp_path, knowledge="typo"))


def test_a_run_that_never_began_does_not_bind_its_name(data, tmp_path):
    """A mistyped setting that stopped the run before its first checkpoint can be mended under the same name."""
    with pytest.raises(SemoreError, match="typo"):
        train(asked(data, tmp_path, knowledge="typo"))
    interrupted(asked(data, tmp_path), Agent, "update", crash)
    saved = read_json(tmp_path / "run" / "settings.json")
    assert saved["settings"]["knowledge"] == saved["identity"]["knowledge"] == "privileged"


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"weather": "midnight"}, "weather 'hard_high_light'"), ({"scenario": "HighWay"}, "scenario 'J")],
)
def test_rollouts_of_another_world_are_refused(data, tmp_path, changes, key):
    settings = asked(data, tmp_path, **changes)
    with pytest.raises(SemoreError, match=f"was recorded with {key}.*--scenario, --weather and --simulator"):
        train(settings)
    assert not settings.folder.exists()


def test_a_filter_that_starves_the_buffer_is_named_before_the_first_update(data, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(KnowledgeSet, "verdicts", lambda self, frames, states, words: np.zeros(len(frames), np.uint8))
    settings = asked(data, tmp_path, replay=ReplaySettings(pool_frames=400, filter_steps=10**6, random_steps=5))
    with pytest.raises(SemoreError, match=r"holds 5 transitions.* batch of 8.*--replay\.filter_steps"):
        train(settings)
    assert "train: starved buffer: the filter admits 6% of the newest decisions" in capfd.readouterr().out


def test_frames_without_any_knowledge_are_refused(data, tmp_path):
    shutil.copytree(data / "rollouts", tmp_path / "rollouts")
    ensure_set(KnowledgeCache(tmp_path / "knowledge"), "privileged", make_producers(PRIVILEGED).manifest())
    with pytest.raises(SemoreError, match=r"no frame has knowledge .*`semore annotate .*`"):
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
        ({"replay": ReplaySettings(admission="all")}, "recommended, literal, weights, off"),
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


def test_what_an_earlier_version_wrote_of_a_run_is_read(whole, tmp_path):
    """Its settings, one of which is no more, and its checkpoint, from which no run goes on."""
    settings = replace(whole[0], runs=str(tmp_path))
    shutil.copytree(whole[0].folder, settings.folder)
    written = read_json(settings.folder / "settings.json")
    written["settings"]["schedule"]["refresh_waits"] = written["identity"]["schedule.refresh_waits"] = True
    for name in ("encoder.mask_side", "encoder.mask_path", "semantic_features_weight"):
        group, _, own = name.rpartition(".")
        agent = written["settings"]["agent"]
        del (agent[group] if group else agent)[own], written["identity"][f"agent.{name}"]
    del written["identity"]["agent.auxiliaries"]  # methods gave the others a weight of 0
    written["identity"]["agent.contrast_weight"] = 0.0
    write_json(settings.folder / "settings.json", written)
    assert run_settings(settings.folder) == whole[0]
    assert train(settings) == whole[1]  # found finished
    written["identity"]["schedule.refresh_waits"] = False
    write_json(settings.folder / "settings.json", written)
    with pytest.raises(SemoreError, match=r"schedule\.refresh_waits False → None"):
        train(settings)
    written["identity"]["schedule.refresh_waits"] = True
    write_json(settings.folder / "settings.json", written)
    path = settings.folder / "last.ckpt"
    torch.save({**torch.load(path, weights_only=True), "checkpoint_version": 3}, path)
    assert "replay" in read_checkpoint(path, {})
    (settings.folder / "summary.json").unlink()
    with pytest.raises(SemoreError, match=r"checkpoint version 3, this code reads 4; train a new run with --run NAME"):
        train(settings)
