"""Every command's options come from a frozen dataclass of settings, in one style.

Nested settings have dotted names (`--agent.lr 1e-4`), lists take several words or several uses (`--seeds 1 2 3`), a
field without a default is positional. Defaults may come from the environment (`SEMORE_SCENARIO=HighBeam`), which is
how make hands its variables on. A mistake is one line that names the closest option, and exit code 2.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from itertools import zip_longest
from types import MappingProxyType
from typing import Any, Final, NamedTuple, NoReturn, TypeVar, get_origin, get_type_hints

import yaml
from docstring_parser import parse_from_object
from jsonargparse import ArgumentParser, set_parsing_settings

from semore.datasets.errors import UsageError
from semore.datasets.names import scenario_name

OPTIONAL: Final = MappingProxyType({"positional": "one or none"})
"""Metadata of a positional field that may be left out."""
MANY: Final = MappingProxyType({"positional": "any number"})
"""Metadata of a positional field that takes any number of words."""
SOME: Final = MappingProxyType({"positional": "at least one"})
"""Metadata of a positional field that takes at least one word."""

T = TypeVar("T")


class Variable(NamedTuple):
    """A make variable: the setting it stands for, and the commands that take it (none named: all that have it)."""

    setting: str
    commands: tuple[str, ...] = ()


VARIABLES: Final[Mapping[str, Variable]] = {
    "PRESET": Variable("preset"),
    "SCENARIO": Variable("scenario"),
    "SCENARIOS": Variable("scenarios"),
    "METHOD": Variable("method"),
    "RUN": Variable("run"),
    "RUNS": Variable("runs", ("report", "compare")),
    "ROLLOUTS": Variable("rollouts"),
    "KNOWLEDGE": Variable("knowledge"),
    "WEATHER": Variable("weather"),
    "SIM": Variable("simulator"),
    "CARLA": Variable("carla.command"),
    "CARLA_HOST": Variable("carla.host"),
    "CARLA_PORT": Variable("carla.port"),
    "SERVERS": Variable("carla.servers"),
    "DESCRIBER": Variable("describer"),
    "SEGMENTER": Variable("segmenter"),
    "JUDGE": Variable("judge"),
    "SAMPLE": Variable("sample"),
    "FRAMES": Variable("frames", ("annotate",)),
    "BUDGET": Variable("budget"),
    "SCHEDULER": Variable("scheduler"),
    "WORKERS": Variable("workers", ("annotate", "counterfactual", "sweep")),
    "SEEDS": Variable("seeds"),
    "EPISODE": Variable("episode"),
    "VARY": Variable("vary"),
    "PARTS": Variable("parts"),
    "STUDY": Variable("study"),
}
"""Make's variables; each is the environment variable SEMORE_<name> for every command."""


class CommandParser(ArgumentParser):
    """A parser whose mistakes are one line with a remedy, raised as UsageError."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UsageError(_one_line(self, message)) from None


def make_parser(command: str, about: str | None, **options: Any) -> CommandParser:
    """A parser for `semore <command>`, which takes no abbreviations."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    prog = command if command.startswith("python -m ") else f"semore {command}"
    return CommandParser(prog=prog, description=about, allow_abbrev=False, **options)


def add_settings(parser: ArgumentParser, settings: type[Any]) -> None:
    """The options of a settings dataclass. A field without a default is positional; so is one marked OPTIONAL or MANY.
    A switch that is off by default is turned on by its name alone, or takes true or false."""
    extra = [field for field in fields(settings) if field.metadata in (OPTIONAL, MANY, SOME) or field.default is False]
    parser.add_class_arguments(settings, as_positional=True, as_group=False, skip={field.name for field in extra})
    docs = {
        each.arg_name: each.description for base in settings.__mro__[:-1] for each in parse_from_object(base).params
    }
    for field in extra:
        about = docs[field.name]
        if field.default is False:
            parser.add_argument(f"--{field.name}", default=False, type=bool, help=about)
        elif field.metadata == SOME:
            parser.add_argument(field.name, nargs="+", type=str, help=about)
        else:
            number = "?" if field.metadata == OPTIONAL else "*"
            parser.add_argument(field.name, nargs=number, type=str, default=field.default, help=about)


def read_settings(
    settings: type[T], command: str, arguments: Sequence[str] | None = None, about: str | None = None
) -> T:
    """The settings that the command line (default: this program's) and the environment ask of `semore <command>`.
    `--help` ends the program; UsageError for a mistake."""
    parser = make_parser(command, about or sys.modules[settings.__module__].__doc__)
    add_settings(parser, settings)
    ready = parser.instantiate(parser.parse_args(words_for(settings, command, arguments)))
    return spelt(settings, ready)


