"""The agent of a run before its first update, for the row that shows what training adds."""

from __future__ import annotations

from pathlib import Path

import torch

from semore.collect.policies import NetworkPolicy
from semore.datasets.atomic_io import read_json
from semore.datasets.settings import from_record
from semore.train.agent import Agent
from semore.train.online import acting
from semore.train.settings import TrainSettings


def run_settings(run: Path) -> TrainSettings:
    """The settings a run was started with; SemoreError when they are missing or of another version."""
    return from_record(TrainSettings, read_json(run / "settings.json")["settings"])


def untrained_policy(run: Path) -> NetworkPolicy:
    """The run's network with its seed's initial weights."""
    settings = run_settings(run)
    torch.manual_seed(settings.seed)
    return acting(Agent(settings.agent).eval(), settings)
