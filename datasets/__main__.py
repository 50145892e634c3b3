"""Look after recorded data and the knowledge cache: what there is and whether it is sound, other formats and folders,
which records serve a frame, what a change makes stale, what can go."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final, Protocol

from docstring_parser import parse_from_object
from jsonargparse import ArgumentParser, set_parsing_settings

from semore.datasets.interop.card import Card
from semore.datasets.interop.export import Export, Import
from semore.datasets.interop.hub import Pull, Push
from semore.datasets.knowledge.admin.compact import Compact
from semore.datasets.knowledge.admin.diff import Diff
from semore.datasets.knowledge.admin.gc import Gc
from semore.datasets.knowledge.admin.needs import MANY, OPTIONAL
from semore.datasets.knowledge.admin.stats import Sets, Stats
from semore.datasets.knowledge.admin.verify import Verify
from semore.datasets.knowledge.admin.why import Why
from semore.datasets.rollouts.listing import List, Show
from semore.datasets.rollouts.merge import Merge, Split
from semore.datasets.rollouts.validate import Validate
from semore.datasets.settings import run_command


class Command(Protocol):
    """A dataclass of settings; those without a default are positional."""

    def execute(self) -> int:
        """Do it; the exit code."""


COMMANDS: Final[Mapping[str, type[Command]]] = {
    "list": List,
    "show": Show,
    "validate": Validate,
    "merge": Merge,
    "split": Split,
    "export": Export,
    "import": Import,
    "card": Card,
    "push": Push,
    "pull": Pull,
    "why": Why,
    "diff": Diff,
    "sets": Sets,
    "stats": Stats,
    "verify": Verify,
    "gc": Gc,
    "compact": Compact,
}


def command(arguments: Sequence[str] | None = None) -> Command:
    """The command that the arguments (default: the command line) ask for. `--help` ends the program, wrong arguments
    with exit code 2."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(prog="semore datasets", description=__doc__)
    subcommands = parser.add_subcommands(required=True, dest="command")
    given = list(sys.argv[1:] if arguments is None else arguments)
    for name, settings in COMMANDS.items():
        about = " ".join((settings.__doc__ or "").split())
        subparser = ArgumentParser(description=about)
        if name in given[:1]:  # the settings of all commands together take half a second
            _add_arguments(subparser, settings)
        subcommands.add_subcommand(name, subparser, help=about.partition(". ")[0])
    parsed = parser.instantiate(parser.parse_args(given))
    return COMMANDS[parsed.command](**vars(parsed[parsed.command]))


def _add_arguments(parser: ArgumentParser, settings: type[Any]) -> None:
    """Settings without a default become positional; beyond what jsonargparse does, so can one with a default
    (`OPTIONAL`), and booleans become flags without a value."""
    flags = [field for field in fields(settings) if field.default is False]
    trailing = [field for field in fields(settings) if field.metadata in (OPTIONAL, MANY)]
    skipped = {field.name for field in flags + trailing}
    parser.add_class_arguments(settings, as_positional=True, as_group=False, skip=skipped)
    docs = {
        each.arg_name: each.description for base in settings.__mro__[:-1] for each in parse_from_object(base).params
    }
    for field in trailing:
        number = "*" if field.metadata == MANY else "?"
        parser.add_argument(field.name, nargs=number, type=str, default=field.default, help=docs[field.name])
    for field in flags:
        parser.add_argument(f"--{field.name}", action="store_true", help=docs[field.name])


def main() -> None:
    raise SystemExit(command().execute())


if __name__ == "__main__":
    run_command(main)
