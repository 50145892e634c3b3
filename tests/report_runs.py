"""Run folders as training and evaluation leave them, made up, for the report's tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from semore.datasets.atomic_io import write_json
from semore.datasets.settings import as_dict
from semore.evaluate.episodes import Row, write_rows
from semore.train.settings import TrainSettings

MASK = {"student_auc": 0.92, "constant_auc": 0.85, "difference_low": 0.05, "difference_high": 0.09, "healthy": True}
EMBEDDED = ("JayWalk", "hard_high_light")


def row(policy: str, seed: int, reward: float, ending: str = "success", crash: float = 0.0) -> Row:
    return Row(policy, *EMBEDDED, seed, ending, reward, reward + 1.0, crash, 0.1, 0.5, 0.0, 500)


def make_run(
    root: Path,
    name: str,
    rewards: Sequence[float],
    method: str = "semore",
    seed: int = 1,
    mask: dict[str, object] | None = None,
    baselines: Sequence[str] = (),
    **settings: object,
) -> Path:
    """A run whose trained policy had these rewards on the first test seeds; each baseline had 50 less."""
    folder = root / name
    (folder / "pictures").mkdir(parents=True)
    write_json(
        folder / "settings.json",
        {
            "settings": as_dict(TrainSettings(run=name, seed=seed)) | {"method": method} | settings,
            "environment": {"semore": "0.1.0@abcdef", "machine": "Linux x86_64, 2 cores", "torch": "2.13.0"},
        },
    )
    write_json(
        folder / "summary.json",
        {
            "method": method, "seed": seed, "updates": 400, "best_update": 200, "student_mask": mask, "seconds": 3600.0,
            "weights_sha256": "5ca1ab1e", "rollouts": "r0110u75", "knowledge": "c0ffee",
        },
    )  # fmt: skip
    lines = ["update,metric,value"]
    for update in (100, 200, 400):
        values = {
            "replay/offered": 10 * update, "replay/transitions": 9 * update, "replay/delta": 1 / update,
            "replay/admit_rate_newest": 0.9, "replay/reasonable_share": 0.8, "replay/share_driver": 0.6,
            "replay/share_wander": 0.4, "validation/reward": rewards[0] + update, "validation/crash_intensity": 1.0,
        }  # fmt: skip
        if mask:
            values |= {"health/student_auc": 0.9, "health/constant_auc": 0.85}
        lines += [f"{update},{metric},{value}" for metric, value in values.items()]
        picture = np.random.default_rng(update).integers(0, 255, (64, 80, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / "pictures" / f"update-{update:06d}.png")
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    rows = [row("trained", 2_000_000 + place, reward) for place, reward in enumerate(rewards)]
    rows += [row(name, 2_000_000 + place, reward - 50) for name in baselines for place, reward in enumerate(rewards)]
    write_rows(folder / "evaluation.csv", rows)
    return folder
