"""One training run from its settings to its policy file: build or resume, train, export, summarise."""

from __future__ import annotations

import logging
import random
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from annotate.engine import annotator_for
from collect.scenarios import scenario_and_weather
from datasets.action_words import action_words
from datasets.device import torch_device
from datasets.errors import SemoreError
from datasets.files import atomic_file, digest16, digest_json, exclusive_lock, read_json, write_json
from datasets.frame_pool import FramePool, forecast_bytes
from datasets.knowledge import KnowledgeCache, KnowledgeSet, open_set
from datasets.progress import meter
from datasets.provenance import environment
from datasets.rollouts import Episode, Rollouts, rollouts_path
from datasets.settings import as_dict, flat
from train.agent import Agent
from train.checkpoint import export_policy, read_checkpoint, save_checkpoint, weights_digest
from train.log import MetricsFile
from train.module import Course, Semore
from train.online import HeldOut, Refresh, Validation, policy_view
from train.replay import SelectiveReplay
from train.settings import TrainSettings

FREE_TO_CHANGE = ("preset", "data", "runs", "run", "threads", "device")
"""Settings that may differ when a run is resumed."""


def train(settings: TrainSettings) -> dict[str, Any]:
    """Train the run, or finish it, or find it finished; returns the content of its summary.json.

    SemoreError when the run's folder belongs to other settings or data, or another process trains it.
    """
    settings.validate()
    folder = settings.folder
    rollouts = Rollouts(rollouts_path(settings.data, settings.rollouts, settings.scenario, settings.preset))
    episodes = list(rollouts.episodes())
    fingerprint = rollouts.fingerprint()
    _check_world(episodes, settings)
    with exclusive_lock(folder / ".lock", f"training of {folder}"):
        _claim(settings, fingerprint)
        if (folder / "summary.json").exists():
            print(f"train: {folder} is finished; nothing to do (another one: --run NAME)")
            summary: dict[str, Any] = read_json(folder / "summary.json")
            return summary
        return _Run(settings, episodes, fingerprint).finish()


