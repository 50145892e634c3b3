"""Learning curves of one run in fp32 and in bf16, side by side: `python -m perf.precision`.

Trains the same seed on the same recordings (`make collect annotate` first) twice, with any further settings of `train`
that it is given, and resumes where it was interrupted. Writes <out>.csv, <out>.png and, as its very last line, one JSON
object: per metric the mean of its last quarter in both precisions, and the mean of every validation. Minutes in fp32;
where the processor has no bf16, many times as long.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from semore.datasets.atomic_io import atomic_file
from semore.datasets.errors import SemoreError
from semore.datasets.run_command import run_command
from semore.train.metrics import read_metrics

matplotlib.use("agg")
PRECISIONS: Final = ("fp32", "bf16")
METRICS: Final = (
    "loss/q", "loss/actor", "loss/semantic", "loss/transition", "loss/entropy", "validation/reward",
)  # fmt: skip

Curve = list[tuple[int, float]]


def train(run: str, precision: str, updates: int, arguments: list[str]) -> Path:
    """Train, or finish training, in `precision`; the run's folder. SemoreError when that fails."""
    every = max(updates // 4, 1)
    command = [
        sys.executable, "-m", "semore.train", "--run", run, "--agent.encoder.precision", precision,
        "--schedule.updates", str(updates), "--schedule.validate_every", str(every), "--schedule.log_every", "10",
        *arguments,
    ]  # fmt: skip
    if subprocess.run(command, check=False).returncode:
        raise SemoreError(f"training in {precision} failed; its own message is above")
    return Path("runs") / run


def curves(folder: Path) -> dict[str, Curve]:
    """(update, value) of each of METRICS."""
    found: dict[str, Curve] = {name: [] for name in METRICS}
    for update, name, value in read_metrics(folder / "metrics.csv"):
        if name in found:
            found[name].append((update, value))
    return found


def draw(found: dict[str, dict[str, Curve]], path: Path) -> None:
    """A panel per metric, a line per precision."""
    figure = Figure(figsize=(11.0, 6.0), layout="constrained")
    for axes, name in zip(figure.subplots(2, 3).flat, METRICS, strict=True):
        for precision in PRECISIONS:
            axes.plot(*zip(*found[precision][name], strict=True), label=precision, alpha=0.8)
        axes.set(title=name, xlabel="update")
        axes.grid(alpha=0.3)
    axes.legend()
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def main() -> None:
    parser = ArgumentParser(prog="python -m perf.precision", description=__doc__)
    parser.add_argument("--updates", type=int, default=1_000)
    parser.add_argument("--run", default="precision", help="prefix of the two runs' names")
    parser.add_argument("--out", type=Path, default=Path("study/docs/results/precision"), help="prefix of the files")
    chosen, arguments = parser.parse_known_args()
    found = {
        precision: curves(train(f"{chosen.run}-{precision}", precision, chosen.updates, arguments))
        for precision in PRECISIONS
    }
    with (
        atomic_file(chosen.out.with_suffix(".csv")) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as handle,
    ):
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("precision", "metric", "update", "value"))
        for precision, metrics in found.items():
            writer.writerows((precision, name, *point) for name, curve in metrics.items() for point in curve)
    draw(found, chosen.out.with_suffix(".png"))
    ends = {
        name: {precision: float(np.mean([value for _, value in curve[-max(len(curve) // 4, 1) :]]))
               for precision in PRECISIONS for curve in [found[precision][name]]}
        for name in METRICS
    }  # fmt: skip
    validations = {
        precision: [round(value, 1) for _, value in found[precision]["validation/reward"]] for precision in PRECISIONS
    }
    print(json.dumps({"last_quarter": ends, "validations": validations}))


if __name__ == "__main__":
    run_command(main)
