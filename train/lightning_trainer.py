"""The one place where Lightning is told what to do: train in this one process, whatever scheduler started it.

Lightning takes a process that SLURM started for one of many. It then saves into the current folder when SLURM warns,
loads from there what any run has left, wants the job's tasks to match its devices, and keeps the loggers of all tasks
but one silent. A run here is one process, has checkpoints of its own and resumes from them. So Lightning is told that
nobody but us started it; the environment stays as it is, for the processes that are started from here.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence

import pytorch_lightning as lightning
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers import Logger
from torch.utils.data import DataLoader


def fit(
    module: lightning.LightningModule,
    updates: range,
    device: torch.device,
    loggers: Sequence[Logger],
    callbacks: Sequence[lightning.Callback],
) -> None:
    """Call the module's training step once for each of `updates`, and then the callbacks in their order.
    KeyboardInterrupt on Ctrl-C."""
    _alone()
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # The loader only counts updates; Lightning's advice about its workers does not apply.
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        trainer = lightning.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            max_epochs=1,
            plugins=[LightningEnvironment()],
            logger=list(loggers),
            callbacks=list(callbacks),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        # A loader draws a seed when it starts; from the run's own stream, a resumed run would draw one too many.
        loader: DataLoader[int] = DataLoader(updates, batch_size=None, generator=torch.Generator())  # type: ignore[arg-type]
        try:
            trainer.fit(module, loader)
        except SystemExit:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from None


def _alone() -> None:
    """A plugin alone does not help: `fit` asks the class whether SLURM is there, and warns of an `srun` that is
    installed. The loggers' rank was read from the environment when Lightning was imported. For good, not for a while:
    on a cluster's worker several runs may train in threads of one process."""
    SLURMEnvironment.detect = staticmethod(_nobody)  # type: ignore[method-assign]
    vars(rank_zero_only)["rank"] = 0


def _nobody() -> bool:
    return False
