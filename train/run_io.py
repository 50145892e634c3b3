"""What others need of a run: its settings, and its agent before the first update."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from semore.datasets.atomic_io import read_json
from semore.datasets.settings import from_record
from semore.train.settings import TrainSettings

if TYPE_CHECKING:
    from semore.collect.network_policy import NetworkPolicy


def run_settings(run: Path) -> TrainSettings:
    """The settings a run was started with; SemoreError when they are missing or of another version."""
    return from_record(TrainSettings, read_json(run / "settings.json")["settings"])


def untrained_policy(run: Path) -> NetworkPolicy:
    """The run's network with its seed's initial weights."""
    import torch  # the settings of a run are read without it

    from semore.train.agent import make_agent
    from semore.train.online import acting

    settings = run_settings(run)
    torch.manual_seed(settings.seed)
    return acting(make_agent(settings.agent).eval(), settings)
