"""The study's tables as Markdown, from its CSV files alone.

The same files give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from semore.evaluate.claims import Trained, in_words, lacking, trained
from semore.evaluate.episodes import FAILED
from semore.evaluate.statistics import Estimate, Values, across_runs, difference_across_runs, mean
from study.results.files import WORLD, Episode, Results, RunRecord

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


class Group(NamedTuple):
    """A row of a table: its name, its training runs (none for the world's policies), and all their episodes."""

    label: str
    records: tuple[RunRecord, ...]
    episodes: tuple[Episode, ...]
    leads: bool = False
    """Whether it is the one that the others are compared with."""

    @property
    def counted(self) -> list[Episode]:
        """Without those whose simulator failed."""
        return [episode for episode in self.episodes if episode.ending not in FAILED]


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


def table(results: Results, name: str) -> str:
    """One of TABLES as Markdown, below the command that makes it again."""
    about = TABLES[name]
    groups = groups_of(results, about)
    if not groups:
        return EMPTY
    lead = next((group for group in groups if group.leads), None)
    header = (
        "", "seeds × episodes", "reward", "95 % interval", "Semore minus it", "95 % interval", "verdict",
        "each training seed", "distance m", "crash N·s", "whole way", "collided", "brake", "CPU s",
    )  # fmt: skip
    blind = [*(_blindfolded(results, lead) if lead else []), *world_groups(results, about)]
    rows = [_row(group, lead) for group in [*groups, *blind]]
    study = "" if results.study == "study" else f" --study {results.study}"
    parts = about.command or " ".join(about.parts)
    command = f".venv/bin/python -m study --parts {parts}{study} && .venv/bin/python -m study.results{study}"
    return f"<!-- not run: hours of training -->\n```bash\n{command}\n```\n\n{markdown(header, rows)}"


def groups_of(results: Results, about: Table) -> list[Group]:
    """The rows that have finished runs: the reference first, then in the study's order."""
    found: dict[str, dict[tuple[str, int], RunRecord]] = {}
    for record in results.runs:
        if record.part in about.parts and (record.scenario, record.reward) == (about.scenario, about.reward):
            found.setdefault(record.label, {})[record.run, record.train_seed] = record
    trained: dict[tuple[str, int], list[Episode]] = {}
    for episode in results.episodes:
        if episode.policy == "trained":
            trained.setdefault((episode.run, episode.train_seed), []).append(episode)
    return [
        Group(
            NAMES.get(label, label.replace("-", " ")),
            tuple(records.values()),
            tuple(episode for key in sorted(records) for episode in trained.get(key, [])),
            label in REFERENCES,
        )
        for label, records in sorted(found.items(), key=lambda each: each[0] not in REFERENCES)
    ]


def _blindfolded(results: Results, leader: Group) -> Iterator[Group]:
    runs = {(record.run, record.train_seed) for record in leader.records}
    for policy in BLINDFOLDED:
        own = [each for each in results.episodes if each.policy == policy and (each.run, each.train_seed) in runs]
        if own:
            yield Group(f"{leader.label}, {NAMES[policy]}", (), tuple(own))


def world_groups(results: Results, about: Table) -> Iterator[Group]:
    """The policies that need no run, as driven in the table's scenario and on its reward."""
    cell = WORLD, about.scenario, about.reward
    own = [each for each in results.episodes if (each.part, each.scenario, each.reward) == cell]
    for policy in BLIND:
        rows = tuple(each for each in own if each.policy == policy)
        if rows:
            yield Group(NAMES[policy], (), rows)


def rewards(group: Group, train_seeds: Sequence[int], seeds: Sequence[int]) -> Values:
    """(training seeds, test seeds) of the episode reward; NaN where an episode is missing or its simulator failed."""
    there = {(each.train_seed, each.seed): each.episode_reward for each in group.counted}
    return np.array([[there.get((one, seed), np.nan) for seed in seeds] for one in train_seeds], np.float64)


def train_seeds(group: Group) -> list[int]:
    """Of its runs, sorted."""
    return sorted({episode.train_seed for episode in group.episodes})


def episode_seeds(group: Group) -> list[int]:
    """Driven by every one of its runs, sorted."""
    each = [{one.seed for one in group.episodes if one.train_seed == seed} for seed in train_seeds(group)]
    return sorted(set.intersection(*each)) if each else []


def paired(leader: Group, other: Group) -> tuple[Values, Values] | None:
    """Rewards of both on the test seeds, and where both have them the training seeds, that both have; None when there
    is no such episode that no simulator failed in."""
    seeds = sorted({*episode_seeds(leader)} & {*episode_seeds(other)})
    both = sorted({*train_seeds(leader)} & {*train_seeds(other)})
    ours, theirs = (rewards(group, both or train_seeds(group), seeds) for group in (leader, other))
    return None if (np.isnan(ours).any(0) | np.isnan(theirs).any(0)).all() else (ours, theirs)


def difference(leader: Group, other: Group) -> Estimate | None:
    """leader − other on what `paired` finds; None where there is nothing to compare."""
    both = paired(leader, other)
    return difference_across_runs(*both) if both else None


def lacks(leader: Group, other: Group) -> tuple[str, ...]:
    """What a verdict on their difference lacks."""
    both = paired(leader, other)
    whole = int((~(np.isnan(both[0]).any(0) | np.isnan(both[1]).any(0))).sum()) if both else 0
    seeds = {*train_seeds(leader)} & {*train_seeds(other)} or {*train_seeds(leader)}
    return lacking(
        whole, *([_trained(each) for each in group.records if each.train_seed in seeds] for group in (leader, other))
    )


def _trained(record: RunRecord) -> Trained:
    """A study's runs of a scenario learn from the same recordings; what else is unequal stands in `changes`."""
    changes = dict(change.partition("=")[::2] for change in record.changes.split("; "))
    return trained(record.train_seed, record.updates, record.scenario, {"reward": record.reward} | changes)


def _told(leader: Group, other: Group) -> tuple[str, str, str]:
    """Mean, interval and verdict of a difference, or what it lacks; empty when there is none."""
    found = difference(leader, other)
    if not found:
        return "", "", ""
    return f"{found.mean:+.0f}", f"{found.low:+.0f} … {found.high:+.0f}", in_words(found, lacks(leader, other))


def _row(group: Group, leader: Group | None) -> list[str]:
    counted, seeds = group.counted, train_seeds(group)
    if not counted:
        return [group.label, "every simulator failed", *[""] * 12]
    matrix = rewards(group, seeds, episode_seeds(group))
    pooled = across_runs(matrix)
    steps = np.array([each.steps for each in counted], np.float64)
    by_run = group.episodes[0].run != ""
    failed = len(group.episodes) - len(counted)
    cpu = [record.cpu_training or record.seconds for record in group.records]
    return [
        group.label,
        (f"{len(seeds)} × " if by_run else "") + f"{matrix.shape[1]}" + (f" ({failed} failed)" if failed else ""),
        f"{pooled.mean:.0f} ± {pooled.std:.0f}",
        f"{pooled.low:.0f} … {pooled.high:.0f}",
        *(_told(leader, group) if leader and not group.leads else ("", "", "")),
        ", ".join(f"{value:.0f}" for value in mean(matrix, 1)) if by_run else "",
        f"{_mean(counted, lambda each: each.distance):.0f}",
        f"{_mean(counted, lambda each: each.crash_intensity):.0f}",
        f"{_mean(counted, lambda each: each.ending == 'success'):.0%}",
        f"{_mean(counted, lambda each: each.crash_intensity > 0):.0%}",
        f"{np.average([each.brake for each in counted], weights=np.maximum(steps, 1)):.3f}",
        f"{np.mean(cpu):,.0f}" if cpu else "",
    ]


def _mean(episodes: Sequence[Episode], of: Callable[[Episode], float]) -> float:
    return float(np.mean([of(episode) for episode in episodes]))


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
