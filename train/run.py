"""One training run from its settings to its policy file: build or resume, train, export, summarise."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from semore.annotate.annotate_hint import annotate_command, annotated
from semore.annotate.pipeline import annotator_for
from semore.annotate.settings import ExecutorSettings
from semore.collect.scenarios import scenario_and_weather
from semore.datasets.atomic_io import (
    digest16,
    digest_json,
    exclusive_lock,
    read_json,
    taken_back,
    write_bytes,
    write_json,
)
from semore.datasets.device import torch_device
from semore.datasets.errors import SemoreError
from semore.datasets.frame_pool import FramePool, forecast_bytes, rows_of
from semore.datasets.knowledge.cache import KnowledgeCache, KnowledgeSet, open_set, read_pins
from semore.datasets.knowledge.records import Digests
from semore.datasets.progress import meter
from semore.datasets.provenance import environment
from semore.datasets.rollouts.recorded import recorded
from semore.datasets.rollouts.store import Episode
from semore.datasets.settings import as_dict
from semore.train.agent import make_agent
from semore.train.async_annotation import AsyncAnnotation
from semore.train.checkpoint import export_policy, read_checkpoint, save_checkpoint, weights_digest
from semore.train.dagger import expert_actions
from semore.train.health import complaints
from semore.train.lightning_trainer import fit
from semore.train.loggers import open_loggers
from semore.train.metrics import LOG
from semore.train.module import Semore, TrainLoop
from semore.train.online import EnvPool, HeldOut, Refresh, Validation, policy_view, records_used
from semore.train.replay import SelectiveReplay
from semore.train.settings import TrainSettings, hyperparameters
from semore.train.stopping import Stop, polite_end


def train(settings: TrainSettings) -> dict[str, Any]:
    """Train the run, or finish it, or find it finished; returns the content of its summary.json.

    SemoreError when the run's folder belongs to other settings or data, or another process trains it; Stopped when a
    signal asked for the end and it was saved.
    """
    settings = settings.resolved()
    settings.validate()
    folder = settings.folder
    rollouts = recorded(settings)
    episodes = list(rollouts.episodes())
    fingerprint = rollouts.fingerprint()
    with polite_end() as stop, closing(EnvPool(settings)) as fleet:
        if not (folder / "summary.json").exists():
            _check_world(episodes, settings, fleet.world())
        with exclusive_lock(folder / ".lock", f"training of {folder}"), taken_back(folder / "settings.json", LOG):
            _claim(settings, fingerprint)
            if (folder / "summary.json").exists():
                print(f"train: {folder} is finished; nothing to do (another one: --run NAME)")
                summary: dict[str, Any] = read_json(folder / "summary.json")
                return summary
            return Trainer(settings, fleet, episodes, fingerprint, stop).finish()


class Trainer:
    """The objects of a run, wired together."""

    def __init__(
        self, settings: TrainSettings, fleet: EnvPool, episodes: Sequence[Episode], fingerprint: str, stop: Stop
    ) -> None:
        self.settings, self.fingerprint, self.folder, self._stop = settings, fingerprint, settings.folder, stop
        self.device = torch_device(settings.device)
        torch.set_num_threads(settings.threads)
        _seed(settings.seed)
        self.agent = make_agent(settings.agent)
        self.identity = {"method": settings.method, "rollouts": fingerprint, **fleet.world()}
        """What a checkpoint must agree in with this run to be taken up."""
        self.checkpoint, pins = self.folder / "last.ckpt", self.folder / "knowledge_used.npy"
        journal = self.folder / "visible.csv"
        self.state = read_checkpoint(self.checkpoint, self.identity) if self.checkpoint.exists() else None
        self._done = int(self.state["agent"]["updates"]) if self.state else 0
        if self.state is None:
            journal.unlink(missing_ok=True)  # it tells of a run that is begun anew
        # A run that goes on is answered as it was before, whatever has been annotated since.
        self.used = read_pins(pins) if self.state and pins.exists() else np.zeros((0, 16), np.uint8)
        root = Path(settings.data) / "knowledge"
        cache = KnowledgeCache(root, self.used if self.state else None)
        knowledge = annotated(settings, cache, settings.knowledge)
        annotator_for(knowledge)  # refused now rather than at the first refresh
        crew = ExecutorSettings(settings.scheduler)
        backlog = AsyncAnnotation(
            lambda: annotator_for(open_set(root, settings.knowledge)),
            crew, journal, settings.schedule.refresh_waits,
        )  # fmt: skip
        self.refresh = Refresh(settings, fleet, backlog, knowledge)
        training = [episode for episode in episodes if episode.attributes["split"] == "train"]
        refreshed = self.state["refreshed"] if self.state else {"recorded": [], "pending": []}
        grown = self.refresh.restore(refreshed["recorded"], refreshed["pending"])
        self.replay = self._fill([*((episode, None) for episode in training), *grown], knowledge)
        if not len(self.used):  # a run that goes on has them, and not what others have annotated since
            self.keep([records_used(episode, knowledge, rows_of(episode, settings.frame_skip)) for episode in episodes])
        held_out = [episode for episode in episodes if episode.attributes["split"] == "validation"]
        self.validation = Validation(settings, fleet, HeldOut.of(settings, held_out, knowledge))
        self.module = Semore(settings, self.agent, self.replay)
        self._started, self._earlier = time.monotonic(), float(self.state["seconds"]) if self.state else 0.0

    def keep(self, used: Sequence[Digests]) -> None:
        """Pin cache records that the run rests on: results name them, and no clean-up of the cache removes them."""
        if not used:
            return
        self.used = np.unique(np.concatenate([self.used, *used]), axis=0)
        whole = io.BytesIO()  # NumPy's own writer says nothing of what a full disk was short of
        np.save(whole, self.used)
        write_bytes(self.folder / "knowledge_used.npy", whole.getbuffer())

    def finish(self) -> dict[str, Any]:
        """Train what is left, export the best policy, write and return the summary."""
        schedule, agent = self.settings.schedule, self.agent
        agent.to(self.device)
        if self.settings.compile:
            agent.backbone.compile()
        label = f"train {self.folder.name}"
        done = self._done
        with meter(label, schedule.updates, "updates", done) as progress:
            course = TrainLoop(
                self.settings, agent, self.refresh, self.validation, lambda: self._save(course), progress, self.keep,
                self._stop,
            )  # fmt: skip
            if self.state:
                self._restore(self.state, course)
                progress.say(f"resuming at update {done}")
            try:
                self._fit(course, done)
            finally:
                self.refresh.backlog.close()
        last = weights_digest(agent)
        agent.load_state_dict(course.best_weights)
        quality = course.mask_quality(agent, self.replay.pool, resamples=200)
        export_policy(agent, self.folder / "policy.pt2", policy_view(self.settings) | {"update": course.best_update})
        summary = {
            "method": self.settings.method,
            "seed": self.settings.seed,
            "updates": agent.updates,
            "best_update": course.best_update,
            "best_validation_reward": course.best_reward,
            "student_mask": quality.as_dict() if quality else None,
            "seconds": round(self._seconds(), 1),
            "weights_sha256": last,
            "rollouts": self.fingerprint,
            "knowledge": digest16(self.used.tobytes()).hex(),
        }
        write_json(self.folder / "summary.json", summary)
        return summary

    def _fill(
        self, episodes: Sequence[tuple[Episode, NDArray[np.int64] | None]], knowledge: KnowledgeSet
    ) -> SelectiveReplay:
        settings = self.settings
        pool = FramePool(settings.view, settings.replay.pool_frames)
        size = forecast_bytes(pool.view, pool.capacity) / 2**30
        print(f"train: frame pool of {pool.capacity:,} frames, {size:.2f} GiB; reading {len(episodes)} episodes")
        advise = partial(expert_actions, frame_skip=settings.frame_skip) if settings.asks_driver else None
        replay = SelectiveReplay(pool, settings.replay, settings.seed, advise)
        for episode, visible in episodes:
            self._stop.check(self._done, saved=False)
            replay.add(episode, knowledge, visible)
        known = pool.mask_valid[: pool.size].float().mean().item() if pool.size else 0.0
        print(
            f"train: {len(replay):,} transitions admitted of {replay.offered:,}; {known:.1%} of frames have knowledge"
        )
        if self.state is None:  # before an update is spent on a buffer that starves
            print(*(f"train: {complaint}\n" for complaint in complaints(replay.composition(0, 0.0), 0)), sep="", end="")
        if not known:
            made = annotate_command(settings, settings.knowledge)
            raise SemoreError(f"no frame has knowledge in set {settings.knowledge!r}; annotate first: `{made}`")
        return replay

    def _fit(self, course: TrainLoop, done: int) -> None:
        with open_loggers(self.settings, done) as loggers:
            fit(self.module, range(done, self.settings.schedule.updates), self.device, loggers, course)

    def _save(self, course: TrainLoop) -> None:
        agent = self.agent
        if course.best_update == agent.updates:
            best = {"weights": course.best_weights, "updates": agent.updates, "reward": course.best_reward}
            save_checkpoint(self.folder / "best.ckpt", {"identity": self.identity, "agent": best})
        save_checkpoint(
            self.checkpoint,
            {
                "identity": self.identity,
                "agent": {"weights": agent.state_dict(), "updates": agent.updates},
                "optimizers": [optimizer.state_dict() for optimizer in agent.optimizers],
                "replay": self.replay.state(),
                "refreshed": {"recorded": self.refresh.recorded, "pending": self.refresh.backlog.pending},
                "course": course.state(),
                "sums": (self.module.sums, self.module.counts),
                "random": torch.get_rng_state(),
                "seconds": self._seconds(),
                "knowledge": digest16(self.used.tobytes()).hex(),
            },
        )

    def _seconds(self) -> float:
        """Time spent on the run, in earlier processes too."""
        return self._earlier + time.monotonic() - self._started

    def _restore(self, state: dict[str, Any], course: TrainLoop) -> None:
        agent = self.agent
        agent.load_state_dict(state["agent"]["weights"])
        agent.updates = int(state["agent"]["updates"])
        for optimizer, saved in zip(agent.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.replay.restore(state["replay"])
        course.restore(state["course"])
        self.module.sums, self.module.counts = state["sums"]
        torch.set_rng_state(state["random"])


def _check_world(episodes: Sequence[Episode], settings: TrainSettings, world: dict[str, str]) -> None:
    """SemoreError when an episode was recorded in another world than the policy will drive in."""
    scenario, weather = scenario_and_weather(settings.scenario, settings.weather)
    wanted = {"scenario": scenario.name, "weather": weather.name, **world}
    for episode in episodes:
        for key, value in wanted.items():
            if episode.attributes.get(key) != value:
                raise SemoreError(
                    f"{episode.path} was recorded with {key} {episode.attributes.get(key)!r}, the policy would drive "
                    f"with {value!r}; give the --scenario, --weather and --simulator that it was recorded with, or "
                    "other --rollouts, or record anew with this version"
                )


def _claim(settings: TrainSettings, fingerprint: str) -> None:
    """Write the run's settings, or check that they are the ones it was started with.

    A run that ended before its first checkpoint binds nobody: there is nothing of it to go on from. A setting that a
    run of an earlier version did not know is at its default.
    """
    path = settings.folder / "settings.json"
    begun = any((settings.folder / name).exists() for name in ("last.ckpt", "summary.json"))
    wanted = hyperparameters(settings) | {"rollouts_fingerprint": fingerprint}
    if not (begun and path.exists()):
        write_json(path, {"settings": as_dict(settings), "identity": wanted, "environment": environment()})
        return
    found = hyperparameters(TrainSettings()) | read_json(path)["identity"]
    if digest_json(found) != digest_json(wanted):
        changed = ", ".join(
            f"{key} {found.get(key)!r} → {wanted.get(key)!r}"
            for key in sorted(found.keys() | wanted.keys())
            if found.get(key) != wanted.get(key)
        )
        raise SemoreError(f"{settings.folder} was started with other settings ({changed}); choose another --run NAME")


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (libraries may draw from it)
    torch.manual_seed(seed)
