"""The study as a whole: the paper's claim by scenario, methods over all scenarios, and the cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from semore.evaluate.claims import NONE, in_words, verdict
from semore.evaluate.statistics import Estimate, Values, across_scenarios, ahead
from study.results.files import Results, RunRecord
from study.results.tables import (
    EMPTY,
    NAMES,
    TABLES,
    Group,
    difference,
    groups_of,
    lacks,
    markdown,
    paired,
    world_groups,
)

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
        others = [group for group in groups.values() if not group.leads and group.counted]
        if lead is None or not others:
            continue
        best = max(others, key=_mean)
        rivals = (*map(groups.get, CLAIMED), best)
        found = [difference(lead, rival) if rival else None for rival in rivals]
        rows.append([about.scenario, *map(_told, found), best.label, _holds(lead, rivals)])
    if not rows:
        return EMPTY
    names = [f"Semore − {name} (95 %)" for name in (*CLAIMED, "the best other")]
    return markdown(("scenario", *names, "the best other", "the claim holds"), rows)


def _holds(lead: Group, rivals: Sequence[Group | None]) -> str:
    """yes: the lead is ahead of every rival; else no, or what the answer lacks."""
    there = [rival for rival in rivals if rival]
    if lack := tuple(dict.fromkeys(words for rival in there for words in lacks(lead, rival))):
        return f"{NONE}: {', '.join(lack)}"
    found = [difference(lead, rival) for rival in there]
    held = len(there) == len(rivals) and all(each and verdict(each, ()) == "ahead" for each in found)
    return "yes" if held else "no"


def scores(results: Results) -> str:
    """Each method's reward over all scenarios, where `random` has 0 and the imitated driver 1 in each of them."""
    units = {name: unit for name in SCENARIOS if (unit := _unit(results, name))}
    found: dict[str, dict[str, Group]] = {}
    for name, about in SCENARIOS.items():
        for group in groups_of(results, about):
            if group.counted and name in units:
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

    alone = [scored(name, both[0]) for name, group in groups.items() if (both := paired(group, group))]
    mean = across_scenarios([(values, np.zeros_like(values)) for values in alone])
    yield label
    yield from (f"{values.mean():.2f}" for values in alone)
    yield f"{mean.mean:.2f}"
    yield f"{mean.low:.2f} … {mean.high:.2f}"
    if groups is lead:
        yield from [""] * 5
        return
    pairs = [
        (scored(name, both[0]), scored(name, both[1])) for name in groups if (both := paired(lead[name], groups[name]))
    ]
    lead_by, chance = across_scenarios(pairs), across_scenarios(pairs, ahead)
    yield f"{lead_by.mean:+.2f}"
    yield f"{lead_by.low:+.2f} … {lead_by.high:+.2f}"
    lack = dict.fromkeys(words for name in groups for words in lacks(lead[name], groups[name]))
    yield in_words(lead_by, tuple(lack))
    yield f"{chance.mean:.0%}"
    yield f"{chance.low:.0%} … {chance.high:.0%}"


def _unit(results: Results, name: str) -> tuple[float, float] | None:
    """The rewards that are 0 and 1 in a scenario; None before they have been driven."""
    means = {group.label: _mean(group) for group in world_groups(results, SCENARIOS[name]) if group.counted}
    nil, whole = means.get(NAMES[NIL]), means.get(NAMES[WHOLE])
    return None if nil is None or whole is None else (nil, whole)


def cost(results: Results) -> str:
    """Processor hours by part: a run counts for the part that has trained it."""
    first: dict[tuple[str, int], RunRecord] = {}
    for record in results.runs:
        first.setdefault((record.run, record.train_seed), record)
    if not first:
        return EMPTY
    rows, total = [], [0.0, 0.0, 0.0]
    for part in dict.fromkeys(record.part for record in first.values()):
        own = [record for record in first.values() if record.part == part]
        training = sum(record.cpu_training or record.seconds for record in own) / 3600
        driving = sum(record.cpu_driving for record in own) / 3600
        total = [have + more for have, more in zip(total, (len(own), training, driving), strict=True)]
        rows.append([part, f"{len(own)}", f"{training:.2f}", f"{driving:.2f}", f"{training + driving:.2f}"])
    rows.append(["all", f"{total[0]:.0f}", f"{total[1]:.2f}", f"{total[2]:.2f}", f"{total[1] + total[2]:.2f}"])
    return markdown(("part", "runs", "training, CPU h", "driving, CPU h", "together"), rows)


def _mean(group: Group) -> float:
    return float(np.mean([each.episode_reward for each in group.counted]))


def _told(found: Estimate | None) -> str:
    return f"{found.mean:+.0f} ({found.low:+.0f} … {found.high:+.0f})" if found else ""
