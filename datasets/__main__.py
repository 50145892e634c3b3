"""Look after rollouts and the knowledge cache: list, validate, export, explain, compare, and free space."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from semore.datasets.command_line import read_settings
from semore.datasets.errors import UsageError, did_you_mean
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

LISTED: Final = "`semore datasets --help` lists all"
EACH: Final = "`semore datasets COMMAND --help` lists the options of one"


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
    """The command that the arguments (default: this program's) ask for. `--help` ends the program; UsageError for wrong
    ones."""
    name, *given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        raise SystemExit(0)
    if name not in COMMANDS:
        raise UsageError(f"semore datasets has no command {name!r}; {did_you_mean(name, COMMANDS)} {LISTED}".strip())
    return read_settings(COMMANDS[name], f"datasets {name}", given, _about(name))


def usage() -> str:
    """What `semore datasets --help` prints."""
    lines = [f"  {name:<9} {_about(name).partition('. ')[0]}" for name in COMMANDS]
    told = " ".join((__doc__ or "").split())
    return "\n".join(["usage: semore datasets COMMAND [OPTIONS]", "", told, "", *lines, "", f"{EACH}."])


def _about(name: str) -> str:
    return " ".join((COMMANDS[name].__doc__ or "").split())


def main() -> None:
    raise SystemExit(command().execute())


if __name__ == "__main__":
    run_command(main)
