"""The instruments on a real run: its own weights, drives, buffer and recordings, and what the commands write."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_run import TINY, asked, make_data, run_whole, shorten

from semore.datasets.atomic_io import read_json, write_json
from semore.datasets.errors import SemoreError
from semore.train import run as training
from semore.train.agent import make_agent
from semore.train.checkpoint import save_checkpoint
from semore.train.online import World
from semore.train.run_io import run_settings, trained_agent
from study import gradient_shares, probe, value_health
from study.run_data import episodes_of, replay_of
from study.value_health import FIRST_SEED, ValuedPolicy, mean_and_value, measure

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("instruments")
    schedule = replace(TINY.schedule, updates=4, offline_updates=2, refresh_every=2, validate_every=4, log_every=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "export_policy", lambda agent, path, view: path.touch())
        settings, _ = run_whole(asked(make_data(root / "data"), root / "runs", schedule=schedule))
    return settings.folder


@pytest.fixture
def near(monkeypatch):
    """Short episodes, of which all decisions but the last four count at γ 0.99."""
    shorten(monkeypatch)
    monkeypatch.setattr(value_health, "HORIZON", 0.0499)


def test_q_and_rewards_are_those_of_the_drive(run, near):
    health = measure(run, "best.ckpt", range(FIRST_SEED, FIRST_SEED + 2))
    agent, env = trained_agent(run), World.of(run_settings(run)).env()
    seen, _ = env.reset(seed=FIRST_SEED)
    q, rewards, over = [], [], False
    while not over:
        with torch.inference_mode():
            action, value = mean_and_value(agent, torch.from_numpy(seen)[None])
        q.append(value.item())
        seen, reward, terminated, over, _ = env.step(action[0].numpy())
        rewards.append(reward)
        assert not terminated
    env.close()
    known = len(q) - 4
    returns = [sum(0.99**k * reward for k, reward in enumerate(rewards[place:])) for place in range(known)]
    assert health.q[:known] == pytest.approx(q[:known], abs=1e-5)
    assert health.returns[:known] == pytest.approx(returns, abs=1e-5)
    assert (health.episodes, health.left_out, health.updates) == (2, 8, 4)


def test_both_checkpoints_can_be_looked_at_and_others_are_refused(run):
    best, last = trained_agent(run), trained_agent(run, "last.ckpt")
    assert best.updates == last.updates == 4
    assert any(not torch.equal(one, other) for one, other in zip(best.parameters(), last.parameters(), strict=True))
    with pytest.raises(SemoreError, match=r"first\.ckpt does not exist \(checkpoints there: best\.ckpt, last\.ckpt\)"):
        trained_agent(run, "first.ckpt")


def test_runs_of_other_networks_or_without_critics_are_refused(run, tmp_path):
    written = read_json(run / "settings.json")
    other = tmp_path / "other"
    other.mkdir()

    def change(**changes: object) -> None:
        agent = written["settings"]["agent"] | changes
        write_json(other / "settings.json", written | {"settings": written["settings"] | {"agent": agent}})

    change(hidden=24)
    (other / "best.ckpt").symlink_to(run / "best.ckpt")
    with pytest.raises(SemoreError, match=r"best\.ckpt has other networks than this code makes"):
        trained_agent(other)
    encoder = written["settings"]["agent"]["encoder"] | {"mask": "zeros"}
    change(objective="cloning", auxiliaries=[], encoder=encoder)
    weights = make_agent(run_settings(other).agent).state_dict()
    agent = {"weights": weights, "updates": 1}
    save_checkpoint(other / "cloned.ckpt", {"identity": {"method": "semore"}, "agent": agent})
    with pytest.raises(SemoreError, match="its agent has no critics"):
        ValuedPolicy(other, "cloned.ckpt", grey=False)
    with pytest.raises(SemoreError, match="its agent has one loss"):
        gradient_shares.measure(other, "cloned.ckpt", 1)


def test_the_buffer_is_the_runs_own(run):
    settings = run_settings(run)
    replay = replay_of(run, settings)
    held = torch.load(run / "last.ckpt", weights_only=True)["replay"]
    assert [tuple(each) for each in held["episodes"]] == replay.pool.episodes
    assert replay.offered == held["offered"]
    with pytest.raises(SemoreError, match="no episode of the test split"):
        episodes_of(settings, "test")


def test_the_commands_write_what_they_say(run, near, tmp_path, monkeypatch, capsys):
    def say(module: object, *words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["command", str(run), *words])
        module.main()  # type: ignore[attr-defined]
        return capsys.readouterr().out

    out = tmp_path / "made" / "health"
    assert "| run | JayWalk | 4 |" in say(value_health, "--episodes", "2", "--out", str(out))
    assert "32 (8)" in out.with_suffix(".md").read_text()
    assert out.with_suffix(".png").exists()
    said = say(gradient_shares, "--batches", "2", "--out", str(tmp_path / "made" / "shares.md"))
    assert "| run | part | q | transition | reward | semantic |" in said
    assert "| run | semantic_stream |" in (tmp_path / "made" / "shares.md").read_text()
    with pytest.raises(SemoreError, match="has 1 validation episodes; probing takes at least 3"):
        say(probe)
    every = [each for split in ("train", "validation") for each in episodes_of(run_settings(run), split)]
    monkeypatch.setattr(probe, "episodes_of", lambda *_: every)  # as though all five were held out
    said = say(probe, "--out", str(tmp_path / "made" / "probe.md"))
    for name in ("constant", "the three pictures at 16²", "the exact mask at 16²", "H_ka", "z_m", "z, untrained"):
        assert f"| run | {name} |" in said
    monkeypatch.setattr(value_health, "HORIZON", 1e9)
    with pytest.raises(SemoreError, match="every episode timed out"):
        say(value_health, "--episodes", "2", "--out", str(out))
