"""A run's provenance: code, data, machine, time, and an estimate of its energy."""

from __future__ import annotations

from dataclasses import dataclass

from semore.evaluate.runs import Run

DETAILS = ("torch", "numpy", "numba", "gymnasium", "pytorch-lightning", "python")


@dataclass(frozen=True)
class Source:
    """Printable facts about a run; times in seconds, energy in watt-hours."""

    run: Run
    code: str
    machine: str
    packages: str
    rollouts: str
    knowledge: str
    weights: str
    seconds: float
    cores: int
    watt_hours: float


def source_of(run: Run, watts: float) -> Source:
    """CPU time is estimated as training's wall time on all its threads."""
    cores = max(1, int(run.settings.get("threads", 1) or 1))
    training = float(run.summary.get("seconds", 0.0))
    environment = run.environment
    return Source(
        run,
        environment.get("semore", "unknown"),
        environment.get("machine", "unknown"),
        ", ".join(f"{name} {environment[name]}" for name in DETAILS if name in environment),
        str(run.summary.get("rollouts", "unknown")),
        str(run.summary.get("knowledge", "unknown")),
        str(run.summary.get("weights_sha256", "unknown")),
        training,
        cores,
        training * cores * watts / 3600,
    )
