"""The Lightning module: one manual update per step, and what happens between updates.

Between updates the policy refreshes its data, metrics are logged, validation drives, and checkpoints are saved."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from semore.datasets.disk_space import room_for
from semore.datasets.frame_pool import FramePool
from semore.datasets.knowledge.records import Digests
from semore.datasets.progress import Meter
from semore.train.health import MaskQuality, complaints, driving_signs, vital_signs
from semore.train.learner import Learner
from semore.train.log import Speed
from semore.train.online import Refresh, Validation
from semore.train.replay import SelectiveReplay
from semore.train.settings import TrainSettings
from semore.train.stopping import Stop
from semore.train.visualize import draw, save

CHECKED = 256
"""Newest transitions on which the network's vital signs are taken."""


class Semore(lightning.LightningModule):
    """Agent, replay and schedule. Updates are manual; the data loader only counts them."""

    def __init__(self, settings: TrainSettings, agent: Learner, replay: SelectiveReplay) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.settings, self.agent, self.replay = settings, agent, replay
        side = settings.view.size
        self._frames = torch.empty(4 * settings.schedule.batch, 3, side, side, dtype=torch.uint8)
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def training_step(self, update: int) -> None:
        """Sample here, not in the loader: what a refresh adds is in the very next batch."""
        # All batches in one buffer; but a copy to a GPU may still be under way when the next batch is drawn.
        frames = self._frames if self.device.type == "cpu" else None
        batch = self.replay.sample(self.settings.schedule.batch, frames)
        batch = type(batch)(*(part.to(self.device, non_blocking=True) for part in batch))
        schedule, updates = self.settings.schedule, self.agent.updates
        losses = self.agent.update(batch, schedule.weights(updates), watch=(updates + 1) % schedule.log_every == 0)
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


class TrainLoop(lightning.Callback):
    """Everything between updates, in a fixed order: average, refresh, log, validate, draw, save."""

    def __init__(
        self,
        settings: TrainSettings,
        agent: Learner,
        refresh: Refresh,
        validation: Validation,
        save: Callable[[], None],
        progress: Meter,
        keep: Callable[[Sequence[Digests]], None],
        stop: Stop,
    ) -> None:
        """`save` writes a checkpoint; `keep` takes the digests of cache records that the run has come to rest on; after
        the update at which `stop` is asked for there is a checkpoint, and no other update."""
        self._settings, self._refresh, self._validation = settings, refresh, validation
        self._save, self._progress, self._keep, self._stop = save, progress, keep, stop
        self._averaged = AveragedModel(agent, multi_avg_fn=get_ema_multi_avg_fn(settings.schedule.averaging))
        self._speed = Speed()
        self._said: set[str] = set()
        self.best_reward = float("-inf")
        self.best_update = 0
        self.best_weights: dict[str, Tensor] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._stop.listen()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module = pl_module
        assert isinstance(module, Semore)
        schedule, agent = self._settings.schedule, module.agent
        update = agent.updates
        self._averaged.update_parameters(agent)
        self._progress.advance(1)
        entry: dict[str, float] = {}
        refreshes, validates = schedule.refreshes(update), schedule.validates(update)
        if refreshes:
            entry |= self._refresh.drive(agent, module.replay)
        self._keep(self._refresh.learn(update, module.replay))
        if update % schedule.log_every == 0:
            share = agent.student_share(schedule.weights(update))
            entry |= module.drain() | module.replay.composition(update, share)
            entry |= self._speed.since_last(update, entry["replay/offered"])
            entry |= self._health(module, entry)
        if validates:
            entry |= self._validate(module)
        with room_for(self._settings.folder / "tensorboard"):  # the other files say so themselves
            for logger in trainer.loggers:
                if entry:
                    logger.log_metrics(entry, update)
            if schedule.picture_every and update % schedule.picture_every == 0:
                self._draw(trainer, module)
        stops = self._stop.asked  # a signal that comes from here on is for after the next update
        if stops or refreshes or validates or update % schedule.save_every == 0:
            self._save()
        if stops:
            self._stop.check(update, saved=True)

    def _draw(self, trainer: lightning.Trainer, module: Semore) -> None:
        picture, update = draw(module.agent, module.replay), module.agent.updates
        save(picture, self._settings.folder / "pictures" / f"update-{update:06d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("what the network sees", picture, update, dataformats="HWC")

    def state(self) -> dict[str, Any]:
        return {
            "best_reward": self.best_reward, "best_update": self.best_update, "best_weights": self.best_weights,
            "averaged": self._averaged.state_dict(),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.best_reward, self.best_update = state["best_reward"], state["best_update"]
        self.best_weights = state["best_weights"]
        self._averaged.load_state_dict(state["averaged"])

    def _health(self, module: Semore, entry: dict[str, float]) -> dict[str, float]:
        replay = module.replay
        signs = vital_signs(module.agent, replay.pool.observation(replay.latest(CHECKED)).to(module.device))
        signs |= driving_signs(replay.pool, module.agent.settings.gamma)
        for complaint in complaints(entry | signs, module.agent.updates):
            name = complaint.partition(":")[0]
            if name not in self._said:
                self._said.add(name)
                self._progress.say(f"update {module.agent.updates}: {complaint}")
        return signs

    def mask_quality(self, agent: Learner, pool: FramePool, resamples: int) -> MaskQuality | None:
        """The student's mask on held-out episodes, against the constant map of the training pool's means; None where no
        loss teaches it."""
        if not agent.teaches_mask:
            return None
        known = pool.masks[: pool.size][pool.mask_valid[: pool.size]]
        constant = known.float().mean(0).div(255.0) if len(known) else torch.zeros(pool.masks.shape[1:])
        return self._validation.mask(agent, constant.numpy(), resamples)

    def _validate(self, module: Semore) -> dict[str, float]:
        """The averaged agent's: single iterates swing by half the reward within a few hundred updates."""
        agent = self._averaged.module
        assert isinstance(agent, Learner)
        agent.updates = update = module.agent.updates
        means = self._validation.drive(agent)
        if means["validation/reward"] > self.best_reward or not self.best_weights:
            self.best_reward, self.best_update = means["validation/reward"], update
            self.best_weights = copy.deepcopy({name: value.cpu() for name, value in agent.state_dict().items()})
        # The interval takes seconds, and waits for the end.
        quality = self.mask_quality(agent, module.replay.pool, resamples=0)
        text = ""
        if quality is not None:
            means |= {"health/student_auc": quality.student, "health/constant_auc": quality.constant}
            text = f", student mask AUC {quality.student:.3f} (constant map {quality.constant:.3f})"
        self._progress.say(
            f"update {update}: validation reward {means['validation/reward']:.1f}, distance "
            f"{means['validation/distance']:.0f} m, crash intensity {means['validation/crash_intensity']:.0f} N·s{text}"
        )
        return means
