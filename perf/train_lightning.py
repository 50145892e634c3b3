"""What Lightning adds to an update: the same agent and batches in a plain loop and through train.run's module."""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any, cast

import pytorch_lightning as lightning
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from datasets.frame_pool import Batch
from perf.train_stack import Stack, make_agent, make_batches, plain_loop
from train.agent import Agent
from train.log import MetricsFile
from train.module import Semore
from train.replay import SelectiveReplay
from train.settings import ScheduleSettings, TrainSettings

SMALL: Stack = Stack(size=32, filters=4, batch=4)
"""So small an update that what a step costs beside it is measured well."""


class _Ready:
    """Stands for the replay buffer and deals the same batches round and round."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = cycle(batches)

    def sample(self, batch: int) -> Batch:
        return next(self._batches)


class _Ends(lightning.Callback):
    """When each step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.times.append(time.perf_counter())


def through_lightning(agent: Agent, batches: Sequence[Batch], steps: int) -> float:
    """Seconds of a step of train.run's trainer, module, loader and loggers, without the log, refresh, validation and
    checkpoint that the run's callback adds every so many updates, and without the trainer's start."""
    schedule = ScheduleSettings(updates=steps, offline_updates=0, batch=len(batches[0].action), cloning=0.0)
    replay = cast(SelectiveReplay, _Ready(batches))
    module, ends = Semore(TrainSettings(agent=agent.settings, schedule=schedule), agent, replay), _Ends()
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        trainer = lightning.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=1,
            logger=[MetricsFile(Path(folder) / "metrics.csv", 0), TensorBoardLogger(folder, name="", version="t")],
            callbacks=[ends],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        loader: DataLoader[int] = DataLoader(range(steps), batch_size=None, generator=torch.Generator())  # type: ignore[arg-type]
        trainer.fit(module, loader)
    return (ends.times[-1] - ends.times[0]) / (steps - 1)


def overhead(rounds: int, steps: int) -> float:
    """Seconds that Lightning adds to a step, median over rounds in which both take turns, on a small agent."""
    agent, batches = make_agent(Agent, SMALL), make_batches(SMALL, whole=False)
    loop = plain_loop(agent, batches)
    loop()
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(steps // len(batches)):
            loop()
        plain = (time.perf_counter() - start) / (steps // len(batches) * len(batches))
        found.append(through_lightning(agent, batches, steps + 1) - plain)
    return median(found)
