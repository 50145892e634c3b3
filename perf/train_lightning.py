"""What Lightning adds to an update: the same agent and batches in a plain loop and through train.run's module."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, pairwise
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytorch_lightning as lightning
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from semore.datasets.frame_pool import Batch
from semore.train.agent import Agent
from semore.train.agent_settings import AgentSettings, LossWeights
from semore.train.lightning_trainer import fit
from semore.train.log import MetricsFile
from semore.train.module import Semore
from semore.train.replay import SelectiveReplay
from semore.train.schedule import ScheduleSettings


class TimedAgent(Agent):
    """Agent that notes how long each of its updates took."""

    def __init__(self, settings: AgentSettings) -> None:
        super().__init__(settings)
        self.spent: list[float] = []

    def update(self, batch: Batch, weights: LossWeights, watch: bool = False) -> dict[str, Tensor]:
        start = time.perf_counter()
        losses = super().update(batch, weights, watch)
        self.spent.append(time.perf_counter() - start)
        return losses


class Steps(NamedTuple):
    """Seconds of a step through Lightning, and how many of them were not the update itself (median)."""

    each: float
    overhead: float


class _Ready:
    """Stands for the replay buffer and deals the same batches round and round."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = cycle(batches)
        self.pool = SimpleNamespace(view=SimpleNamespace(window=batches[0].frames.shape[1]))

    def sample(self, batch: int, frames: Tensor) -> Batch:
        return next(self._batches)


class _Ends(lightning.Callback):
    """When each step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.times.append(time.perf_counter())


def through_lightning(agent: TimedAgent, batches: Sequence[Batch], steps: int) -> Steps:
    """`steps` updates by train.run's trainer, module, loader and loggers, without the log, refresh, validation and
    checkpoint that the run's callback adds now and then; the first step and the trainer's start don't count."""
    schedule = ScheduleSettings(updates=steps, offline_updates=0, batch=len(batches[0].action), cloning=0.0)
    replay = cast(SelectiveReplay, _Ready(batches))
    module, ends = Semore(schedule, agent, replay), _Ends()
    with tempfile.TemporaryDirectory() as folder:
        loggers = [MetricsFile(Path(folder) / "metrics.csv", 0), TensorBoardLogger(folder, name="", version="t")]
        fit(module, range(steps), torch.device("cpu"), loggers, [ends])
    whole = [after - before for before, after in pairwise(ends.times)]
    beside = [step - inside for step, inside in zip(whole, agent.spent[-len(whole) :], strict=True)]
    return Steps(sum(whole) / len(whole), median(beside))
