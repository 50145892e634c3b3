"""Train Semore on recorded rollouts and their cached knowledge, refreshed online; the same command resumes."""

from __future__ import annotations

from pathlib import Path

from semore.annotate.annotate_hint import known_set
from semore.datasets.errors import SemoreError
from semore.datasets.hints import carried, choices, command
from semore.datasets.rollouts.recorded import recorded
from semore.datasets.run_command import run_command
from semore.datasets.settings import load_settings
from semore.train.launch import runs_of, train_seeds
from semore.train.settings import TrainSettings
from semore.train.stopping import only_task_trains


def main() -> None:
    settings = load_settings(TrainSettings, "train")
    only_task_trains()
    if settings.seeds:
        many(settings)
        return
    check(settings)
    from semore.train.run import train  # torch and Lightning take seconds: mistakes are told before

    summary = train(settings)
    print(
        f"{settings.folder}: best validation reward {summary['best_validation_reward']:.1f} at update "
        f"{summary['best_update']} of {summary['updates']}, {summary['seconds']:.0f} s"
    )
    mask = summary["student_mask"]
    if mask:
        verdict = "healthy" if mask["healthy"] else "NOT healthy"
        print(
            f"student mask: AUC {mask['student_auc']:.3f} against {mask['constant_auc']:.3f} for the constant map "
            f"(difference at least {mask['difference_low']:.3f} with 97.5% confidence): {verdict}"
        )
    print(f"weights sha256: {summary['weights_sha256']}")
    print(f"next: {next_command(settings)}")


def next_command(run: TrainSettings) -> str:
    """The command that evaluates the run."""
    names = choices(run, "preset", "method", "scenario", "simulator", "runs", "run", "carla")
    return command("evaluate", carried() | names)


def check(settings: TrainSettings) -> None:
    """SemoreError for what can be told without torch: settings that make no sense, and data that are not there."""
    settings.validate()
    recorded(settings)
    if not (settings.folder / "summary.json").exists():
        known_set(settings, Path(settings.data) / "knowledge", settings.knowledge)


def many(settings: TrainSettings) -> None:
    """Train `settings.seeds`; exit code 1 when any of them failed."""
    settings.validate()
    print(f"training seeds {', '.join(map(str, settings.seeds))}; each run says more in its train.log")
    failed = 0
    for run, outcome in train_seeds(settings):
        if isinstance(outcome, str):
            failed += 1
            print(f"{run.folder}: error: {outcome}", flush=True)
        else:
            best, sha = outcome["best_validation_reward"], outcome["weights_sha256"]
            print(f"{run.folder}: best validation reward {best:.1f}, weights sha256: {sha}", flush=True)
    if failed:
        raise SemoreError(f"{failed} of {len(settings.seeds)} runs failed; the same command goes on with them")
    print(f"next: {' && '.join(map(next_command, runs_of(settings)))}")


if __name__ == "__main__":
    run_command(main)
