"""What a run's metrics go to: a CSV file, TensorBoard and, when asked for, Weights & Biases."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from semore.datasets.atomic_io import write_text
from semore.datasets.disk_space import room_for
from semore.datasets.errors import SemoreError
from semore.datasets.settings import as_dict
from semore.train.settings import TrainSettings


class RunTensorBoard(TensorBoardLogger):
    """TensorBoard's files of a run, in <folder>/tensorboard. SemoreError when there is no room for them."""

    def __init__(self, folder: Path, done: int) -> None:
        """What it has of later updates than `done` does not count: their part of the run is done again."""
        super().__init__(folder, name="", version="tensorboard", purge_step=done + 1)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        with room_for(Path(self.log_dir)):
            super().log_metrics(metrics, step)

    def log_picture(self, picture: NDArray[np.uint8], step: int) -> None:
        """What the network sees, (H, W, 3)."""
        with room_for(Path(self.log_dir)):
            self.experiment.add_image("what the network sees", picture, step, dataformats="HWC")


@contextmanager
def open_loggers(settings: TrainSettings, done: int) -> Iterator[list[Logger]]:
    """The loggers, beside metrics.csv, of a run that goes on after `done` updates; SemoreError when wandb is asked for
    and missing."""
    folder = settings.folder
    tensorboard = RunTensorBoard(folder, done)
    wandb = _wandb(settings) if settings.wandb else None
    ended = 1
    try:
        yield [tensorboard, *([wandb] if wandb else [])]
        ended = 0
    finally:
        if wandb is not None:  # else the next run of this process would be logged into this one
            import_module("wandb").finish(exit_code=ended)


def _wandb(settings: TrainSettings) -> WandbLogger:
    """Under the run's own id: a run that is resumed goes on there too, instead of being a new one."""
    if find_spec("wandb") is None:
        raise SemoreError("wandb was asked for and is not installed: .venv/bin/pip install wandb")
    return WandbLogger(
        name=settings.folder.name, project="semore", save_dir=settings.folder, config=as_dict(settings),
        id=_identity(settings.folder / "wandb_id"), resume="allow",
    )  # fmt: skip


def _identity(path: Path) -> str:
    """The run's id, made up when it is first needed."""
    if not path.exists():
        write_text(path, secrets.token_hex(8) + "\n")
    return path.read_text(encoding="utf-8").strip()
