"""Train Semore on recorded rollouts and their cached knowledge, refreshed online; the same command resumes."""

from __future__ import annotations

from datasets.settings import load_settings, run_command
from train.run import train
from train.settings import TrainSettings


def main() -> None:
    settings = load_settings(TrainSettings, "train")
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
    print("next: make evaluate")


if __name__ == "__main__":
    run_command(main)
