"""Learning curves and test results of many runs by method, as CSV tables, a picture and a summary.

`python -m study.learning --runs RUN … --out study/docs/results/jaywalk`: each run is finished and evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from semore.datasets.atomic_io import atomic_file, write_csv, write_text
from semore.datasets.command_line import read_settings
from semore.datasets.errors import SemoreError
from semore.datasets.run_command import run_command
from semore.evaluate.compare import significance
from semore.evaluate.compared import frame
from semore.evaluate.episodes import Row
from semore.evaluate.runs import Run, by_method, read_runs, shared_cells
from study.results.pictures import draw_lines

matplotlib.use("agg")


def draw(groups: Mapping[str, Sequence[Run]], path: Path) -> None:
    """Validation reward over decisions: a line per run, a bold one for each method's mean."""
    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (name, runs) in enumerate(groups.items()):
        lines = [run.curve[["decisions", "reward"]].to_numpy() for run in runs]
        draw_lines(axes, lines, f"{name} ({len(runs)} seeds)", f"C{number}", alpha=0.3, bold=2.5, thin=1.5)
    axes.set(xlabel="decisions recorded", ylabel="mean reward on validation seeds")
    axes.legend()
    axes.grid(alpha=0.3)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


@dataclass(frozen=True)
class LearningSettings:
    """Which runs to draw, and where to write."""

    runs: tuple[str, ...] = ()
    """Folders of finished, evaluated runs."""
    out: str = "study/docs/results/learning"
    """Prefix of the files to write."""


def main() -> None:
    chosen = read_settings(LearningSettings, "python -m study.learning")
    if not chosen.runs:
        raise SemoreError("name at least one run: --runs RUN …")
    runs = read_runs([Path(folder) for folder in chosen.runs])
    cell, *more = shared_cells(runs)
    if more:
        raise SemoreError("the runs were driven in several scenarios or weathers; `semore.evaluate.compare` shows each")
    groups = by_method([run.within(cell) for run in runs])
    everything = [run for own in groups.values() for run in own]
    prefix = Path(chosen.out)
    whose = ["method", "train_seed"]
    columns = [field.name for field in fields(Row) if field.name != "policy"]
    curves = pd.concat([run.curve.assign(method=run.method, train_seed=run.seed) for run in everything])
    episodes = pd.concat([frame(run.episodes(), 0, run.seed).assign(method=run.method) for run in everything])
    for name, table, kept in (("curves", curves, ["update", "decisions", "reward"]), ("episodes", episodes, columns)):
        rows = table[[*whose, *kept]].to_dict("records")
        write_csv(prefix.with_name(f"{prefix.name}-{name}.csv"), [*whose, *kept], rows)
    draw(groups, prefix.with_name(f"{prefix.name}-curves.png"))
    console = Console(width=150, record=True)
    console.print(significance(groups))
    write_text(prefix.with_name(f"{prefix.name}-summary.txt"), console.export_text())


if __name__ == "__main__":
    run_command(main)
