"""Look after rollouts and the knowledge cache: list, validate, export, explain, compare, and free space."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from semore.datasets.command_line import add_settings, make_parser
from semore.datasets.interop.card import Card
from semore.datasets.interop.export import Export, Import
from semore.datasets.interop.hub import Pull, Push
from semore.datasets.knowledge.admin.compact import Compact
from semore.datasets.knowledge.admin.diff import Diff
from semore.datasets.knowledge.admin.gc import Gc
from semore.datasets.knowledge.admin.stats import Sets, Stats
from semore.datasets.knowledge.admin.verify import Verify
from semore.datasets.knowledge.admin.why import Why
from semore.datasets.rollouts.listing import List, Show
from semore.datasets.rollouts.merge import Merge, Split
from semore.datasets.rollouts.validate import Validate
from semore.datasets.run_command import run_command


class Command(Protocol):
    """A command as a dataclass of settings; those without a default are positional."""

    def execute(self) -> int:
        """Run the command; returns the exit code."""


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
    parser = make_parser("datasets", __doc__)
    subcommands = parser.add_subcommands(required=True, dest="command")
    given = list(sys.argv[1:] if arguments is None else arguments)
    for name, settings in COMMANDS.items():
        about = " ".join((settings.__doc__ or "").split())
        subparser = make_parser(f"datasets {name}", about)
        if name in given[:1]:  # the settings of all commands together take half a second
            add_settings(subparser, settings)
        subcommands.add_subcommand(name, subparser, help=about.partition(". ")[0])
    parsed = parser.instantiate(parser.parse_args(given))
    return COMMANDS[parsed.command](**vars(parsed[parsed.command]))


def main() -> None:
    raise SystemExit(command().execute())


if __name__ == "__main__":
    run_command(main)
