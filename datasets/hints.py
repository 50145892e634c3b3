"""Commands as hints and remedies name them: in full, so that what is printed acts on what the user meant.

A user of make is answered with a make command, everybody else with the console command.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any, Final

from semore.datasets.command_line import VARIABLES

DEFAULTS: Final[Mapping[str, Any]] = {
    "preset": "laptop", "scenario": "JayWalk", "simulator": "embedded", "method": "semore", "data": "data",
    "runs": "runs",
}  # fmt: skip
"""What a command does when the setting is not given; naming it again would only be noise."""


def command(names: str, settings: Mapping[str, Any] | None = None) -> str:
    """The command line of `names` (one command; with make also several, as in "annotate train"), with those of the
    settings, by dotted name, that say anything: neither empty nor their default."""
    given = {
        name: value for name, value in (settings or {}).items()
        if value not in ("", None, (), []) and DEFAULTS.get(name) != value
    }  # fmt: skip
    if os.environ.get("SEMORE_MAKE"):
        return _make(names, given)
    return "; ".join(" ".join(["semore", name, *_options(given)]) for name in names.split())


def choices(settings: Any, *names: str) -> dict[str, Any]:
    """These settings of a settings dataclass, for `command`; what it does not have is left out."""
    return {name: getattr(settings, name) for name in names if hasattr(settings, name)}


def _make(names: str, given: Mapping[str, Any]) -> str:
    variables = {variable.setting: name for name, variable in VARIABLES.items()}
    words = [f"{variables[name]}={shlex.quote(_text(value))}" for name, value in given.items() if name in variables]
    rest = " ".join(_options({name: value for name, value in given.items() if name not in variables}))
    return " ".join(["make", names, *words, *([f'ARGS="{rest}"'] if rest else [])])


def _options(given: Mapping[str, Any]) -> list[str]:
    return [word for name, value in given.items() for word in (f"--{name}", _quoted(value))]


def _quoted(value: Any) -> str:
    return (
        " ".join(shlex.quote(str(each)) for each in value)
        if isinstance(value, tuple | list)
        else shlex.quote(_text(value))
    )


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
