"""Evaluate a run on paired test seeds, beside blind and privileged rows; writes evaluation.csv and a video."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from rich.console import Console

from semore.collect.carla.settings import CarlaSettings
from semore.collect.policies import load_view
from semore.collect.simulators import worker_count
from semore.datasets.atomic_io import read_json
from semore.datasets.errors import SemoreError
from semore.datasets.hints import command
from semore.datasets.names import run_path
from semore.datasets.rollouts.schema import SEED_SPLITS
from semore.datasets.run_command import run_command
from semore.datasets.settings import load_settings
from semore.evaluate.episodes import RunCourse, evaluate_courses, read_rows
from semore.evaluate.policies import ON_REQUEST, POLICIES
from semore.evaluate.run_commands import evaluate_command, require_policy
from semore.evaluate.table import differences, failures, results


@dataclass(frozen=True)
class EvaluateSettings:
    """What to evaluate, and on how many episodes."""

    stage = "evaluate"  # the section of presets that is read for it

    preset: str = "laptop"
    """A file of presets/ by name, or a path to a YAML file."""
    method: str = "semore"
    """With preset, scenario and simulator the name of the run, when none is given."""
    scenario: str = "JayWalk"
    """Scenario to drive."""
    weather: str = ""
    """Weather preset; default what the run was trained in."""
    scenarios: tuple[str, ...] = ()
    """Drive these scenarios instead, each in every one of the weathers."""
    weathers: tuple[str, ...] = ()
    """Drive in these weathers instead."""
    simulator: str = ""
    """The world to drive in: embedded, or carla; default what the run was trained in."""
    runs: str = "runs"
    """Folder of all runs."""
    run: str = ""
    """Name of the run; default <scenario>-<preset>."""
    policies: tuple[str, ...] = tuple(name for name in POLICIES if name not in ON_REQUEST)
    """Rows of the table; besides these there is fast_short_sighted_driver."""
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
        """The run's folder; of a run that this world did not train, the one of the embedded world."""
        own = run_path(self.runs, self.run, self.scenario, self.preset, self.method, self.simulator)
        elsewhere = run_path(self.runs, self.run, self.scenario, self.preset, self.method)
        return elsewhere if elsewhere.exists() and not own.exists() else own

    def validate(self) -> None:
        """SemoreError naming the first setting that makes no sense."""
        unknown = set(self.policies) - set(POLICIES)
        if unknown or not self.policies:
            raise SemoreError(f"unknown policies {sorted(unknown)}; choose from {', '.join(POLICIES)}")
        test = SEED_SPLITS["test"]
        if not 1 <= self.episodes <= len(test) or self.workers < 1:
            raise SemoreError(f"episodes {self.episodes} must be 1 to {len(test)}, workers {self.workers} at least 1")
        require_policy(self.folder, self)
        if not self.rows:
            raise SemoreError(f"policy untrained needs the run's {self.folder / 'settings.json'}, which is not there")

    @property
    def rows(self) -> tuple[str, ...]:
        """Those of the policies that can be driven: a policy without its run's settings has no untrained twin."""
        known = (self.folder / "settings.json").exists()
        return tuple(name for name in self.policies if known or name != "untrained")


def _mask_line(folder: Path) -> str:
    summary = folder / "summary.json"
    if not summary.exists():
        return f"student mask: unknown, as all of its training: there is no {summary}"
    mask = read_json(summary)["student_mask"]
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
    weather = settings.weather or view["weather"]
    courses = [
        RunCourse(folder, scenario, weather, view["reward"], simulator, settings.carla)
        for scenario, weather in product(settings.scenarios or (settings.scenario,), settings.weathers or (weather,))
    ]
    first = SEED_SPLITS["test"].start
    seeds = range(first, first + settings.episodes)
    table = folder / f"evaluation{elsewhere}.csv"
    workers = worker_count(simulator, settings.workers, settings.carla)
    from semore.evaluate.film.video import film, noted  # imageio and matplotlib, when it is clear what to drive

    everything = evaluate_courses(courses, settings.rows, seeds, table, workers)
    console = Console(width=None if sys.stdout.isatty() else 140)
    for scenario, weather in dict.fromkeys((row.scenario, row.weather) for row in everything):
        rows = [row for row in everything if (row.scenario, row.weather) == (scenario, weather)]
        console.print(results(rows, f"{folder}: {scenario}, {weather}, {settings.episodes} test seeds"))
        if "trained" in settings.policies and settings.episodes > 1 and (compared := differences(rows)):
            console.print(compared)
        if failed := failures(rows):
            console.print(failed, highlight=False)
    console.print(_mask_line(folder), highlight=False)
    video = folder / f"{everything[0].scenario}-{everything[0].weather}-{first}{elsewhere}.mp4"
    if settings.video and not (video.exists() and noted(courses[0].policy_digest, video)):
        film(courses[0], first, video)
    print(f"every episode: {table}" + (f"; video: {video}" if settings.video else ""))
    print(f"next: {next_step(folder)}")


def next_step(folder: Path) -> str:
    """What can be done with an evaluated run, as far as its folder holds what that reads."""
    told = ("settings.json", "summary.json", "metrics.csv")
    if missing := [name for name in told if not (folder / name).exists()]:
        return f"bring {', '.join(missing)} of its training run into {folder}: report and compare read them, too"
    if not any(row.policy == "trained" for row in read_rows(folder / "evaluation.csv")):
        return evaluate_command(folder)
    return command("report", {"runs": (str(folder),)})


if __name__ == "__main__":
    run_command(main)