class _Run:
    """The objects of a run, wired together."""

    def __init__(self, settings: TrainSettings, episodes: Sequence[Episode], fingerprint: str) -> None:
        self.settings, self.fingerprint, self.folder = settings, fingerprint, settings.folder
        self.device = torch_device(settings.device)
        torch.set_num_threads(settings.threads)
        _seed(settings.seed)
        self.agent = Agent(settings.agent)
        cache = KnowledgeCache(Path(settings.data) / "knowledge")
        knowledge = open_set(cache, settings.knowledge)
        annotator = annotator_for(knowledge)
        self.refresh = Refresh(settings, annotator, knowledge)
        self.knowledge_fingerprint = _pin_knowledge(self.folder / "knowledge_used.npy", episodes, knowledge)
        self.checkpoint = self.folder / "last.ckpt"
        state = read_checkpoint(self.checkpoint) if self.checkpoint.exists() else None
        training = [episode for episode in episodes if episode.attributes["split"] == "train"]
        training += self.refresh.restore(state["refreshed"] if state else [])
        self.replay = self._fill(training, knowledge)
        held_out = [episode for episode in episodes if episode.attributes["split"] == "validation"]
        self.validation = Validation(settings, HeldOut.of(settings, held_out, knowledge))
        self.module = Semore(settings, self.agent, self.replay)
        self.state = state
        self._started, self._earlier = time.monotonic(), float(state["seconds"]) if state else 0.0

    def finish(self) -> dict[str, Any]:
        """Train what is left, export the best policy, write and return the summary."""
        schedule, agent = self.settings.schedule, self.agent
        agent.to(self.device)
        label = f"train {self.folder.name}"
        done = int(self.state["agent"]["updates"]) if self.state else 0
        with meter(label, schedule.updates, "updates", done) as progress:
            course = Course(self.settings, self.refresh, self.validation, lambda: self._save(course), progress)
            if self.state:
                self._restore(self.state, course)
                progress.say(f"resuming at update {done}")
            self._fit(course, done)
        last = weights_digest(agent)
        agent.load_state_dict(course.best_weights)
        quality = course.mask_quality(self.module, resamples=200)
        export_policy(agent, self.folder / "policy.pt2", policy_view(self.settings) | {"update": course.best_update})
        summary = {
            "updates": agent.updates,
            "best_update": course.best_update,
            "best_validation_reward": course.best_reward,
            "student_mask": quality.as_dict() if quality else None,
            "seconds": round(self._seconds(), 1),
            "weights_sha256": last,
            "rollouts": self.fingerprint,
            "knowledge": self.knowledge_fingerprint,
        }
        write_json(self.folder / "summary.json", summary)
        return summary

    def _fill(self, episodes: Sequence[Episode], knowledge: KnowledgeSet) -> SelectiveReplay:
        settings = self.settings
        pool = FramePool(settings.view, settings.replay.pool_frames)
        size = forecast_bytes(pool.view, pool.capacity) / 2**30
        print(f"train: frame pool of {pool.capacity:,} frames, {size:.2f} GiB; reading {len(episodes)} episodes")
        replay = SelectiveReplay(pool, settings.replay, settings.seed)
        for episode in episodes:
            replay.add(episode, knowledge)
        known = pool.mask_valid[: pool.size].float().mean().item() if pool.size else 0.0
        print(
            f"train: {len(replay):,} transitions admitted of {replay.offered:,}; {known:.1%} of frames have knowledge"
        )
        if not known:
            raise SemoreError(f"no frame has knowledge in set {settings.knowledge!r}; run `make annotate` first")
        return replay

    def _fit(self, course: Course, done: int) -> None:
        tensorboard = TensorBoardLogger(self.folder, name="", version="tensorboard", purge_step=done + 1)
        for name in ("pytorch_lightning", "lightning.pytorch"):
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            # The loader only counts updates; Lightning's advice about its workers does not apply.
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            trainer = lightning.Trainer(
                accelerator="gpu" if self.device.type == "cuda" else "cpu",
                devices=1,
                max_epochs=1,
                logger=[MetricsFile(self.folder / "metrics.csv", done), tensorboard],
                callbacks=[course],
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            # A loader draws a seed when it starts; from the run's own stream, a resumed run would draw one too many.
            updates = range(done, self.settings.schedule.updates)
            loader: DataLoader[int] = DataLoader(updates, batch_size=None, generator=torch.Generator())  # type: ignore[arg-type]
            try:
                trainer.fit(self.module, loader)
            except SystemExit:  # Lightning's answer to Ctrl-C
                raise KeyboardInterrupt from None

    def _save(self, course: Course) -> None:
        agent = self.agent
        save_checkpoint(
            self.checkpoint,
            {
                "agent": {"weights": agent.state_dict(), "updates": agent.updates},
                "optimizers": [optimizer.state_dict() for optimizer in agent.optimizers],
                "replay": self.replay.state(),
                "refreshed": self.refresh.recorded,
                "course": course.state(),
                "sums": (self.module.sums, self.module.counts),
                "random": torch.get_rng_state(),
                "seconds": self._seconds(),
                "rollouts": self.fingerprint,
            },
        )

    def _seconds(self) -> float:
        """Time spent on the run, in earlier processes too."""
        return self._earlier + time.monotonic() - self._started

    def _restore(self, state: dict[str, Any], course: Course) -> None:
        agent = self.agent
        agent.load_state_dict(state["agent"]["weights"])
        agent.updates = int(state["agent"]["updates"])
        for optimizer, saved in zip(agent.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.replay.restore(state["replay"])
        course.restore(state["course"])
        self.module.sums, self.module.counts = state["sums"]
        torch.set_rng_state(state["random"])


def _check_world(episodes: Sequence[Episode], settings: TrainSettings) -> None:
    """SemoreError when an episode was recorded in another world than the policy will drive in."""
    scenario, weather = scenario_and_weather(settings.scenario, settings.weather)
    wanted = {"scenario": scenario.name, "weather": weather.name}
    for episode in episodes:
        for key, value in wanted.items():
            if episode.attributes.get(key) != value:
                raise SemoreError(
                    f"{episode.path} was recorded with {key} {episode.attributes.get(key)!r}, the policy would drive "
                    f"with {value!r}; give the same SCENARIO= and WEATHER= as to `make collect`, or other ROLLOUTS="
                )


def _claim(settings: TrainSettings, fingerprint: str) -> None:
    """Write the run's settings, or check that they are the ones it was started with.

    A run that ended before its first checkpoint binds nobody: there is nothing of it to go on from.
    """
    path = settings.folder / "settings.json"
    begun = any((settings.folder / name).exists() for name in ("last.ckpt", "summary.json"))
    wanted = {key: value for key, value in flat(as_dict(settings)) if key not in FREE_TO_CHANGE}
    wanted["rollouts_fingerprint"] = fingerprint
    if not (begun and path.exists()):
        write_json(path, {"settings": as_dict(settings), "identity": wanted, "environment": environment()})
        return
    found = read_json(path)["identity"]
    if digest_json(found) != digest_json(wanted):
        changed = ", ".join(
            f"{key} {found.get(key)!r} → {wanted.get(key)!r}"
            for key in sorted(found.keys() | wanted.keys())
            if found.get(key) != wanted.get(key)
        )
        raise SemoreError(f"{settings.folder} was started with other settings ({changed}); choose another --run NAME")


def _pin_knowledge(path: Path, episodes: Sequence[Episode], knowledge: KnowledgeSet) -> str:
    """Save the digests (M, 16) of the cache records that serve the run's rollouts, and return their fingerprint: the
    run's results name what they rest on, and a later clean-up of the cache can keep it."""
    used = []
    for episode in episodes:
        arrays = episode.read("digest", "state_digest", "action")
        frames, states = arrays["digest"][:-1], arrays["state_digest"][:-1]
        used.append(knowledge.record_digests_used(frames, states, action_words(arrays["action"])))
    digests = np.unique(np.concatenate(used), axis=0) if used else np.zeros((0, 16), np.uint8)
    with atomic_file(path) as temporary, open(temporary, "wb") as handle:
        np.save(handle, digests)
    return digest16(digests.tobytes()).hex()


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (libraries may draw from it)
    torch.manual_seed(seed)
