"""What the replay buffer held while runs trained, as CSV files and a picture.

It shows δ and the admit rate as the buffer filled, its size and composition by policy over updates, the validation
reward beside them, and whether it ever starved.

`python -m study.buffer --runs RUN … --out study/docs/results/buffer` writes two CSV files and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from semore.datasets.atomic_io import write_csv
from semore.datasets.command_line import read_settings
from semore.datasets.errors import SemoreError
from semore.datasets.progress import meter
from semore.datasets.run_command import run_command
from study.buffer_history import WINDOW, History, read_history
from study.buffer_picture import draw


def table(histories: Sequence[History]) -> Table:
    """Did it starve? For the terminal."""
    shown = Table(title=f"replay buffers; the lowest admit rate is that of {WINDOW} decisions in a row")
    numbers = ("held at first", "held at last", "batch", "lowest admit rate", "admitted at last")
    for name in ("run", "admission", *numbers, "starved"):
        shown.add_column(name, justify="right" if name in numbers else "left")
    for each in histories:
        first, last = each.entries[0], each.entries[-1]
        lowest = min(part.admit_rate for part in each.filling)
        shown.add_row(
            each.run, each.settings.replay.admission, f"{first['transitions']:,.0f}", f"{last['transitions']:,.0f}",
            str(each.settings.schedule.batch), f"{lowest:.1%}", f"{last['admit_rate']:.1%}",
            "yes" if each.starved else "no",
        )  # fmt: skip
    return shown


@dataclass(frozen=True)
class BufferSettings:
    """Whose buffers to look at, and where to write."""

    runs: tuple[str, ...] = ()
    """Folders of finished runs."""
    out: str = "study/docs/results/buffer"
    """Prefix of the files to write."""


def main() -> None:
    asked = read_settings(BufferSettings, "python -m study.buffer")
    if not asked.runs:
        raise SemoreError("name at least one run: --runs RUN …")
    out = Path(asked.out)
    histories = []
    with meter("buffer", len(asked.runs), "runs") as progress:
        for run in map(Path, asked.runs):
            histories.append(read_history(run))
            progress.advance(1, run.name)
    files = [out.with_name(out.name + ending) for ending in (".csv", "-filling.csv", ".png")]
    entries = [_about(each) | entry for each in histories for entry in each.entries]
    columns = [*dict.fromkeys(name for entry in entries for name in entry)]
    write_csv(files[0], columns, [{name: _rounded(value) for name, value in entry.items()} for entry in entries])
    parts = [_about(each) | asdict(part) for each in histories for part in each.filling]
    write_csv(files[1], list(parts[0]), [{name: _rounded(value) for name, value in part.items()} for part in parts])
    draw(histories, files[2])
    Console(width=140).print(table(histories))
    print(f"written: {', '.join(map(str, files))}\nnext: look at {files[2]}")


def _about(each: History) -> dict[str, Any]:
    return {"scenario": each.settings.scenario, "run": each.run, "train_seed": each.settings.seed}


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    if np.isnan(value):
        return ""
    return f"{value:.4f}".rstrip("0").rstrip(".")


if __name__ == "__main__":
    run_command(main)
