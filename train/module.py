"""The Lightning side: one manual update per step, and what happens between updates (log, refresh, validate, save)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor

from datasets.progress import Meter
from train.agent import Agent
from train.diagnosis import MaskQuality, complaints, vital_signs
from train.online import Refresh, Validation
from train.replay import SelectiveReplay
from train.settings import TrainSettings

CHECKED = 256
"""Newest transitions on which the network's vital signs are taken."""


class Semore(lightning.LightningModule):
    """Agent, replay and schedule. Updates are manual; the data loader only counts them."""

    def __init__(self, settings: TrainSettings, agent: Agent, replay: SelectiveReplay) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.settings, self.agent, self.replay = settings, agent, replay
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def training_step(self, update: int) -> None:
        """Sample here, not in the loader: what a refresh adds is in the very next batch."""
        batch = self.replay.sample(self.settings.schedule.batch)
        batch = type(batch)(*(part.to(self.device, non_blocking=True) for part in batch))
        losses = self.agent.update(batch, self.settings.schedule.weights(self.agent.updates))
        # Summed on the device: nothing is read back, hence nothing waits, until the log is written.
        for name, value in losses.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def drain(self) -> dict[str, float]:
        """Mean losses since the last call."""
        means = {f"loss/{name}": (total / self.counts[name]).item() for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means

    def configure_optimizers(self) -> None:
        """None for Lightning: the agent owns its three optimisers and steps them in its update."""


class Course(lightning.Callback):
    """Everything between updates, in a fixed order: log, refresh, validate, save."""

    def __init__(
        self,
        settings: TrainSettings,
        refresh: Refresh,
        validation: Validation,
        save: Callable[[], None],
        progress: Meter,
    ) -> None:
        self._settings, self._refresh, self._validation = settings, refresh, validation
        self._save, self._progress = save, progress
        self._said: set[str] = set()
        self.best_reward = float("-inf")
        self.best_update = 0
        self.best_weights: dict[str, Tensor] = {}

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module = pl_module
        assert isinstance(module, Semore)
        schedule, agent = self._settings.schedule, module.agent
        update = agent.updates
        self._progress.advance(1)
        entry: dict[str, float] = {}
        if update % schedule.log_every == 0:
            entry |= module.drain() | module.replay.composition() | self._health(module)
        refreshes, validates = schedule.refreshes(update), schedule.validates(update)
        if refreshes:
            entry |= self._refresh(agent, module.replay)
        if validates:
            entry |= self._validate(module)
        for logger in trainer.loggers:
            if entry:
                logger.log_metrics(entry, update)
        if refreshes or validates:
            self._save()

    def state(self) -> dict[str, Any]:
        return {
            "best_reward": self.best_reward, "best_update": self.best_update, "best_weights": self.best_weights,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.best_reward, self.best_update = state["best_reward"], state["best_update"]
        self.best_weights = state["best_weights"]

    def _health(self, module: Semore) -> dict[str, float]:
        signs = vital_signs(
            module.agent, module.replay.pool.observation(module.replay.latest(CHECKED)).to(module.device)
        )
        for complaint in complaints(signs, module.agent.updates):
            name = complaint.partition(":")[0]
            if name not in self._said:
                self._said.add(name)
                self._progress.say(f"update {module.agent.updates}: {complaint}")
        return signs

    def mask_quality(self, module: Semore, resamples: int) -> MaskQuality | None:
        """The student's mask on held-out episodes, against the constant map of the training means."""
        pool = module.replay.pool
        known = pool.masks[: pool.size][pool.mask_valid[: pool.size]]
        constant = known.float().mean(0).div(255.0) if len(known) else torch.zeros(pool.masks.shape[1:])
        return self._validation.mask(module.agent, constant.numpy(), resamples)

    def _validate(self, module: Semore) -> dict[str, float]:
        agent = module.agent
        means = self._validation.drive(agent)
        if means["validation/reward"] > self.best_reward or not self.best_weights:
            self.best_reward, self.best_update = means["validation/reward"], agent.updates
            self.best_weights = copy.deepcopy({name: value.cpu() for name, value in agent.state_dict().items()})
        quality = self.mask_quality(module, resamples=0)  # the interval takes seconds, and waits for the end
        text = ""
        if quality is not None:
            means |= {"health/student_auc": quality.student, "health/constant_auc": quality.constant}
            text = f", student mask AUC {quality.student:.3f} (constant map {quality.constant:.3f})"
        self._progress.say(
            f"update {agent.updates}: validation reward {means['validation/reward']:.1f}, distance "
            f"{means['validation/distance']:.0f} m, crash intensity {means['validation/crash_intensity']:.0f} N·s{text}"
        )
        return means
