"""One training run from its settings to its policy file: build or resume, train, export, summarise."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch

from semore.annotate.episodes import EpisodeAnnotator
from semore.datasets.atomic_io import exclusive_lock, read_json, taken_back, write_json
from semore.datasets.device import torch_device
from semore.datasets.progress import meter
from semore.datasets.rollouts.recorded import recorded
from semore.datasets.rollouts.store import Episode
from semore.train.actor import Actor, Brief
from semore.train.agent import make_agent
from semore.train.captured import replayed
from semore.train.checkpoint import Checkpoint, Part, export_policy, parts_of, weights_digest
from semore.train.claim import check_world, claim
from semore.train.course import Averaging, Drawing, Logging, Saving
from semore.train.crew import Crew, LoneCrew, ProcessCrew
from semore.train.gpu import Randomness, repeatable
from semore.train.learner import Learner
from semore.train.lightning_trainer import fit
from semore.train.log import MetricsFile
from semore.train.loggers import open_loggers
from semore.train.memory import keep_freed_memory
from semore.train.metrics import LOG
from semore.train.module import Semore
from semore.train.online import EnvPool, World
from semore.train.refresh import Refresh
from semore.train.settings import TrainSettings
from semore.train.stock import Stock, take_stock
from semore.train.stopping import Stop, polite_end
from semore.train.validation import Validation


def train(settings: TrainSettings) -> dict[str, Any]:
    """Train the run, or finish it, or find it finished; returns the content of its summary.json.

    SemoreError when the run's folder belongs to other settings or data, or another process trains it; Stopped when a
    signal asked for the end and it was saved.
    """
    settings = settings.resolved()
    settings.validate()
    folder, world = settings.folder, World.of(settings)
    rollouts = recorded(settings)
    episodes, fingerprint = list(rollouts.episodes()), rollouts.fingerprint()
    with polite_end() as stop, closing(EnvPool(world, settings.schedule.shares)) as fleet:
        if not (folder / "summary.json").exists():
            check_world(episodes, settings.scenario, settings.weather, fleet.identity())
        with exclusive_lock(folder / ".lock", f"training of {folder}"), taken_back(folder / "settings.json", LOG):
            claim(settings, fingerprint)
            if (folder / "summary.json").exists():
                print(f"train: {folder} is finished; nothing to do (another one: --run NAME)")
                summary: dict[str, Any] = read_json(folder / "summary.json")
                return summary
            return _finish(settings, episodes, fingerprint, world, fleet, stop)


def _finish(
    settings: TrainSettings, episodes: Sequence[Episode], fingerprint: str, world: World, fleet: EnvPool, stop: Stop
) -> dict[str, Any]:
    """Train what is left, export the best policy, write and return the summary."""
    folder, clock = settings.folder, Clock()
    keep_freed_memory()
    torch.set_num_threads(settings.threads)
    _seed(settings.seed)
    device = torch_device(settings.device)
    if device.type == "cuda":
        repeatable()
    agent = make_agent(settings.agent)
    checkpoint = Checkpoint(folder, {"method": settings.method, "rollouts": fingerprint, **fleet.identity()})
    stock = take_stock(settings, episodes, checkpoint.found, stop)
    agent.to(device)
    if settings.compile:
        agent.backbone.compile()
    with closing(_crew(settings, world, fleet, stock)) as crew:
        best = _learn(settings, agent, stock, crew, checkpoint, clock, stop)
    last = weights_digest(agent)
    agent.load_state_dict(best.best_weights)
    quality = stock.held_out.quality(agent, stock.replay.pool, resamples=200)
    export_policy(agent, folder / "policy.pt2", world.view | {"update": best.best_update})
    summary = {
        "method": settings.method,
        "seed": settings.seed,
        "updates": agent.updates,
        "best_update": best.best_update,
        "best_validation_reward": best.best_reward,
        "student_mask": quality.as_dict() if quality else None,
        "seconds": round(clock.seconds(), 1),
        "weights_sha256": last,
        "rollouts": fingerprint,
        "knowledge": stock.pins.digest,
    }
    write_json(folder / "summary.json", summary)
    return summary


def _learn(
    settings: TrainSettings,
    agent: Learner,
    stock: Stock,
    crew: Crew,
    checkpoint: Checkpoint,
    clock: Clock,
    stop: Stop,
) -> Validation:
    """Do the updates that are left, and what comes between them; returns what validation has found."""
    schedule, replay, done = settings.schedule, stock.replay, checkpoint.updates
    module = Semore(schedule, agent, replay, replayed(agent, settings.capture))
    with meter(f"train {settings.folder.name}", schedule.updates, "updates", done) as progress:
        averaging = Averaging(agent, schedule.averaging)
        randomness = Randomness(agent.device, progress.say)
        refresh = Refresh(agent, replay, stock.knowledge, stock.driven, schedule, crew, stock.pins.add)
        validation = Validation(
            averaging, replay.pool, stock.held_out, schedule, crew, checkpoint.save_best, progress.say
        )
        parts = {
            **parts_of(agent),
            "replay": Part(replay.state, replay.restore),
            "averaging": Part(averaging.state_dict, averaging.load_state_dict),
            "refresh": Part(refresh.state_dict, refresh.load_state_dict),
            "validation": Part(validation.state_dict, validation.load_state_dict),
            "losses": Part(module.losses.state_dict, module.losses.load_state_dict),
            "seconds": Part(clock.seconds, clock.go_on),
            "random": Part(randomness.state, randomness.restore),  # the last: nothing after it may draw
        }
        course = [
            averaging,
            refresh,
            Logging(agent, replay, schedule, module.losses, lambda: crew.waited, progress),
            validation,
            Drawing(agent, replay, schedule.picture_every, settings.folder / "pictures"),
            Saving(agent, schedule, stop, lambda: checkpoint.save(parts)),
        ]
        if done:
            checkpoint.restore(parts)
            progress.say(f"resuming at update {done}")
        with open_loggers(settings, done) as others:
            metrics = MetricsFile(
                settings.folder / "metrics.csv", checkpoint.found["metrics"] if checkpoint.found else 0
            )
            parts["metrics"] = Part(metrics.size, lambda _: None)  # it was cut back to that when it was opened
            fit(module, range(done, schedule.updates), agent.device, [metrics, *others], course)
    return validation


def _crew(settings: TrainSettings, world: World, fleet: EnvPool, stock: Stock) -> Crew:
    """Who drives: processes that have servers and knowledge of their own, or this one."""
    cache, schedule = stock.knowledge.cache.root.resolve(), settings.schedule
    brief = Brief(
        world, settings.agent, schedule.refresh_spread, stock.driven.rollouts.path.resolve(),
        (cache, stock.knowledge.name) if settings.uses_knowledge else None, settings.executor, schedule.shares,
        schedule.refresh_noise_memory,
    )  # fmt: skip
    if not settings.actors:
        return LoneCrew(Actor(brief, settings.threads, fleet, stock.knowledge))
    if settings.uses_knowledge:
        EpisodeAnnotator(stock.knowledge, settings.executor)  # refused now rather than at the first refresh
    fleet.close()  # it was needed to know the world by
    return ProcessCrew(brief, settings.actors)


class Clock:
    """Seconds spent on the run, in earlier processes too."""

    def __init__(self) -> None:
        self._started, self._earlier = time.monotonic(), 0.0

    def go_on(self, earlier: float) -> None:
        """Add those of earlier processes."""
        self._earlier = earlier

    def seconds(self) -> float:
        """So far."""
        return self._earlier + time.monotonic() - self._started


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (libraries may draw from it)
    torch.manual_seed(seed)
