"""Commands as hints and remedies name them: in full, so that what is printed acts on what the user meant.

A user of make (the Makefile sets SEMORE_MAKE) is answered with a make command, everybody else with the console command.
What only other commands know is not guessed: a remedy names the path that it is about, and not some other data.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final

from semore.datasets.command_line import VARIABLES
from semore.datasets.names import default_knowledge

TARGETS: Final = (
    "collect", "annotate", "train", "evaluate", "report", "view", "demo", "audit", "compare", "counterfactual", "sweep",
    "doctor",
)  # fmt: skip
"""The commands that make has a target for."""
DEFAULTS: Final[Mapping[str, Any]] = {
    "preset": "laptop", "scenario": "JayWalk", "simulator": "embedded", "method": "semore", "data": "data",
    "runs": "runs",
}  # fmt: skip
"""What a command does when the setting is not given; naming it again would only be noise."""
CARRIED: Final = (
    "PRESET", "SCENARIO", "METHOD", "RUN", "ROLLOUTS", "KNOWLEDGE", "WEATHER", "SIM", "CARLA", "CARLA_HOST",
    "CARLA_PORT", "SERVERS", "DESCRIBER", "SEGMENTER", "JUDGE",
)  # fmt: skip
"""Make's variables that say what is meant; the others say how much, or how."""
UNSAFE: Final = frozenset("$#\\\n")
"""What make would read as something else in a variable's value."""


def command(names: str | Sequence[str], settings: Mapping[str, Any] | None = None, *words: object) -> str:
    """The command line of one command ("train", "datasets show"), or of several one after another, with those of the
    settings, by dotted name, that say anything: neither empty nor what the command does anyway. `words` are positional.

    With make, settings that one of several commands does not have must be among its variables."""
    commands = [names] if isinstance(names, str) else list(names)
    given = _said(settings or {})
    make = bool(os.environ.get("SEMORE_MAKE"))
    if make and not words and all(name in TARGETS for name in commands):
        return _make(commands, given)
    place = ".venv/bin/" if make else ""
    program = [f"{place}{'' if name.startswith('python ') else 'semore '}{name}" for name in commands]
    more = [*(shlex.quote(str(word)) for word in words), *_options(given)]
    return " && ".join(" ".join([each, *more]) for each in program)


def choices(settings: Any, *names: str) -> dict[str, Any]:
    """These settings of a settings dataclass, by dotted name, for `command`; what it does not have is left out, and of
    a group of settings what is at its default."""
    found: dict[str, Any] = {}
    for name in names:
        value = getattr(settings, name, None)
        if is_dataclass(value) and not isinstance(value, type):
            plain = type(value)()
            own = {field.name: getattr(value, field.name) for field in fields(value)}
            found |= {f"{name}.{key}": each for key, each in own.items() if each != getattr(plain, key)}
        elif hasattr(settings, name):
            found[name] = value
    return found


def carried() -> dict[str, Any]:
    """What the variables given to make mean by other commands than the one that runs: the next stage's names, which
    this one has no setting for. Without make nothing: a variable of the shell is there for the next command, too."""
    if not os.environ.get("SEMORE_MAKE"):
        return {}
    values = {VARIABLES[name].setting: os.environ.get(f"SEMORE_{name}", "") for name in CARRIED}
    return {setting: value for setting, value in values.items() if value and not UNSAFE & set(value)}


def recordings(settings: Any) -> dict[str, Any]:
    """The settings by which every command that reads recordings finds them."""
    return choices(settings, "preset", "scenario", "simulator", "data", "rollouts")


def _said(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those that are empty, or what the command would do without them. A preset file of the
    user's may name anything, and so may a variable of the environment: beside those, defaults are named."""
    preset = str(settings.get("preset") or "laptop")
    own_file = bool(Path(preset).suffix)
    variables = {variable.setting: name for name, variable in VARIABLES.items()}

    def default(name: str, value: Any) -> bool:
        if own_file or os.environ.get(f"SEMORE_{variables.get(name, '')}"):
            return False
        if name == "knowledge":
            return bool(value == default_knowledge(preset, {}) == default_knowledge(preset))
        return name in DEFAULTS and str(value) == DEFAULTS[name]

    given = {name: value for name, value in settings.items() if value not in ("", None, (), [])}
    return {name: value for name, value in given.items() if not default(name, value)}


def _make(commands: Sequence[str], given: Mapping[str, Any]) -> str:
    variables = {
        variable.setting: name for name, variable in VARIABLES.items()
        if all(each in (variable.commands or commands) for each in commands)
    }  # fmt: skip
    named = {name for name, value in given.items() if name in variables and _fits(value)}
    words = [f"{variables[name]}={shlex.quote(_text(value))}" for name, value in given.items() if name in named]
    rest = " ".join(_options({name: value for name, value in given.items() if name not in named}))
    if rest:
        words.append(f"ARGS={_quoted_for_make(rest)}")
    return " ".join(["make", *commands, *words])


def _fits(value: Any) -> bool:
    """Whether a make variable can hold the value: make and the environment know of no quotes within a list."""
    texts = [str(each) for each in value] if isinstance(value, tuple | list) else [_text(value)]
    spaced = isinstance(value, tuple | list) and any(len(text.split()) != 1 for text in texts)
    return not spaced and not any(UNSAFE & set(text) for text in texts)


def _quoted_for_make(text: str) -> str:
    """A value for the shell that starts make; make itself reads two dollars as one."""
    plain = not set(text) & set('"`\\!$')
    return f'"{text}"' if plain else shlex.quote(text.replace("$", "$$"))


def _options(given: Mapping[str, Any]) -> list[str]:
    return [word for name, value in given.items() for word in (f"--{name}", *_words(value))]


def _words(value: Any) -> Iterable[str]:
    return map(shlex.quote, map(str, value)) if isinstance(value, tuple | list) else [shlex.quote(_text(value))]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return json.dumps(value)
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
