"""The study as a whole: the paper's claim by scenario, methods over all scenarios, and the cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from semore.evaluate.claims import NONE, in_words
from semore.evaluate.compared import Pair, compare
from semore.evaluate.statistics import Values, across_scenarios, ahead
from semore.evaluate.table import around, interval, markdown
from study.results.files import Results
from study.results.tables import EMPTY, NAMES, TABLES, Group, groups_of, world_groups

SCENARIOS: Final = {name: about for name, about in TABLES.items() if about.parts[0] == "main"}
"""The tables of the methods, one for each scenario."""
CLAIMED: Final = tuple(NAMES[method] for method in ("sac", "deepmdp"))
"""Whom Semore must be ahead of, and of the best other method, for the claim to hold in a scenario."""
NIL, WHOLE = "random", "fast_driver"
"""Whose mean reward is a score of 0 and of 1."""


def claim(results: Results) -> str:
    """By scenario: Semore − SAC, − DeepMDP and − the method with the highest mean reward of all others."""
    rows = []
    for about in SCENARIOS.values():
        groups = {group.label: group for group in groups_of(results, about)}
        lead = next((group for group in groups.values() if group.leads), None)
        others = [group for group in groups.values() if not group.leads and len(group.driven)]
        if lead is None or not others:
            continue
        best = max(others, key=lambda group: group.pooled("reward").mean)
        pairs = [compare(lead, rival, True) if rival else None for rival in (*map(groups.get, CLAIMED), best)]
        told = [around(pair.difference) if pair and pair.seeds else "" for pair in pairs]
        rows.append([about.scenario, *told, best.label, _holds(pairs)])
    if not rows:
        return EMPTY
    names = [f"Semore − {name} (95 %)" for name in (*CLAIMED, "the best other")]
    return markdown(("scenario", *names, "the best other", "the claim holds"), rows)


def _holds(pairs: Sequence[Pair[Group] | None]) -> str:
    """yes: the lead is ahead of every rival; else no, or what the answer lacks."""
    if lack := tuple(dict.fromkeys(words for pair in pairs if pair for words in pair.lacks)):
        return f"{NONE}: {', '.join(lack)}"
    return "yes" if all(pair and pair.verdict == "ahead" for pair in pairs) else "no"


def scores(results: Results) -> str:
    """Each method's reward over all scenarios, where `random` has 0 and the imitated driver 1 in each of them."""
    units = {name: unit for name in SCENARIOS if (unit := _unit(results, name))}
    found: dict[str, dict[str, Group]] = {}
    for name, about in SCENARIOS.items():
        for group in groups_of(results, about):
            if len(group.driven) and name in units:
                found.setdefault(group.label, {})[name] = group
    whole = {label: groups for label, groups in found.items() if len(groups) == len(SCENARIOS)}
    lead = next((groups for groups in whole.values() if all(group.leads for group in groups.values())), None)
    if lead is None:
        return EMPTY
    rows = [list(_score_row(label, groups, lead, units)) for label, groups in whole.items()]
    header = (
        "", *(about.scenario for about in SCENARIOS.values()), "all", "95 % interval", "Semore minus it",
        "95 % interval", "verdict", "chance that Semore has more", "95 % interval",
    )  # fmt: skip
    return markdown(header, rows)


def _score_row(
    label: str, groups: Mapping[str, Group], lead: Mapping[str, Group], units: Mapping[str, tuple[float, float]]
) -> Iterator[str]:
    def scored(name: str, values: Values) -> Values:
        nil, whole = units[name]
        return (values - nil) / (whole - nil)

    itself = {name: compare(group, group) for name, group in groups.items()}
    alone = [scored(name, pair.values[0]) for name, pair in itself.items() if pair.seeds]
    mean = across_scenarios([(values, np.zeros_like(values)) for values in alone])
    yield label
    yield from (f"{values.mean():.2f}" for values in alone)
    yield f"{mean.mean:.2f}"
    yield interval(mean, ".2f")
    if groups is lead:
        yield from [""] * 5
        return
    found = {name: compare(lead[name], group, True) for name, group in groups.items()}
    pairs = [(scored(name, pair.values[0]), scored(name, pair.values[1])) for name, pair in found.items() if pair.seeds]
    lead_by, chance = across_scenarios(pairs), across_scenarios(pairs, ahead)
    yield f"{lead_by.mean:+.2f}"
    yield interval(lead_by, "+.2f")
    lack = dict.fromkeys(words for pair in found.values() for words in pair.lacks)
    yield in_words(lead_by, tuple(lack))
    yield f"{chance.mean:.0%}"
    yield interval(chance, ".0%")


def _unit(results: Results, name: str) -> tuple[float, float] | None:
    """The rewards that are 0 and 1 in a scenario; None before they have been driven."""
    world = world_groups(results, SCENARIOS[name])
    ends = [world[policy] for policy in (NIL, WHOLE) if policy in world and len(world[policy].driven)]
    return (ends[0].pooled("reward").mean, ends[1].pooled("reward").mean) if len(ends) == 2 else None


def cost(results: Results) -> str:
    """Processor hours by part: a run counts for the part that has trained it."""
    if not results.runs:
        return EMPTY
    every = pd.DataFrame(map(vars, results.runs)).drop_duplicates(["run", "train_seed"])
    every["training"] = every["cpu_training"].where(every["cpu_training"] > 0, every["seconds"])
    hours = every.groupby("part", sort=False)[["training", "cpu_driving"]].sum() / 3600
    hours.insert(0, "runs", every["part"].value_counts())
    hours.loc["all"] = hours.sum()
    rows = [
        [part, f"{runs:.0f}", f"{training:.2f}", f"{driving:.2f}", f"{training + driving:.2f}"]
        for part, runs, training, driving in hours.itertuples()
    ]
    return markdown(("part", "runs", "training, CPU h", "driving, CPU h", "together"), rows)
