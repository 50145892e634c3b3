"""Several runs in one table in the field's form, beside the published row, with paired differences.

`semore compare --runs RUN RUN …`: names or folders of evaluated runs. Those that differ in `-seed<n>` only are the
training seeds of one method."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

from semore.datasets.command_line import read_settings
from semore.datasets.hints import command
from semore.datasets.run_command import run_command
from semore.evaluate.chosen_runs import ChosenRuns
from semore.evaluate.compared import Side
from semore.evaluate.policies import EYELESS, UNTAUGHT
from semore.evaluate.runs import Run, by_method, read_runs, shared_cells, shared_seeds, side_of
from semore.evaluate.table import (
    REWARD,
    Column,
    against,
    around,
    cells,
    each_seed,
    interval,
    label,
    of_pair,
    of_side,
    pooled,
    shown,
)


class Published(NamedTuple):
    """A row as the paper prints it."""

    reward: str
    distance: str
    crash_intensity: str


PAPER: Final[Mapping[str, Published]] = {"JayWalk": Published("201 ± 54", "233 ± 66", "2043 ± 98")}
"""What is known of Semore's published results (method.md §1), by scenario. They were driven in CARLA, with Unreal's
pictures: no embedded run can be compared with them."""


def _episodes(side: Side) -> str:
    return f"{len(side.driven)}" + (f" ({side.failed} failed)" if side.failed else "")


PAPER_FORM: Final = (
    label("method"), Column("runs", lambda side, _: f"{len(side.trained) or ''}", True),
    Column("episodes", lambda side, _: _episodes(side), True), pooled("ER", "reward"),
    pooled("distance m", "distance"), pooled("crash intensity N·s", "crash_intensity"), pooled("steer", "steer", 3),
    pooled("brake", "brake", 3),
)  # fmt: skip


def paper_form(groups: Mapping[str, Sequence[Run]], title: str = "") -> Table:
    """Mean ± std over the pooled episodes of all training seeds; below, the first method without its training or its
    eyes, what is the same whatever the run, and the paper's row."""
    table = shown(PAPER_FORM, against(None, [side_of(name, runs) for name, runs in groups.items()]), title)
    table.add_section()
    (first, leaders), *_ = groups.items()
    below = [side_of(f"{first}: {policy}", leaders, policy) for policy in EYELESS]
    below += [side_of(policy, leaders[:1], policy) for policy in UNTAUGHT]
    for row in cells(PAPER_FORM, against(None, [side for side in below if len(side.episodes)])):
        table.add_row(*row)
    scenario = leaders[0].episodes()[0].scenario
    if scenario in PAPER:
        table.add_section()
        table.add_row("Semore as published, in CARLA", "", "", *PAPER[scenario], "n/a", "n/a")
    return table


def significance(groups: Mapping[str, Sequence[Run]], title: str = "") -> Table:
    """Test reward: mean ± std over pooled episodes, IQM, their intervals over training seeds and episodes, the training
    seeds' means and their std, and the first method against each other one, paired by test episode, with a verdict or
    what it lacks."""
    lead, *others = (side_of(name, runs) for name, runs in groups.items())
    columns = (
        label("method"), *REWARD, of_side("IQM", lambda side: f"{side.middle.mean:.0f}"),
        of_side("95% interval", lambda side: interval(side.middle)),
        of_pair(f"{lead.label} minus it", lambda pair: f"{around(pair.difference)}: {pair.in_words}"),
        of_pair(f"P({lead.label} more)", lambda pair: around(pair.improvement, ".2f")),
        of_side("each seed", lambda side: f"{each_seed(side)} (std {side.std_of_runs:.0f})"),
    )  # fmt: skip
    return shown(columns, against(lead, [lead, *others]), title)


def main() -> None:
    folders = read_settings(ChosenRuns, "compare").paths()
    runs = read_runs(folders)
    console = Console(width=None if sys.stdout.isatty() else 160)
    for cell in shared_cells(runs):
        seeds = shared_seeds(runs, cell)
        groups = by_method([run.within(cell, seeds) for run in runs])
        title = f"{', '.join(cell)}: mean ± std over pooled episodes, the {len(seeds)} test seeds of all runs"
        console.print(paper_form(groups, title))
        console.print(significance(groups, "reward: intervals over training seeds, then episodes"))
    print(f"next: {command('report', {'runs': tuple(map(str, folders))})}")


if __name__ == "__main__":
    run_command(main)
