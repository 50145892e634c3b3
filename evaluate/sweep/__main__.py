"""Train a run for every combination of chosen settings and seeds, and compare all on the same episodes.

For example `semore sweep --vary agent.lr=3e-4,1e-3 --seeds 1 2 3`. The same command resumes after an interruption."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from semore.collect.policies import load_view
from semore.collect.simulators import worker_count
from semore.datasets.atomic_io import read_json
from semore.datasets.command_line import read_settings
from semore.datasets.errors import SemoreError
from semore.datasets.hints import command
from semore.datasets.progress import meter
from semore.datasets.rollouts.schema import SEED_SPLITS
from semore.datasets.run_command import run_command
from semore.datasets.settings import changed
from semore.evaluate.episodes import Row, RunCourse, driven, evaluate_policies
from semore.evaluate.sweep.finished import Result
from semore.evaluate.sweep.points import PlannedRun, Point, base_values, plan, points_of, settings_of, with_finished
from semore.train.launch import train_runs
from semore.train.stopping import only_task_trains

FIRST_SEED: Final = {"validation": SEED_SPLITS["validation"].start + 2_000, "test": SEED_SPLITS["test"].start}
"""Validation episodes are none of those that training chooses its checkpoint on."""


@dataclass(frozen=True)
class ManyRuns:
    """Training runs that are compared with each other."""

    preset: str = "laptop"
    """Preset of the training runs: a file of presets/ by name, or a path to a YAML file."""
    scenario: str = "JayWalk"
    """Scenario to train and drive in."""
    base: tuple[str, ...] = ()
    """NAME=VALUE of a training setting, over the preset's, for all runs; may be given several times."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Training seeds of every point."""
    split: str = "validation"
    """Episodes to compare on: validation (for choosing settings), or test (for reporting them, once)."""
    episodes: int = 25
    """Episodes that every run drives, the same for all."""
    parallel: int = 0
    """Runs at once; 0: as many as there are GPUs, or cores for their `threads` each."""
    scheduler: str = "none"
    """none, local, tcp://... or a scheduler file: a Dask cluster that trains the runs."""
    workers: int = 2
    """Processes that drive the episodes."""
    runs: str = "runs"
    """Folder of all runs; these go to <runs>/<sweep>."""
    sweep: str = "sweep"
    """Name of the sweep. Its finished runs are not trained again, whichever of them the next call asks for."""

    def validate(self) -> None:
        """SemoreError naming the first setting that makes no sense."""
        if self.split not in FIRST_SEED:
            raise SemoreError(f"unknown split {self.split!r}; choose one of {', '.join(FIRST_SEED)}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise SemoreError(f"seeds {list(self.seeds)} must name at least one training seed, each once")
        if min(self.episodes, self.workers) < 1 or self.parallel < 0:
            raise SemoreError(
                f"episodes {self.episodes} and workers {self.workers} must be at least 1, parallel {self.parallel} 0"
            )
        for text in self.base:
            if "=" not in text:
                raise SemoreError(f"--base {text!r}: write NAME=VALUE, such as schedule.updates=2000")

    @property
    def folder(self) -> Path:
        """Where its runs and results are."""
        return Path(self.runs) / self.sweep


@dataclass(frozen=True)
class SweepSettings(ManyRuns):
    """What to vary, how often, and where to drive."""

    vary: tuple[str, ...] = ()
    """NAME=VALUE,VALUE,... of a training setting; may be given several times."""
    design: str = "grid"
    """grid (every combination), or single (the base, and one setting changed at a time)."""


def run_points(settings: ManyRuns, points: Sequence[Point]) -> list[Result]:
    """Train what is missing, drive the episodes, print and write tables and plot; the finished runs. SemoreError when a
    run failed, after everything else is done."""
    from semore.evaluate.sweep.results import draw, table, write_tables  # with matplotlib

    folder = settings.folder
    runs = plan(points, settings.preset, settings.scenario, settings.base, settings.seeds, folder)
    done, missing = with_finished(runs, folder)
    print(f"sweep {folder}: {len(points)} points × {len(settings.seeds)} seeds; {len(done)} runs are finished")
    failed = _train(settings, missing) if missing else {}
    order = {(run.point, run.settings.seed): place for place, run in enumerate(runs)}
    trained = [*done, *(run for run in missing if run.settings.folder not in failed)]
    results = [
        Result(run.point, run.settings.seed, run.settings.folder, _drive(settings, run), _summary(run))
        for run in sorted(trained, key=lambda run: order[run.point, run.settings.seed])
    ]
    if results:
        console = Console(width=None if sys.stdout.isatty() else 150, soft_wrap=False)
        console.print(table(results, f"{folder}: {settings.scenario}, {settings.episodes} {settings.split} episodes"))
        written = [*write_tables(results, folder), draw(results, folder / "sweep.png", settings.split)]
        print(f"written: {', '.join(map(str, written))}")
    if failed:
        told = "\n".join(f"  {where}: {reason}" for where, reason in failed.items())
        raise SemoreError(f"{len(failed)} of {len(runs)} runs failed; the same command goes on with them\n{told}")
    return results


def _train(settings: ManyRuns, missing: Sequence[PlannedRun]) -> dict[Path, str]:
    """Train; the folders and errors of runs that failed."""
    failed = {}
    with meter(f"sweep {settings.sweep}", len(missing), "runs") as progress:
        progress.say(f"training {len(missing)} runs; each says more in {settings.folder}/<run>/train.log")
        asked = [run.settings for run in missing]
        for run, outcome in train_runs(asked, settings.parallel, settings.scheduler):
            if isinstance(outcome, str):
                failed[run.folder] = outcome
            progress.advance(1, run.run)
    return failed


def _drive(settings: ManyRuns, run: PlannedRun) -> list[Row]:
    """The run's episodes, in the world it was trained in and by the reward it was trained on."""
    folder, view = run.settings.folder, load_view(run.settings.folder)
    course = RunCourse(
        folder, run.settings.scenario, view["weather"], view["reward"], run.settings.simulator, run.settings.carla
    )
    first = FIRST_SEED[settings.split]
    rows = folder / ("evaluation.csv" if settings.split == "test" else f"evaluation-{settings.split}.csv")
    workers = worker_count(run.settings.simulator, settings.workers, run.settings.carla)
    return evaluate_policies(course, ["trained"], range(first, first + settings.episodes), rows, workers)


def _summary(run: PlannedRun) -> dict[str, object]:
    summary: dict[str, object] = read_json(run.settings.folder / "summary.json")
    return summary


def main() -> None:
    settings = read_settings(SweepSettings, "sweep")
    only_task_trains()
    settings.validate()
    if not settings.vary:
        raise SemoreError("nothing to vary: give --vary NAME=VALUE,VALUE, such as --vary agent.lr=3e-4,1e-3")
    base = settings_of(settings.preset, settings.scenario, settings.base, Point((), ()))
    results = run_points(settings, points_of(settings.vary, settings.design, base_values(base)))
    print(f"next: {next_step(settings, results)}")


def next_step(settings: SweepSettings, results: Sequence[Result]) -> str:
    """After choosing on validation episodes: the best settings on test episodes, which nobody has chosen on."""
    if settings.split == "test":
        return command("report", {"runs": tuple(str(result.folder) for result in results)})
    rewards: dict[Point, list[float]] = {}
    for result in results:
        rewards.setdefault(result.point, []).extend(row.reward for row in driven(result.rows))
    best = max(rewards, key=lambda point: float(np.mean(rewards[point])) if rewards[point] else -np.inf)
    asked = changed(settings, "vary", "design", "split")
    vary = tuple(f"{name}={value}" for name, value in best.settings)
    return command("sweep", asked | {"vary": vary, "split": "test"})


if __name__ == "__main__":
    run_command(main)
