"""The Lightning module: one manual update per step. What happens between updates are callbacks (train.course)."""

from __future__ import annotations

import pytorch_lightning as lightning
import torch

from semore.datasets.frame_pool import Batch
from semore.train.learner import Learner
from semore.train.log import Means
from semore.train.replay import SelectiveReplay
from semore.train.settings import ScheduleSettings


class Semore(lightning.LightningModule):
    """Agent, replay and schedule. Updates are manual; the data loader only counts them."""

    def __init__(self, schedule: ScheduleSettings, agent: Learner, replay: SelectiveReplay) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.schedule, self.agent, self.replay = schedule, agent, replay
        side = agent.settings.encoder.size
        self._frames = torch.empty(4 * schedule.batch, 3, side, side, dtype=torch.uint8)
        self.losses = Means()

    def training_step(self, update: int) -> None:
        """Sample, update, note the losses. Sampled here, not in the loader: the next batch may have what a refresh
        adds."""
        weights, watch = self.schedule.weights(update), (update + 1) % self.schedule.log_every == 0
        self.losses.add(self.agent.update(self._batch(), weights, watch))

    def configure_optimizers(self) -> None:
        """None for Lightning: the agent owns its three optimisers and steps them in its update."""

    def _batch(self) -> Batch:
        # All batches in one buffer; but a copy to a GPU may still be under way when the next batch is drawn.
        frames = self._frames if self.device.type == "cpu" else None
        batch = self.replay.sample(self.schedule.batch, frames)
        return Batch(*(part.to(self.device, non_blocking=True) for part in batch))