def spelt(settings: type[T], values: Mapping[str, Any]) -> T:
    """The settings with scenarios in their one spelling, and what follows from other settings filled in."""
    given = {field.name: values[field.name] for field in fields(settings)}  # type: ignore[arg-type]
    for name, kind in get_type_hints(settings).items():
        if get_origin(kind) is tuple and isinstance(given.get(name), list):  # of a positional that takes many words
            given[name] = tuple(given[name])
    if "scenario" in given:
        given["scenario"] = scenario_name(given["scenario"])
    if "scenarios" in given:
        given["scenarios"] = tuple(map(scenario_name, given["scenarios"]))
    made = settings(**given)
    return made.resolved() if hasattr(made, "resolved") else made


def words_for(settings: type[Any], command: str, arguments: Sequence[str] | None) -> list[str]:
    """The words, each list in one of them; default: this program's own behind those of the environment, which is of no
    concern to who names all the words."""
    lists = dict(_lists(settings))
    switches = {f"--{field.name}" for field in fields(settings) if field.default is False}
    if arguments is not None:
        return _gathered(_switched(arguments, switches), lists)
    given = _gathered(_switched(sys.argv[1:], switches), lists)
    return [*_gathered(_environment(settings, command), lists), *given]


def _switched(words: Sequence[str], switches: Collection[str]) -> list[str]:
    """The words with a value behind each switch that is turned on by its name alone."""
    written = []
    for word, after in zip_longest(words, words[1:], fillvalue=""):
        alone = word in switches and after.lower() not in ("true", "false")
        written.append(f"{word}=true" if alone else word)
    return written


def _environment(settings: type[Any], command: str) -> list[str]:
    names = set(setting_names(settings))
    words = []
    for name, variable in VARIABLES.items():
        value = os.environ.get(f"SEMORE_{name}", "")
        # A command that takes several scenarios and no single one is given the one that is named.
        setting = variable.setting if variable.setting in names else f"{variable.setting}s"
        if value and setting in names and command in (variable.commands or (command,)):
            many = any(field == setting for field, _ in _lists(settings))
            words += [f"--{setting}", *(value.split() if many else [value])]
    return words


def setting_names(settings: type[Any], prefix: str = "") -> Iterator[str]:
    """The dotted name of every setting of a dataclass, nested ones included."""
    hints = get_type_hints(settings)
    for field in fields(settings):
        if is_dataclass(hints[field.name]):
            yield from setting_names(hints[field.name], f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def _lists(settings: type[Any], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """(dotted name, whether its elements are texts) of every setting that is a list and no positional."""
    hints = get_type_hints(settings)
    for field in fields(settings):
        kind = hints[field.name]
        if is_dataclass(kind):
            yield from _lists(kind, f"{prefix}{field.name}.")  # type: ignore[arg-type]
        elif get_origin(kind) in (list, tuple) and field.metadata not in (OPTIONAL, MANY, SOME):
            yield prefix + field.name, kind.__args__[0] is str


def _gathered(words: Sequence[str], lists: Mapping[str, bool]) -> list[str]:
    """The words with all values of a list option made one word, in the parser's own way of writing a list."""
    kept: list[str] = []
    found: dict[str, list[Any]] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        name = name.removeprefix("--")
        if not word.startswith("--") or name not in lists:
            kept.append(word)
            continue
        values = [value] if equals else []
        while not equals and rest and not rest[0].startswith("--"):
            values.append(rest.pop(0))
        for text in values:
            if text.startswith("["):  # the parser's own way of writing a list: this one and no other
                found[name] = yaml.safe_load(text)
            else:
                found.setdefault(name, []).append(_value(text, lists[name]))
        found.setdefault(name, [])
    return kept + [f"--{name}={json.dumps(values)}" for name, values in found.items()]


def _value(text: str, is_text: bool) -> Any:
    return text if is_text else yaml.safe_load(text)


def _one_line(parser: ArgumentParser, message: str) -> str:
    """What is wrong, the closest option there is, and where all are listed."""
    said = " ".join(message.split())
    known = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    wrong = re.search(r"nrecognized arguments: (--[\w.]+)", said)
    close = get_close_matches(wrong[1], known, n=1, cutoff=0.6) if wrong else []
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{said}{hint} (`{parser.prog.replace(' [options]', '')} --help` lists all options)"
