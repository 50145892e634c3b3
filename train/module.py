"""The Lightning module: one manual update per step. What happens between updates are callbacks (train.course)."""

from __future__ import annotations

import pytorch_lightning as lightning

from semore.train.batches import batches
from semore.train.captured import Update
from semore.train.learner import Learner
from semore.train.log import Means
from semore.train.replay import SelectiveReplay
from semore.train.schedule import ScheduleSettings


class Semore(lightning.LightningModule):
    """Agent, replay and schedule. Updates are manual; the data loader only counts them."""

    def __init__(
        self, schedule: ScheduleSettings, agent: Learner, replay: SelectiveReplay, update: Update | None = None
    ) -> None:
        """`update` is how the agent's is done (None: as it stands); the agent is where it will learn."""
        super().__init__()
        self.automatic_optimization = False
        self.schedule, self.agent = schedule, agent
        side = agent.settings.encoder.size
        self._draw, self._update = batches(replay, schedule.batch, side, agent.device), update or agent.update
        self.losses = Means()

    def training_step(self, update: int) -> None:
        """Sample, update, note the losses. Sampled here, not in the loader: the next batch may have what a refresh
        adds."""
        weights, watch = self.schedule.weights(update), (update + 1) % self.schedule.log_every == 0
        self.losses.add(self._update(self._draw(), weights, watch))

    def configure_optimizers(self) -> None:
        """None for Lightning: the agent owns its three optimisers and steps them in its update."""
