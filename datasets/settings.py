"""Settings of a stage: one frozen dataclass, filled from preset, method, environment, config files and command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from itertools import islice
from typing import Any, TypeVar

from jsonargparse import ArgumentError, Namespace

from semore.datasets.command_line import make_parser, spelt, words_for
from semore.datasets.errors import SemoreError
from semore.datasets.presets import checked, flat, method_path, own_parser, plain_parser, preset_sections, read_yaml

T = TypeVar("T")


def load_settings(settings: type[T], stage: str, arguments: Sequence[str] | None = None) -> T:
    """Fill the dataclass `settings`, each over the one before, from: the preset (default laptop); where it has a
    `method`, the file of that name in presets/methods; `--config` files; dotted overrides such as `--agent.lr 1e-4`.
    Preset and method bring their values wherever they are named: on the command line, in a config file, in the
    environment, and a method in the preset too. `--print_config` shows the resolved settings, `--help` explains each.

    Unknown keys and values of the wrong type end the program with the parser's message (exit code 2); in a preset they
    are a SemoreError naming the file.
    """
    parser = make_parser(stage, sys.modules[settings.__module__].__doc__)
    parser.add_argument("--config", action="config", help="a YAML file of this stage's settings, over the preset")
    parser.add_class_arguments(settings)
    given = _configs_first(words_for(settings, stage, arguments))
    # Which preset and which method are named is the parser's to say: it alone knows all the places.
    quiet = [word for word in given if word not in ("-h", "--help") and word.partition("=")[0] != "--print_config"]

    def laid_over(defaults: dict[str, Any]) -> Namespace:
        parser.set_defaults(defaults)
        return parser.parse_args(quiet)

    parser.set_defaults(_under(settings, stage, laid_over))
    ready = parser.instantiate(parser.parse_args(given))
    return spelt(settings, ready)


def _under(settings: type[Any], stage: str, resolve: Callable[[dict[str, Any]], Namespace]) -> dict[str, Any]:
    """What lies under the given settings, by dotted name: the values of the preset, and those of the method over them.
    `resolve` lays what is given over defaults, and so tells which preset and method are meant."""
    preset = resolve({})["preset"]
    defaults: dict[str, Any] = {}
    for path, section in preset_sections(preset, stage):
        defaults |= checked(settings, section, f"{path}, section {stage!r}")
    defaults["preset"] = preset  # runs are called after what was asked for, not after what that rests on
    if stage == "train":  # elsewhere a method only names a run
        overlay = method_path(resolve(defaults)["method"])
        defaults |= checked(settings, read_yaml(overlay), str(overlay))
    return defaults


def as_dict(settings: Any) -> dict[str, Any]:
    """A settings dataclass as plain YAML/JSON values (tuples become lists)."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return plain


def from_dict(settings: type[T], values: Mapping[str, Any]) -> T:
    """The settings dataclass with these (nested) values; SemoreError naming what does not fit. One that belongs to a
    `stage` has its preset's and method's values under them, as on the command line."""
    return _from_values(settings, values, getattr(settings, "stage", None))


def from_record(settings: type[T], values: Mapping[str, Any]) -> T:
    """The settings dataclass that `as_dict` made these values of, whatever presets say today: what an earlier version
    did not know yet is at the class's default. Errors as of `from_dict`."""
    return _from_values(settings, values, None)


def _from_values(settings: type[T], values: Mapping[str, Any], stage: str | None) -> T:
    parser = own_parser(settings) if stage else plain_parser(settings)  # type: ignore[arg-type]

    def laid_over(defaults: dict[str, Any]) -> Namespace:
        if defaults:
            parser.set_defaults(defaults)
        parsed: Namespace = parser.parse_object(dict(values))
        return parsed

    try:
        ready = parser.instantiate(laid_over(_under(settings, stage, laid_over) if stage else {}))
    except ArgumentError as error:
        raise SemoreError(f"{settings.__name__}: {' '.join(str(error).split())}") from None
    if stage:
        return spelt(settings, ready)
    return settings(**{field.name: ready[field.name] for field in fields(settings)})  # type: ignore[arg-type]


def changed(settings: Any, *without: str) -> dict[str, Any]:
    """By dotted name, the values of a settings dataclass that differ from what its command does by itself under the
    same preset and method (which are named, too): what a command line has to say to get these settings again."""
    same = {name: getattr(settings, name) for name in ("preset", "method") if hasattr(settings, name)}
    plain = from_dict(type(settings), same) if hasattr(settings, "stage") else type(settings)(**same)
    beneath = dict(flat(as_dict(plain)))
    own = {name: value for name, value in flat(as_dict(settings)) if value != beneath.get(name)}
    return {name: value for name, value in {**same, **own}.items() if name not in without}


def part_of(settings: Any, part: type[T]) -> T:
    """The fields that a settings dataclass has inherited from `part`, as a `part`."""
    return part(**{field.name: getattr(settings, field.name) for field in fields(part)})  # type: ignore[arg-type]


def _configs_first(arguments: Sequence[str]) -> list[str]:
    """The words with every `--config` in front: a later one counts, and the command line beats files in any order."""
    files: list[str] = []
    others: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--config":
            files += [word, *islice(words, 1)]
        else:
            (files if word.startswith("--config=") else others).append(word)
    return files + others
