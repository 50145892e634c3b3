"""The plan of the study: its parts as plain data, and the training runs that follow from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from semore.datasets.errors import SemoreError
from semore.datasets.settings import load_settings
from semore.evaluate.sweep.points import identity
from semore.train.settings import TrainSettings

SCENARIOS: Final = ("JayWalk", "HighBeam", "HighWay")
METHODS: Final = ("semore", "sac", "deepmdp", "drq", "curl")
EXACT: Final = "privileged"
"""The knowledge set whose masks are the simulator's own."""

Changes = Mapping[str, Any]
"""Values of training settings, by dotted name."""
T = TypeVar("T")


class Variant(NamedTuple):
    """A row of a part's tables: a method, and what is changed in its settings."""

    label: str
    method: str
    changes: Changes = MappingProxyType({})


@dataclass(frozen=True)
class Part:
    """Variants that are compared with each other, each in every one of the scenarios."""

    scenarios: tuple[str, ...]
    variants: Callable[[TrainSettings], Sequence[Variant]]
    """Made from Semore's own settings, which some of them are relative to."""
    reward: str = "published"
    few: bool = False
    """Whether fewer training seeds are enough."""


def _methods(*methods: str) -> Callable[[TrainSettings], list[Variant]]:
    return lambda _: [Variant(method, method) for method in methods]


def _semore(**changes: Changes) -> Callable[[TrainSettings], list[Variant]]:
    return lambda _: [Variant(label.replace("_", "-"), "semore", values) for label, values in changes.items()]


def _sensitivity(semore: TrainSettings) -> list[Variant]:
    agent, replay = semore.agent, semore.replay
    widths = agent.encoder.channels
    values: list[tuple[str, str, Any]] = [
        ("channels-half", "agent.encoder.channels", tuple(width // 2 for width in widths)),
        ("channels-double", "agent.encoder.channels", tuple(width * 2 for width in widths)),
        ("lr-third", "agent.lr", _three_digits(agent.lr / 3)),
        ("lr-triple", "agent.lr", _three_digits(agent.lr * 3)),
        ("alpha-third", "agent.initial_alpha", _three_digits(agent.initial_alpha / 3)),
        ("alpha-triple", "agent.initial_alpha", _three_digits(agent.initial_alpha * 3)),
        ("lambda-0.1", "agent.semantic_weight", 0.1),
        ("lambda-10", "agent.semantic_weight", 10.0),
        ("filter-quarter", "replay.filter_steps", max(replay.filter_steps // 4, 1)),
        ("filter-fourfold", "replay.filter_steps", replay.filter_steps * 4),
        ("admission-literal", "replay.admission", "literal"),
    ]
    return [Variant("full", "semore"), *(Variant(label, "semore", {name: value}) for label, name, value in values)]


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")


NO_MASK_PATH: Final[Changes] = {"agent.encoder.attention": "none", "agent.encoder.mask_path": "gated"}
"""No mask reaches z: without the attention there is nothing behind the gates."""
PARTS: Final[Mapping[str, Part]] = {
    "main": Part(SCENARIOS, _methods(*METHODS)),
    "rivals": Part(SCENARIOS, _methods("semore", "sac-segmentation", "cloning")),
    "ablations": Part(
        SCENARIOS[:2],
        _semore(
            full={},
            # Nothing teaches a mask, so none is read: cached ones in training alone would be missed when acting.
            no_semantic_loss={"agent.semantic_weight": 0.0, **NO_MASK_PATH},
            no_cross_attention={"agent.encoder.attention": "none"},
            no_mask_path=NO_MASK_PATH,
            no_motion_stream={"agent.encoder.silent": "motion"},
            no_selective_replay={"replay.admission": "off"},
            no_refresh={"schedule.refresh_every": 0},
        ),
        few=True,
    ),
    "masks": Part(
        SCENARIOS[:2],
        _semore(
            cris_tiny={}, exact={"knowledge": EXACT}, shuffled={"masks": "shuffled"}, empty={"masks": "empty"}
        ),
        few=True,
    ),
    "safety": Part(SCENARIOS, _methods(*METHODS), reward="safety", few=True),
    "sensitivity": Part(SCENARIOS[:1], _sensitivity, few=True),
}  # fmt: skip
"""In the order in which a run that several parts have is named, and trained, by the first of them."""


class Planned(NamedTuple):
    """A row of a part's tables and one of its training runs; other parts may have the same run."""

    part: str
    label: str
    settings: TrainSettings
    changes: Changes
    """What differs from the method's own settings."""


def plan(
    preset: str,
    scenarios: Sequence[str],
    seeds: Sequence[int],
    few_seeds: Sequence[int],
    runs: str,
    base: Sequence[str] = (),
) -> list[Planned]:
    """Every row and seed of all parts, part by part and seed by seed, in the folder `runs`. Runs with the same
    settings are one run, under one name. SemoreError for settings that make no sense."""
    unknown = set(scenarios) - set(SCENARIOS)
    if unknown or not scenarios:
        raise SemoreError(f"unknown scenarios {sorted(unknown)}; choose from {', '.join(SCENARIOS)}")
    named: dict[bytes, str] = {}

    @cache
    def method(name: str) -> TrainSettings:
        beneath = json.dumps({"preset": preset})  # so that a config file among `base` beats it
        arguments = [f"--config={beneath}", "--method", name, *(f"--{text}" for text in base)]
        return load_settings(TrainSettings, "train", arguments)

    def of(part: Part) -> Iterator[tuple[Variant, TrainSettings]]:
        for scenario in (name for name in part.scenarios if name in scenarios):
            for variant in part.variants(method("semore")):
                own = changed(method(variant.method), {**variant.changes, "scenario": scenario, "reward": part.reward})
                own.validate()
                told = variant.label if variant.label == variant.method else f"{variant.method}-{variant.label}"
                name = f"{scenario}-{told}" + ("" if part.reward == "published" else f"-{part.reward}")
                alone = replace(own, seed=1, seeds=(), runs=runs, run="", scheduler="none", parallel=0)
                yield variant, replace(alone, run=named.setdefault(identity(alone), name))

    planned = []
    for name, part in PARTS.items():
        rows = list(of(part))
        planned += [
            Planned(name, row.label, replace(own, seed=seed, run=f"{own.run}-seed{seed}"), row.changes)
            for seed in (few_seeds if part.few else seeds)
            for row, own in rows
        ]
    return planned


def work(planned: Iterable[Planned], parts: Sequence[str]) -> list[Planned]:
    """What the chosen parts train, in their order: each run once, and those of another part that names it not at all.
    SemoreError for unknown parts."""
    unknown = set(parts) - set(PARTS)
    if unknown or not parts:
        raise SemoreError(f"unknown parts {sorted(unknown)}; choose from {', '.join(PARTS)}")
    first: dict[str, Planned] = {}
    for each in planned:
        first.setdefault(each.settings.run, each)
    return sorted((each for each in first.values() if each.part in parts), key=lambda each: parts.index(each.part))


def changed(settings: T, changes: Changes) -> T:
    """A settings dataclass with the values of these dotted names."""
    own: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        head, dot, rest = name.partition(".")
        if dot:
            inner.setdefault(head, {})[rest] = value
        else:
            own[name] = value
    own |= {head: changed(getattr(settings, head), values) for head, values in inner.items()}
    return replace(settings, **own)  # type: ignore[type-var]
