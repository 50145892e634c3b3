"""Which of the report's runs differ only in their training seed, and what all others differ in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from semore.evaluate.runs import Cell, Run

PLACES: Final = (
    "run",
    "runs",
    "data",
    "seed",
    "seeds",
    "parallel",
    "scheduler",
    "device",
    "threads",
    "wandb",
    "preset",
)
"""Settings that tell where and how a run was made, not what was trained."""

SPELT: Final = {
    "semore": "Semore", "sac": "SAC", "sac-segmentation": "SAC + segmentation", "deepmdp": "DeepMDP", "drq": "DrQ",
    "curl": "CURL", "cloning": "Cloning",
}  # fmt: skip
"""Methods as their authors write them."""


@dataclass(frozen=True, eq=False)
class Contender:
    """Runs that differ in their training seed only; `number` picks the colour."""

    number: int
    label: str
    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """The run that stands for it in films and pictures."""
        return self.runs[0]


def trained_as(run: Run) -> dict[str, str]:
    """The settings that decide what was trained, printable."""
    return {name: str(value) for name, value in run.settings.items() if name not in PLACES}


def contenders(runs: Sequence[Run]) -> list[Contender]:
    """In the order given; a method that stands there in several variants is labelled with what they differ in."""
    groups: list[list[Run]] = []
    for run in runs:
        for group in groups:
            if trained_as(group[0]) == trained_as(run):
                group.append(run)
                break
        else:
            groups.append([run])
    return [Contender(number, _label(group[0], groups), tuple(group)) for number, group in enumerate(groups)]


def differing(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The settings in which the runs are not all alike, with each run's value ("–" where it has no such setting)."""
    every = [trained_as(run) for run in runs]
    names = dict.fromkeys(name for own in every for name in own)
    table = {name: [own.get(name, "–") for own in every] for name in names}
    return {name: values for name, values in table.items() if len(set(values)) > 1}


def courses(runs: Sequence[Run]) -> list[Cell]:
    """Every scenario and weather that a trained policy drove, the one most runs drove first."""
    found = [cell for run in runs for cell in dict.fromkeys((row.scenario, row.weather) for row in run.episodes())]
    return sorted(dict.fromkeys(found), key=lambda cell: -found.count(cell))


def _label(run: Run, groups: Sequence[Sequence[Run]]) -> str:
    name = SPELT.get(run.method, run.method)
    namesakes = [group[0] for group in groups if group[0].method == run.method]
    if len(namesakes) == 1:
        return name
    changed = [f"{key.rpartition('.')[2]} {trained_as(run).get(key, '–')}" for key in differing(namesakes)]
    more = f", {len(changed) - 3} more" if len(changed) > 3 else ""
    return f"{name} ({', '.join(changed[:3])}{more})"
