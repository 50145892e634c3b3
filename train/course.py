"""What happens after every update, in this order: average, refresh, log, validate, draw, save.

Each is a Lightning callback that does one thing and knows its own state, which the checkpoint gathers. This file has
the short ones; refreshing and validating have files of their own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pytorch_lightning as lightning
from numpy.typing import NDArray

from semore.datasets.progress import Meter
from semore.train.health import complaints, driving_signs, vital_signs
from semore.train.learner import Learner
from semore.train.log import Means, Speed
from semore.train.loggers import RunTensorBoard
from semore.train.replay import SelectiveReplay
from semore.train.schedule import ScheduleSettings
from semore.train.stopping import Stop
from semore.train.visualize import draw, save

CHECKED: Final = 256
"""Newest transitions on which the network's vital signs are taken."""

Say = Callable[[str], None]
"""Prints a line."""


class Entry(NamedTuple):
    """What the run's log is told of an update."""

    update: int
    values: Mapping[str, float]
    picture: NDArray[np.uint8] | None = None


class AfterUpdate(lightning.Callback):
    """Something that is done after every update."""

    def __init__(self, agent: Learner) -> None:
        self.agent = agent

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        for entry in self.after(self.agent.updates):
            for logger in trainer.loggers:
                if entry.values:
                    logger.log_metrics(dict(entry.values), entry.update)
                if entry.picture is not None and isinstance(logger, RunTensorBoard):
                    logger.log_picture(entry.picture, entry.update)

    def after(self, update: int) -> Iterable[Entry]:
        """Do it after update number `update` (from 1)."""
        raise NotImplementedError


class Averaging(AfterUpdate):
    """A running mean of the weights. Lightning's own WeightAveraging copies the whole module, replay buffer included,
    counts steps of optimisers that it drives itself, and leaves the mean in the agent's place at the end."""

    def __init__(self, agent: Learner, keeps: float) -> None:
        """The mean `keeps` this share of itself at each update but the first."""
        super().__init__(agent)
        self.mean = copy.deepcopy(agent)
        """The agent with the mean weights."""
        self._moves, self._begun = 1.0 - keeps, False

    def after(self, update: int) -> Iterable[Entry]:
        for mean, own in zip(self.mean.flats, self.agent.flats, strict=True):
            mean.follow(own, self._moves if self._begun else 1.0)
        self.mean.updates, self._begun = update, True
        return ()

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.mean.state_dict(), "begun": self._begun}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.mean.load_state_dict(state_dict["weights"])
        self._begun = state_dict["begun"]


class Logging(AfterUpdate):
    """Counts updates, and every so often tells of losses, what the buffer holds, speeds, and the agent's health. What
    is wrong with that is said once."""

    def __init__(
        self,
        agent: Learner,
        replay: SelectiveReplay,
        schedule: ScheduleSettings,
        losses: Means,
        waited: Callable[[], float],
        progress: Meter,
    ) -> None:
        """`waited()` are the seconds for which learning has stood still for driving."""
        super().__init__(agent)
        self._replay, self._schedule, self._losses, self._progress = replay, schedule, losses, progress
        self._waited = waited
        self._speed = Speed()
        self._said: set[str] = set()

    def after(self, update: int) -> Iterable[Entry]:
        self._progress.advance(1)
        if update % self._schedule.log_every:
            return
        share = self.agent.student_share(self._schedule.weights(update))
        entry = {f"loss/{name}": value for name, value in self._losses.drain().items()}
        entry |= self._replay.composition(update, share)
        entry |= self._speed.since_last(update, entry["replay/offered"], self._waited())
        signs = self._signs()
        self._complain(entry | signs, update)
        yield Entry(update, entry | signs)

    def _signs(self) -> dict[str, float]:
        seen = self._replay.pool.observation(self._replay.latest(CHECKED)).to(self.agent.device)
        return vital_signs(self.agent, seen) | driving_signs(self._replay.pool, self.agent.settings.gamma)

    def _complain(self, signs: dict[str, float], update: int) -> None:
        for complaint in complaints(signs, update, self.agent.settings.encoder.concatenates_mask):
            name = complaint.partition(":")[0]
            if name not in self._said:
                self._said.add(name)
                self._progress.say(f"update {update}: {complaint}")


class Drawing(AfterUpdate):
    """Every so often a picture of what the network sees."""

    def __init__(self, agent: Learner, replay: SelectiveReplay, every: int, folder: Path) -> None:
        super().__init__(agent)
        self._replay, self._every, self._folder = replay, every, folder

    def after(self, update: int) -> Iterable[Entry]:
        if self._every and update % self._every == 0:
            picture = draw(self.agent, self._replay)
            save(picture, self._folder / f"update-{update:06d}.png")
            yield Entry(update, {}, picture)


class Saving(AfterUpdate):
    """Every so often a checkpoint, also when a refresh or validation begins and when it counts. After the update at
    which `stop` is asked for there is one, and no other update."""

    def __init__(self, agent: Learner, schedule: ScheduleSettings, stop: Stop, save: Callable[[], None]) -> None:
        super().__init__(agent)
        self._schedule, self._stop, self._save = schedule, stop, save

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._stop.listen()

    def after(self, update: int) -> Iterable[Entry]:
        schedule = self._schedule
        stops = self._stop.asked  # a signal that comes from here on is for after the next update
        if stops or schedule.eventful(update) or update % schedule.save_every == 0:
            self._save()
        if stops:
            self._stop.check(update, saved=True)
        return ()
