"""The console command `semore`: one subcommand per thing a user does, each the `main` of the module that does it.

Modules are imported only when their command is called, so that a help text or a mistyped name answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Final, NamedTuple

from semore.datasets.errors import did_you_mean
from semore.datasets.run_command import run_command


class Command(NamedTuple):
    """Where a command's `main()` is, and what it does in one line."""

    module: str
    about: str


COMMANDS: Final[Mapping[str, Command]] = {
    "collect": Command("collect.__main__", "record rollouts of a scenario"),
    "annotate": Command("annotate.__main__", "describe, segment and judge recorded frames, once, into the cache"),
    "train": Command("train.__main__", "train on recorded rollouts and their cached knowledge"),
    "evaluate": Command("evaluate.__main__", "drive the test seeds with a trained policy and its baselines"),
    "audit": Command("annotate.audit.__main__", "measure a knowledge set against the simulator's truth"),
    "report": Command("evaluate.report.__main__", "one HTML file that compares runs"),
    "compare": Command("evaluate.compare", "several runs in one table"),
    "view": Command("evaluate.view.__main__", "walk through a recorded episode in a browser"),
    "counterfactual": Command("evaluate.counterfactual.__main__", "the same policy with other masks or without a part"),
    "sweep": Command("evaluate.sweep.__main__", "train for every value of chosen settings, and compare"),
    "demo": Command("evaluate.film.__main__", "films of the shipped policies"),
    "datasets": Command("datasets.__main__", "look after rollouts and the knowledge cache: list, why, diff, export, …"),
    "doctor": Command("doctor", "what is installed and reachable of all that Semore can use"),
    "loopback": Command("collect.carla.loopback.__main__", "a server that speaks CARLA's protocol, without Unreal"),
    "gallery": Command("collect.gallery.__main__", "contact sheets of the embedded world"),
    "opendrive": Command("collect.embedded.maps.__main__", "a map of the embedded world as OpenDRIVE"),
    "compile": Command("collect.embedded.__main__", "compile the embedded world's kernels ahead of their first use"),
    "rehearse": Command("annotate.rehearsal.__main__", "a cluster's bad day on this machine, with a fake model"),
    "cris-tiny": Command(
        "annotate.segment.cris_tiny.__main__", "train the small segmenter of the embedded world again"
    ),
}


def main() -> None:
    """Run the subcommand that the command line names; exit code 2 with the closest name when there is none."""
    given = sys.argv[1:2]
    if not given or given[0] in ("-h", "--help"):
        print(usage())
        return
    name = given[0]
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        print(f"error: semore has no command {name!r}; {hint} `semore --help` lists all", file=sys.stderr)
        raise SystemExit(2)
    del sys.argv[1]
    sys.argv[0] = f"semore {name}"

    def command() -> None:
        import_module(f"semore.{COMMANDS[name].module}").main()

    run_command(command)


def usage() -> str:
    """What `semore --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.about}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: semore COMMAND [OPTIONS]", "", *lines, "", "`semore COMMAND --help` lists its options."])


if __name__ == "__main__":
    main()
