"""The commands that a run's folder lacks something of: train it to its end, drive its test episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semore.datasets.errors import SemoreError
from semore.datasets.hints import carried, choices, command
from semore.datasets.settings import changed
from semore.train.run_io import run_settings


def train_command(run: Path) -> str:
    """The command that goes on training the run in this folder, from the settings it was started with."""
    settings = run_settings(run)
    return command("train", changed(settings) | {"knowledge": settings.knowledge} | _named(run))


def evaluate_command(run: Path) -> str:
    """The command that drives the run's test episodes, in the scenario and world it was trained in."""
    return command("evaluate", choices(run_settings(run), "preset", "scenario", "carla") | _named(run))


def require_policy(run: Path, settings: Any) -> None:
    """SemoreError with the command that trains the run of these settings, when its folder holds no policy."""
    if (run / "policy.pt2").exists():
        return
    if (run / "settings.json").exists():
        made = train_command(run)
    else:
        names = choices(settings, "preset", "method", "scenario", "weather", "simulator", "runs", "run")
        made = command("train", carried() | names)
    raise SemoreError(f"{run} holds no trained policy; `{made}` trains it, or choose another --run")


def _named(run: Path) -> dict[str, Any]:
    return {"runs": str(run.parent), "run": run.name}
