"""Evaluate a run on paired test seeds, beside blind and privileged rows; writes evaluation.csv and a video."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from collect.behaviour import load_view
from collect.carla.settings import CarlaSettings
from collect.simulator import worker_count
from datasets.errors import SemoreError
from datasets.files import read_json
from datasets.schema import SEED_SPLITS
from datasets.settings import load_settings, run_command
from evaluate.episodes import Row, RunCourse, by_policy, evaluate_policies
from evaluate.policies import POLICIES
from evaluate.statistics import estimate, paired_difference
from evaluate.video import film
from train.settings import run_folder

METRICS = ("reward", "distance", "crash_intensity", "steer", "brake")


@dataclass(frozen=True)
class EvaluateSettings:
    """What to evaluate, and on how many episodes."""

    preset: str = "laptop"
    """A file of presets/ by name, or a path to a YAML file."""
    scenario: str = "JayWalk"
    """Scenario to drive."""
    weather: str = ""
    """Weather preset; default what the run was trained in."""
    simulator: str = ""
    """The world to drive in: embedded, or carla; default what the run was trained in."""
    runs: str = "runs"
    """Folder of all runs."""
    run: str = ""
    """Name of the run; default <scenario>-<preset>."""
    policies: tuple[str, ...] = tuple(POLICIES)
    """Rows of the table."""
    episodes: int = 50
    """Test seeds, the same for every policy."""
    workers: int = 2
    """Worker processes; with carla there is one per server."""
    carla: CarlaSettings = field(default_factory=CarlaSettings)
    """CARLA servers; only looked at with simulator carla."""
    video: bool = True
    """Film the first test episode of the trained policy."""

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return run_folder(self.runs, self.run, self.scenario, self.preset)

    def validate(self) -> None:
        """SemoreError naming the first setting that makes no sense."""
        unknown = set(self.policies) - set(POLICIES)
        if unknown or not self.policies:
            raise SemoreError(f"unknown policies {sorted(unknown)}; choose from {', '.join(POLICIES)}")
        test = SEED_SPLITS["test"]
        if not 1 <= self.episodes <= len(test) or self.workers < 1:
            raise SemoreError(f"episodes {self.episodes} must be 1 to {len(test)}, workers {self.workers} at least 1")
        if not (self.folder / "policy.pt2").exists():
            raise SemoreError(f"{self.folder} holds no trained policy; run `make train` or choose another --run")


def results(rows: Sequence[Row], title: str) -> Table:
    """Mean ± std over episodes of every metric, the reward's 95% interval, and how the episodes ended."""
    table = Table(
        "policy", "reward", "95% interval", "distance m", "crash N·s", "steer", "brake", "endings", title=title
    )
    for policy, own in by_policy(rows).items():
        reward, distance, crash, steer, brake = (estimate([getattr(row, name) for row in own]) for name in METRICS)
        endings = Counter(row.ending for row in own)
        table.add_row(
            policy,
            f"{reward.mean:.1f} ± {reward.std:.1f}",
            f"{reward.low:.1f} … {reward.high:.1f}",
            f"{distance.mean:.0f} ± {distance.std:.0f}",
            f"{crash.mean:.0f} ± {crash.std:.0f}",
            f"{steer.mean:.3f}",
            f"{brake.mean:.3f}",
            ", ".join(f"{ending} {count}" for ending, count in endings.most_common()),
        )
    return table


def differences(rows: Sequence[Row]) -> Table:
    """Reward of the trained policy minus each other one on the same seeds: ahead when the interval is above 0."""
    groups = by_policy(rows)
    ours = [row.reward for row in groups["trained"]]
    table = Table("trained minus", "reward", "95% interval", "verdict", title="paired differences")
    for policy, own in groups.items():
        if policy != "trained":
            difference = paired_difference(ours, [row.reward for row in own])
            interval = f"{difference.low:+.1f} … {difference.high:+.1f}"
            table.add_row(policy, f"{difference.mean:+.1f}", interval, difference.verdict)
    return table


def _mask_line(folder: Path) -> str:
    mask = read_json(folder / "summary.json")["student_mask"]
    if mask is None:
        return "student mask: no loss teaches one, or the held-out episodes show no object"
    verdict = "healthy" if mask["healthy"] else "NOT healthy"
    return (
        f"student mask: AUC {mask['student_auc']:.3f}, constant map {mask['constant_auc']:.3f}, difference's 95% "
        f"interval {mask['difference_low']:+.3f} … {mask['difference_high']:+.3f}: {verdict}"
    )


def main() -> None:
    settings = load_settings(EvaluateSettings, "evaluate")
    settings.validate()
    folder, view = settings.folder, load_view(settings.folder)
    own_world = view.get("simulator", "embedded")
    simulator = settings.simulator or own_world
    elsewhere = "" if simulator == own_world else f"-{simulator}"
    course = RunCourse(
        folder, settings.scenario, settings.weather or view["weather"], view["reward"], simulator, settings.carla
    )
    first = SEED_SPLITS["test"].start
    seeds = range(first, first + settings.episodes)
    table = folder / f"evaluation{elsewhere}.csv"
    workers = worker_count(simulator, settings.workers, settings.carla)
    rows = evaluate_policies(course, settings.policies, seeds, table, workers)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(results(rows, f"{folder}: {settings.scenario}, {rows[0].weather}, {settings.episodes} test seeds"))
    if "trained" in settings.policies and settings.episodes > 1:
        console.print(differences(rows))
    console.print(_mask_line(folder), highlight=False)
    video = folder / f"{settings.scenario}-{rows[0].weather}-{first}{elsewhere}.mp4"
    if settings.video and not video.exists():
        film(course, first, video)
    print(f"every episode: {table}" + (f"; video: {video}" if settings.video else ""))
    print(f"next: look at the curves with `.venv/bin/tensorboard --logdir {settings.runs}`, or train another scenario")


if __name__ == "__main__":
    run_command(main)
