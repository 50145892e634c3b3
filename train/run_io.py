"""What others need of a run: its settings, and its agent before the first update."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semore.datasets.atomic_io import read_json
from semore.datasets.settings import from_record
from semore.train.settings import FORGOTTEN, TrainSettings

if TYPE_CHECKING:
    from semore.collect.network_policy import NetworkPolicy


def run_settings(run: Path) -> TrainSettings:
    """The settings a run was started with, but for those that this version has forgotten; SemoreError when they are
    missing or of another version."""
    written = read_json(run / "settings.json")["settings"]
    return from_record(TrainSettings, _without_forgotten(written))


def _without_forgotten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    return {
        name: _without_forgotten(value, f"{prefix}{name}.") if isinstance(value, dict) else value
        for name, value in values.items() if prefix + name not in FORGOTTEN
    }  # fmt: skip


def untrained_policy(run: Path) -> NetworkPolicy:
    """The run's network with its seed's initial weights."""
    import torch  # the settings of a run are read without it

    from semore.train.agent import make_agent
    from semore.train.online import World

    settings = run_settings(run)
    torch.manual_seed(settings.seed)
    return World.of(settings).policy(make_agent(settings.agent).eval())
