"""What others need of a run: its settings, and its agent before the first update or as a checkpoint has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semore.datasets.atomic_io import read_json
from semore.datasets.errors import SemoreError
from semore.datasets.settings import from_record
from semore.train.settings import FORGOTTEN, TrainSettings

if TYPE_CHECKING:
    from semore.collect.network_policy import NetworkPolicy
    from semore.train.learner import Learner


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


def trained_agent(run: Path, checkpoint: str = "best.ckpt") -> Learner:
    """The run's whole agent, critics and heads included, on the CPU: with `best.ckpt` the averaged weights that were
    best on validation seeds, with `last.ckpt` the newest ones. SemoreError when there is no such file (yet), when it is
    torn or of another version, or when its method or networks are not those of the run's settings."""
    from semore.train.agent import make_agent
    from semore.train.checkpoint import CHECKPOINT_VERSION, parts_of, read_checkpoint

    settings, path = run_settings(run), run / checkpoint
    if not path.exists():
        there = ", ".join(sorted(each.name for each in run.glob("*.ckpt"))) or "none"
        raise SemoreError(
            f"{path} does not exist (checkpoints there: {there}); wait for the run's first, or name another"
        )
    found = read_checkpoint(path, {"method": settings.method}, (CHECKPOINT_VERSION,))
    agent = make_agent(settings.agent)
    try:
        parts_of(agent)["agent"].restore(found["agent"])
    except RuntimeError as error:
        said = " ".join(str(error).split())[:200]
        raise SemoreError(
            f"{path} has other networks than this code makes of {run / 'settings.json'}: {said}"
        ) from None
    return agent.eval()
