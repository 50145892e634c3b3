"""The points of a sweep: which settings take which values, and the training runs that follow from them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Any, Final

import yaml

from semore.datasets.atomic_io import digest_json
from semore.datasets.errors import SemoreError
from semore.datasets.settings import load_settings
from semore.train.run_io import run_settings
from semore.train.settings import TrainSettings, hyperparameters

DESIGNS: Final = ("grid", "single")
OWN: Final = ("seed", "seeds")
"""What a sweep gives its runs itself."""


@dataclass(frozen=True)
class Point:
    """A place in a sweep: what tables and plots call it (name, value) by axis, and the settings that make it."""

    axes: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]

    @property
    def label(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.axes)


@dataclass(frozen=True)
class PlannedRun:
    """One training run of a point."""

    point: Point
    settings: TrainSettings


def points_of(vary: Sequence[str], design: str, base: Mapping[str, str]) -> list[Point]:
    """The points of `NAME=VALUE,VALUE,…` each: every combination (grid), or the base and what differs from it in one
    setting (single). SemoreError for what is no such text, or names no setting of the `base`."""
    if design not in DESIGNS:
        raise SemoreError(f"unknown design {design!r}; choose one of {', '.join(DESIGNS)}")
    axes = [list(_axis(text, base)) for text in vary]
    names = [axis[0][0] for axis in axes]
    if len(set(names)) < len(names):
        raise SemoreError(f"--vary names {', '.join(names)}: each setting once, with all its values")
    if design == "grid":
        return [Point(chosen, chosen) for chosen in product(*axes)]
    own = {name: base[name] for name in names}
    chosen = [own, *(own | {name: value} for axis in axes for name, value in axis if value != own[name])]
    return [Point(tuple(each.items()), tuple(each.items())) for each in chosen]


def settings_of(preset: str, scenario: str, base: Sequence[str], point: Point) -> TrainSettings:
    """The training settings of a point: the preset's, `base` (NAME=VALUE) over them, the point's over those. Values of
    the wrong type end the program with the parser's message; SemoreError for settings that make no sense together."""
    changes = [f"{name}={value}" for name, value in point.settings]
    beneath = json.dumps({"preset": preset, "scenario": scenario})  # so that a config file among `base` beats it
    arguments = [f"--config={beneath}", *(f"--{text}" for text in (*base, *changes))]
    settings = load_settings(TrainSettings, "train", arguments)
    settings.validate()
    return settings


def base_values(settings: TrainSettings) -> dict[str, str]:
    """What can be varied, by dotted name: all that tells one result from another. Values as points have them."""
    return {name: _text(value) for name, value in hyperparameters(settings).items() if name not in OWN}


def plan(
    points: Sequence[Point], preset: str, scenario: str, base: Sequence[str], seeds: Sequence[int], folder: Path
) -> list[PlannedRun]:
    """A run for each point and seed, in `folder`; errors as for `settings_of`, and SemoreError when two points are one
    and the same."""
    runs, found = [], dict[bytes, Point]()
    for point in points:
        settings = settings_of(preset, scenario, base, point)
        other = found.setdefault(identity(settings), point)
        if other is not point:
            raise SemoreError(f"{point.label} and {other.label} are the same settings; leave one of them out")
        name = file_name(point.label)
        for seed in seeds:
            own = replace(settings, runs=str(folder), run=f"{name}-seed{seed}", seed=seed, seeds=(), scheduler="none")
            runs.append(PlannedRun(point, own))
    return runs


def identity(settings: TrainSettings) -> bytes:
    """A digest of all settings that tell one result from another."""
    return digest_json(hyperparameters(settings))


def with_finished(runs: Sequence[PlannedRun], folder: Path) -> tuple[list[PlannedRun], list[PlannedRun]]:
    """(those a finished run of `folder` has the settings of, under its name; those still to train)."""
    there: dict[bytes, str] = {}
    for summary in sorted(folder.glob("*/summary.json")):
        there[identity(run_settings(summary.parent))] = summary.parent.name
    done, missing = [], []
    for run in runs:
        name = there.get(identity(run.settings))
        if name is None:
            missing.append(run)
        else:
            done.append(replace(run, settings=replace(run.settings, run=name)))
    return done, missing


def file_name(label: str) -> str:
    """A label as part of a folder's name, with a digest where it would be too long or was not kept whole."""
    plain = re.sub(r"[^\w.=,+\[\]-]", "", label)
    if len(plain) <= 120 and plain == label.replace(" ", ""):
        return plain
    return f"{plain[:100]}-{digest_json(label).hex()[:8]}"


def _axis(text: str, base: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    name, equals, values = text.partition("=")
    try:
        found: Any = yaml.safe_load(f"[{values}]")
    except yaml.YAMLError:
        found = None
    if not equals or not found:
        raise SemoreError(f"--vary {text!r}: write NAME=VALUE,VALUE, such as agent.lr=3e-4,1e-3")
    if name not in base:
        near = get_close_matches(name, base, 3, 0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "`semore train --help` names them all"
        raise SemoreError(f"--vary {text!r}: {name} is no setting of a training run that can be varied; {hint}")
    yield from ((name, _text(value)) for value in found)


def _text(value: Any) -> str:
    """As the command line takes it; a number always in the same way, 3e-4 too, which YAML takes for a word."""
    if not isinstance(value, str):
        return json.dumps(value, separators=(",", ":"))
    try:
        return json.dumps(float(value))
    except ValueError:
        return value
