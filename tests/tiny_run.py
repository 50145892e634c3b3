"""Training runs of forty updates on five short episodes, for tests; and how to interrupt and compare them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from semore.annotate.pipeline import annotate_rollouts
from semore.annotate.registry import PRIVILEGED, make_producers
from semore.collect.env import DrivingEnv
from semore.collect.policies import make_policy
from semore.collect.recorder import record
from semore.datasets.knowledge.cache import KnowledgeCache
from semore.datasets.rollouts.schema import SEED_SPLITS
from semore.datasets.rollouts.store import Rollouts
from semore.train.admission import ReplaySettings
from semore.train.agent_settings import AgentSettings
from semore.train.encoder_settings import EncoderSettings
from semore.train.online import World
from semore.train.run import train
from semore.train.schedule import ScheduleSettings
from semore.train.settings import TrainSettings

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
    *(".lock", "settings.json", "metrics.csv", "last.ckpt", "best.ckpt", "policy.pt2", "summary.json", "tensorboard"),
    *("refresh.zarr", "knowledge_used.npy"),
}


_world_of = World.of


class Crash(RuntimeError):
    """The moment a run is interrupted: nothing of it that is not on disk survives."""


def crash(*_: Any, **__: Any) -> None:
    raise Crash


def short_world(settings: TrainSettings) -> World:
    """A run's world, but an episode ends after 40 simulator steps."""
    return replace(_world_of(settings), max_episode_steps=STEPS)


def shorten(patch: pytest.MonkeyPatch) -> None:
    """Have runs drive short episodes."""
    patch.setattr(World, "of", short_world)


def make_data(root: Path) -> Path:
    """Five short recorded episodes, annotated: noisy driver and wanderer to train on, one to validate the mask."""
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
    know(root, rollouts.path)
    return root


def know(root: Path, *folders: Path, off_decisions: bool = False) -> None:
    """Annotate rollouts into the cache of `root`, as another process would."""
    cache, producers = KnowledgeCache(root / "knowledge"), make_producers(PRIVILEGED)
    annotate_rollouts(
        folders, cache, "privileged", producers, quiet=True, recipe=PRIVILEGED, off_decisions=off_decisions
    )


def asked(data: Path, runs: Path, **changes: Any) -> TrainSettings:
    return replace(TINY, data=str(data), runs=str(runs), **{"knowledge": "privileged"} | changes)


def run_whole(settings: TrainSettings) -> tuple[TrainSettings, dict[str, Any]]:
    """A run nobody disturbs, and its summary; for fixtures that many tests share."""
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        return settings, train(settings)


def outcome(summary: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in summary.items() if key != "seconds"}


def metrics(settings: TrainSettings) -> list[str]:
    """The lines of metrics.csv, without the machine's speeds."""
    lines = (settings.folder / "metrics.csv").read_text().splitlines()
    return [line for line in lines if ",speed/" not in line]


def assert_same_run(
    settings: TrainSettings, summary: dict[str, Any], whole: Any, more: frozenset[str] = frozenset()
) -> None:
    """Same weights, same summary, same rows of metrics in the same order, none twice."""
    assert summary["weights_sha256"] == whole[1]["weights_sha256"]
    assert outcome(summary) == outcome(whole[1])
    assert metrics(settings) == metrics(whole[0])
    names = [Rollouts(each.folder / "refresh.zarr").names() for each in (settings, whole[0])]
    assert names[0] == names[1]
    assert {entry.name for entry in settings.folder.iterdir()} == FILES | {*more}


def interrupted(settings: TrainSettings, target: object, name: str, replacement: Callable[..., Any]) -> None:
    """Train with `target.name` replaced by what raises Crash."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, replacement)
        with pytest.raises(Crash):
            train(settings)
