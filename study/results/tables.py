"""The study's tables as Markdown, from its CSV files alone.

The same files give the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from semore.evaluate.claims import Trained, trained
from semore.evaluate.compared import Side
from semore.evaluate.table import Column, against, average, cells, interval, label, markdown, of_pair, of_side, spread
from study.results.files import WORLD, Results, RunRecord

REFERENCES: Final = ("semore", "full", "cris-tiny")
"""What the row that others are compared with is called in the parts."""
NAMES: Final[Mapping[str, str]] = {
    "semore": "Semore", "sac": "SAC", "deepmdp": "DeepMDP", "drq": "DrQ", "curl": "CURL",
    "sac-segmentation": "SAC + segmentation", "cloning": "cloning alone",
    "random": "random", "full_throttle": "full throttle", "driver": "rule-based driver (privileged)",
    "blind_driver": "the same, seeing nobody",
    "fast_driver": "imitated driver: the same at 25 m/s", "fast_blind_driver": "the same, seeing nobody",
    "trained_grey": "shown grey", "trained_frozen": "shown one picture",
    "full": "Semore", "cris-tiny": "Semore, CRIS-tiny",
}  # fmt: skip
BLIND: Final = ("random", "full_throttle", "driver", "blind_driver", "fast_driver", "fast_blind_driver")
"""Rows without a run, in the order of the tables."""
BLINDFOLDED: Final = ("trained_grey", "trained_frozen")
EMPTY: Final = "Nothing of this has been trained yet."


@dataclass(frozen=True, eq=False)
class Group(Side):
    """A row of a table: its training runs (none for the world's policies), and all their episodes."""

    records: tuple[RunRecord, ...] = ()
    leads: bool = False
    """Whether it is the one that the others are compared with."""

    @property
    def by_run(self) -> bool:
        """Whether somebody has trained it."""
        return bool((self.episodes["name"] != "").all())


@dataclass(frozen=True)
class Table:
    """Which rows of which parts in one scenario, and how to get them."""

    parts: tuple[str, ...]
    scenario: str
    reward: str = "published"
    command: str = ""
    """The parts to ask `python -m study` for; default `parts`."""


TABLES: Final[Mapping[str, Table]] = {
    **{f"main-{scenario}": Table(("main", "rivals"), scenario) for scenario in ("JayWalk", "HighBeam", "HighWay")},
    **{
        f"{part}-{scenario}": Table((part,), scenario, command=f"main {part}")
        for part in ("ablations", "masks")
        for scenario in ("JayWalk", "HighBeam")
    },
    **{f"safety-{scenario}": Table(("safety",), scenario, "safety") for scenario in ("JayWalk", "HighBeam", "HighWay")},
    "sensitivity-JayWalk": Table(("sensitivity",), "JayWalk", command="main sensitivity"),
}  # fmt: skip


def _counted(group: Group, _: object) -> str:
    if group.driven.empty:
        return "every simulator failed"
    runs, seeds = group.rewards.shape
    return (f"{runs} × " if group.by_run else "") + f"{seeds}" + (f" ({group.failed} failed)" if group.failed else "")


def _each_run(group: Group) -> str:
    return ", ".join(f"{reward:.0f}" for _, reward in group.each_seed) if group.by_run else ""


def _cpu(group: Group) -> str:
    cpu = [record.cpu_training or record.seconds for record in group.records]
    return f"{np.mean(cpu):,.0f}" if cpu else ""


COLUMNS: Final = (
    label(), Column("seeds × episodes", _counted, True),
    of_side("reward", lambda group: spread(group.reward)),
    of_side("95 % interval", lambda group: interval(group.reward)),
    of_pair("Semore minus it", lambda pair: f"{pair.difference.mean:+.0f}"),
    of_pair("95 % interval", lambda pair: interval(pair.difference, "+.0f")),
    of_pair("verdict", lambda pair: pair.in_words),
    of_side("each training seed", _each_run),
    average("distance m", "distance"), average("crash N·s", "crash_intensity"),
    of_side("whole way", lambda group: f"{(group.driven['ending'] == 'success').mean():.0%}"),
    of_side("collided", lambda group: f"{(group.driven['crash_intensity'] > 0).mean():.0%}"),
    average("brake", "brake", 3), of_side("CPU s", _cpu),
)  # fmt: skip


def table(results: Results, name: str) -> str:
    """One of TABLES as Markdown, below the command that makes it again."""
    about = TABLES[name]
    groups = groups_of(results, about)
    if not groups:
        return EMPTY
    lead = next((group for group in groups if group.leads), None)
    groups += [*(_blindfolded(results, lead) if lead else []), *world_groups(results, about).values()]
    study = "" if results.study == "study" else f" --study {results.study}"
    parts = about.command or " ".join(about.parts)
    command = f".venv/bin/python -m study --parts {parts}{study} && .venv/bin/python -m study.results{study}"
    told = markdown([column.header for column in COLUMNS], cells(COLUMNS, against(lead, groups, True)))
    return f"<!-- not run: hours of training -->\n```bash\n{command}\n```\n\n{told}"


def groups_of(results: Results, about: Table) -> list[Group]:
    """The rows that have finished runs: the reference first, then in the study's order."""
    found: dict[str, dict[tuple[str, int], RunRecord]] = {}
    for record in results.runs:
        if record.part in about.parts and (record.scenario, record.reward) == (about.scenario, about.reward):
            found.setdefault(record.label, {})[record.run, record.train_seed] = record
    return [
        Group(
            NAMES.get(label, label.replace("-", " ")), _driven_by(results, "trained", records.values()),
            tuple(map(_trained, records.values())), tuple(records.values()), label in REFERENCES,
        )
        for label, records in sorted(found.items(), key=lambda each: each[0] not in REFERENCES)
    ]  # fmt: skip


def _driven_by(results: Results, policy: str, records: Iterable[RunRecord]) -> pd.DataFrame:
    """The episodes of a policy of these runs."""
    own = results.frame[results.frame["policy"] == policy]
    runs = [(record.run, record.train_seed) for record in records]
    return own[pd.MultiIndex.from_frame(own[["name", "train_seed"]]).isin(runs)]


def _trained(record: RunRecord) -> Trained:
    """A study's runs of a scenario learn from the same recordings; what else is unequal stands in `changes`."""
    changes = dict(change.partition("=")[::2] for change in record.changes.split("; "))
    return trained(record.train_seed, record.updates, record.scenario, {"reward": record.reward} | changes)


def _blindfolded(results: Results, leader: Group) -> list[Group]:
    own = {policy: _driven_by(results, policy, leader.records) for policy in BLINDFOLDED}
    return [Group(f"{leader.label}, {NAMES[policy]}", rows) for policy, rows in own.items() if len(rows)]


def world_groups(results: Results, about: Table) -> dict[str, Group]:
    """By name the policies that need no run, as driven in the table's scenario and on its reward."""
    every = results.frame
    there = (every["part"] == WORLD) & (every["scenario"] == about.scenario) & (every["rewarded"] == about.reward)
    own = dict(list(every[there].groupby("policy")))
    return {policy: Group(NAMES[policy], own[policy]) for policy in BLIND if policy in own}
