"""Several runs in one table in the field's form, beside the published row, with paired differences.

`semore compare --runs RUN RUN …`: names or folders of evaluated runs. Those that differ in `-seed<n>` only are the
training seeds of one method."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from semore.datasets.command_line import read_settings
from semore.datasets.hints import command
from semore.datasets.run_command import run_command
from semore.evaluate.chosen_runs import ChosenRuns
from semore.evaluate.claims import in_words, lacking
from semore.evaluate.episodes import FAILED, Row, driven
from semore.evaluate.policies import EYELESS, UNTAUGHT
from semore.evaluate.runs import Run, by_method, read_run, shared_cells, shared_seeds, values
from semore.evaluate.statistics import (
    across_runs,
    difference_across_runs,
    interquartile_mean,
    mean,
    probability_of_improvement,
    std_of_runs,
)
from semore.evaluate.table import pooled


class Published(NamedTuple):
    """A row as the paper prints it."""

    reward: str
    distance: str
    crash_intensity: str


PAPER: Final[Mapping[str, Published]] = {"JayWalk": Published("201 ± 54", "233 ± 66", "2043 ± 98")}
"""What is known of Semore's published results (method.md §1), by scenario. They were driven in CARLA, with Unreal's
pictures: no embedded run can be compared with them."""


def paper_form(groups: Mapping[str, Sequence[Run]], title: str = "") -> Table:
    """Mean ± std over the pooled episodes of all training seeds; below, the first method without its training or its
    eyes, what is the same whatever the run, and the paper's row."""
    columns = ("method", "runs", "episodes", "ER", "distance m", "crash intensity N·s", "steer", "brake")
    table = Table(*columns, title=title)
    for name, runs in groups.items():
        table.add_row(name, str(len(runs)), *_cells([row for run in runs for row in run.episodes]))
    table.add_section()
    (first, leaders), *_ = groups.items()
    some = leaders[0]
    everything = [row for run in leaders for row in run.rows]
    below = [(f"{first}: {policy}", policy, everything) for policy in EYELESS]
    below += [(policy, policy, list(some.rows)) for policy in UNTAUGHT]
    for label, policy, rows in below:
        if own := [row for row in rows if row.policy == policy]:
            table.add_row(label, "", *_cells(own))
    scenario = some.episodes[0].scenario
    if scenario in PAPER:
        table.add_section()
        table.add_row("Semore as published, in CARLA", "", "", *PAPER[scenario], "n/a", "n/a")
    return table


def significance(groups: Mapping[str, Sequence[Run]], title: str = "") -> Table:
    """Test reward: mean ± std over pooled episodes, IQM, their intervals over training seeds and episodes, the training
    seeds' means and their std, and the first method against each other one, paired by test episode, with a verdict or
    what it lacks."""
    (first, leaders), *_ = groups.items()
    against = f"{first} minus it"
    columns = ("method", "reward", "95% interval", "IQM", "95% interval", against, f"P({first} more)", "each seed")
    table = Table(*columns, title=title)
    ours = values(leaders)
    for name, runs in groups.items():
        rewards = values(runs)
        average, middle = across_runs(rewards), across_runs(rewards, interquartile_mean)
        seeds = ", ".join(f"{run.seed}: {own:.0f}" for run, own in zip(runs, mean(rewards, 1), strict=True))
        compared = ["", ""]
        if name != first:
            paired = int((~(np.isnan(ours).any(0) | np.isnan(rewards).any(0))).sum())
            lacks = lacking(paired, [run.trained for run in leaders], [run.trained for run in runs])
            difference, chance = difference_across_runs(ours, rewards), probability_of_improvement(ours, rewards)
            compared = [
                f"{difference.mean:+.0f} ({difference.low:+.0f} … {difference.high:+.0f}): "
                + in_words(difference, lacks),
                f"{chance.mean:.2f} ({chance.low:.2f} … {chance.high:.2f})",
            ]
        table.add_row(
            name,
            f"{average.mean:.0f} ± {average.std:.0f}",
            f"{average.low:.0f} … {average.high:.0f}",
            f"{middle.mean:.0f}",
            f"{middle.low:.0f} … {middle.high:.0f}",
            *compared,
            f"{seeds} (std {std_of_runs(rewards):.0f})",
        )
    return table


def main() -> None:
    folders = read_settings(ChosenRuns, "compare").paths()
    runs = [read_run(folder) for folder in folders]
    console = Console(width=None if sys.stdout.isatty() else 160)
    for cell in shared_cells(runs):
        seeds = shared_seeds(runs, cell)
        groups = by_method([run.within(cell, seeds) for run in runs])
        title = f"{', '.join(cell)}: mean ± std over pooled episodes, the {len(seeds)} test seeds of all runs"
        console.print(paper_form(groups, title))
        console.print(significance(groups, "reward: intervals over training seeds, then episodes"))
    print(f"next: {command('report', {'runs': tuple(map(str, folders))})}")


def _cells(rows: Sequence[Row]) -> list[str]:
    """How many episodes, and the metrics of the driven ones."""
    counted = driven(rows)
    failed = sum(row.ending in FAILED for row in rows)
    number = f"{len(counted)}" + (f" ({failed} failed)" if failed else "")
    if not counted:
        return [number, *[""] * 5]
    digits = {"reward": 0, "distance": 0, "crash_intensity": 0, "steer": 3, "brake": 3}
    return [number, *(pooled(counted, metric).text(places) for metric, places in digits.items())]


if __name__ == "__main__":
    run_command(main)
