"""Learning curves and test results of many runs, by method: run folders in, CSV tables, a picture and a summary out.

`python -m evaluate.learning RUN … --out docs/results/jaywalk`: each run is finished and evaluated (`make evaluate`)."""

from __future__ import annotations

import csv
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from datasets.errors import SemoreError
from datasets.files import atomic_file, read_json, write_text
from datasets.settings import run_command
from evaluate.episodes import Row, read_rows
from evaluate.statistics import across_runs, difference_across_runs
from train.log import read_metrics

matplotlib.use("agg")
FIRST: Final = "semore"
"""The method that the others are compared with."""


@dataclass(frozen=True)
class Run:
    """A finished run: method, training seed, its validations (update, decisions offered so far, mean reward), and its
    trained policy's test episodes."""

    method: str
    seed: int
    curve: tuple[tuple[int, int, float], ...]
    episodes: tuple[Row, ...]


def read_run(folder: Path) -> Run:
    """SemoreError when the run is not finished or not evaluated."""
    if not (folder / "evaluation.csv").exists():
        raise SemoreError(f"{folder} is not evaluated; finish it, then `make evaluate RUN={folder.name}`")
    summary = read_json(folder / "summary.json")
    found: dict[str, dict[int, float]] = {"validation/reward": {}, "replay/offered": {}}
    for update, name, value in read_metrics(folder / "metrics.csv"):
        if name in found:
            found[name][update] = value
    rewards, offered = found["validation/reward"], found["replay/offered"]
    curve = tuple((update, int(offered.get(update, 0)), reward) for update, reward in sorted(rewards.items()))
    episodes = tuple(row for row in read_rows(folder / "evaluation.csv") if row.policy == "trained")
    return Run(summary["method"], int(summary["seed"]), curve, episodes)


def by_method(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Semore first, then in alphabetical order; runs by seed. SemoreError when their test seeds differ."""
    seeds = {tuple(sorted(row.seed for row in run.episodes)) for run in runs}
    if len(seeds) > 1:
        raise SemoreError("the runs were evaluated on different test seeds; evaluate them with the same --episodes")
    names = sorted({run.method for run in runs}, key=lambda name: (name != FIRST, name))
    return {name: sorted((run for run in runs if run.method == name), key=lambda run: run.seed) for name in names}


def rewards(runs: Sequence[Run]) -> NDArray[np.float64]:
    """(runs, test seeds) episode rewards, columns by test seed."""
    return np.array([[row.reward for row in sorted(run.episodes, key=lambda row: row.seed)] for run in runs])


def draw(groups: Mapping[str, Sequence[Run]], path: Path) -> None:
    """Validation reward over decisions: a line per run, a bold one for each method's mean."""
    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (name, runs) in enumerate(groups.items()):
        colour = f"C{number}"
        for run in runs:
            axes.plot([point[1] for point in run.curve], [point[2] for point in run.curve], color=colour, alpha=0.3)
        whole = [run for run in runs if len(run.curve) == max(len(other.curve) for other in runs)]
        mean = np.array([run.curve for run in whole]).mean(0)
        axes.plot(mean[:, 1], mean[:, 2], color=colour, linewidth=2.5, label=f"{name} ({len(runs)} seeds)")
    axes.set(xlabel="decisions recorded", ylabel="mean reward on validation seeds")
    axes.legend()
    axes.grid(alpha=0.3)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def summary(groups: Mapping[str, Sequence[Run]]) -> Table:
    """Test reward: mean ± std over pooled episodes, interval over training seeds and episodes, each seed's mean."""
    table = Table("method", "reward", "95% interval", "semore minus it", "each training seed")
    ours = rewards(groups[FIRST]) if FIRST in groups else None
    for name, runs in groups.items():
        values = rewards(runs)
        found = across_runs(values)
        against = ""
        if ours is not None and name != FIRST:
            difference = difference_across_runs(ours, values)
            against = f"{difference.mean:+.0f} ({difference.low:+.0f} … {difference.high:+.0f}): {difference.verdict}"
        seeds = ", ".join(f"{run.seed}: {mean:.0f}" for run, mean in zip(runs, values.mean(1), strict=True))
        table.add_row(
            name, f"{found.mean:.0f} ± {found.std:.0f}", f"{found.low:.0f} … {found.high:.0f}", against, seeds
        )
    return table


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Atomically, with a header."""
    with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = ArgumentParser(prog="python -m evaluate.learning", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished, evaluated runs")
    parser.add_argument("--out", type=Path, required=True, help="prefix of the files to write")
    chosen = parser.parse_args()
    groups = by_method([read_run(folder) for folder in chosen.runs])
    everything = [run for runs in groups.values() for run in runs]
    prefix = chosen.out
    columns = [field.name for field in fields(Row) if field.name != "policy"]
    write_csv(
        prefix.with_name(f"{prefix.name}-curves.csv"),
        [
            {"method": run.method, "train_seed": run.seed, "update": update, "decisions": decisions, "reward": reward}
            for run in everything
            for update, decisions, reward in run.curve
        ],
    )
    write_csv(
        prefix.with_name(f"{prefix.name}-episodes.csv"),
        [
            {"method": run.method, "train_seed": run.seed, **{name: asdict(row)[name] for name in columns}}
            for run in everything
            for row in run.episodes
        ],
    )
    draw(groups, prefix.with_name(f"{prefix.name}-curves.png"))
    console = Console(width=150, record=True)
    console.print(summary(groups))
    write_text(prefix.with_name(f"{prefix.name}-summary.txt"), console.export_text())


if __name__ == "__main__":
    run_command(main)
