"""Settings: one frozen dataclass per stage, filled from the stage's section of a preset and from the command line."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from semore.datasets.disk_space import want_of_space
from semore.datasets.errors import SemoreError, Stopped

PRESETS = Path(__file__).resolve().parent.parent / "presets"
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
ELSEWHERE = "choose a folder that this user may read and write: --help names the settings that are folders or files"
OPEN_MAPPINGS = ("policies",)
"""Settings whose value is itself a mapping, not a nested group."""

T = TypeVar("T")


def preset_path(preset: str) -> Path:
    """`presets/<preset>.yaml`, or `preset` itself when it is a file; SemoreError naming the choices otherwise."""
    named = PRESETS / f"{preset}.yaml"
    if named.is_file():
        return named
    if Path(preset).is_file():
        return Path(preset)
    known = ", ".join(sorted(path.stem for path in PRESETS.glob("*.yaml")))
    raise SemoreError(f"unknown preset {preset!r}; choose one of {known}, or give a YAML file")


def preset_section(preset: str, stage: str) -> dict[str, Any]:
    """The `stage:` section of a preset; SemoreError when the file has no such section or is not YAML."""
    path = preset_path(preset)
    content = _read_yaml(path)
    if not isinstance(content, dict) or not isinstance(content.get(stage), dict):
        raise SemoreError(f"{path} has no section {stage!r}; see presets/laptop.yaml for the layout")
    section: dict[str, Any] = content[stage]
    return section


def method_path(method: str) -> Path:
    """`presets/methods/<method>.yaml`; SemoreError naming the choices otherwise."""
    folder = PRESETS / "methods"
    if (folder / f"{method}.yaml").is_file():
        return folder / f"{method}.yaml"
    known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
    raise SemoreError(f"unknown method {method!r}; choose one of {known}")


def load_settings(settings: type[T], stage: str, arguments: Sequence[str] | None = None) -> T:
    """Fill the dataclass `settings`, each over the one before, from: the preset (default laptop); where it has a
    `method`, the file of that name in presets/methods; `--config` files; dotted overrides such as `--agent.lr 1e-4`.
    Preset and method bring their values wherever they are named: on the command line, in a config file, in the
    environment, and a method in the preset too. `--print_config` shows the resolved settings, `--help` explains each.

    Unknown keys and values of the wrong type end the program with the parser's message (exit code 2); in a preset they
    are a SemoreError naming the file.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    about = sys.modules[settings.__module__].__doc__
    parser = ArgumentParser(prog=f"semore {stage}", description=about, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a YAML file of this stage's settings, over the preset")
    parser.add_class_arguments(settings)
    given = _configs_first(sys.argv[1:] if arguments is None else arguments)
    # Which preset and which method are named is the parser's to say: it alone knows all the places.
    quiet = [word for word in given if word not in ("-h", "--help") and word.partition("=")[0] != "--print_config"]

    def laid_over(defaults: dict[str, Any]) -> Namespace:
        parser.set_defaults(defaults)
        return parser.parse_args(quiet)

    parser.set_defaults(_under(settings, stage, laid_over))
    ready = parser.instantiate(parser.parse_args(given))
    return settings(**{field.name: ready[field.name] for field in fields(settings)})  # type: ignore[arg-type]


def _under(settings: type[Any], stage: str, resolve: Callable[[dict[str, Any]], Namespace]) -> dict[str, Any]:
    """What lies under the given settings, by dotted name: the values of the preset, and those of the method over them.
    `resolve` lays what is given over defaults, and so tells which preset and method are meant."""
    preset = resolve({})["preset"]
    defaults: dict[str, Any] = {}
    for path, section in _sections(preset, stage):
        defaults |= _checked(settings, section, f"{path}, section {stage!r}")
    defaults["preset"] = preset  # runs are called after what was asked for, not after what that rests on
    if any(field.name == "method" for field in fields(settings)):
        overlay = method_path(resolve(defaults)["method"])
        defaults |= _checked(settings, _read_yaml(overlay), str(overlay))
    return defaults


def _sections(preset: str, stage: str) -> list[tuple[Path, dict[str, Any]]]:
    """The preset's section, after those of the presets that it names in turn: a preset may rest on another."""
    found: list[tuple[Path, dict[str, Any]]] = []
    while (path := preset_path(preset)) not in [other for other, _ in found]:
        section = preset_section(preset, stage)
        found.insert(0, (path, section))
        preset = str(section.get("preset", preset))
    if path != found[0][0]:
        raise SemoreError(f"{found[0][0]}, section {stage!r}: preset {preset} rests on this one; name another, or none")
    return found


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
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(settings)

    def laid_over(defaults: dict[str, Any]) -> Namespace:
        parser.set_defaults(defaults)
        parsed: Namespace = parser.parse_object(dict(values))
        return parsed

    try:
        ready = parser.instantiate(laid_over(_under(settings, stage, laid_over) if stage else {}))
    except ArgumentError as error:
        raise SemoreError(f"{settings.__name__}: {' '.join(str(error).split())}") from None
    return settings(**{field.name: ready[field.name] for field in fields(settings)})  # type: ignore[arg-type]


def part_of(settings: Any, part: type[T]) -> T:
    """The fields that a settings dataclass has inherited from `part`, as a `part`."""
    return part(**{field.name: getattr(settings, field.name) for field in fields(part)})  # type: ignore[arg-type]


def run_command(command: Callable[[], None]) -> None:
    """Run a command line: a SemoreError, or a place where we may not write, becomes one line and exit code 1, Stopped
    one and 75, Ctrl-C exit code 130."""
    try:
        command()
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        raise SystemExit(os.EX_TEMPFAIL) from None
    except SemoreError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FORBIDDEN and error.filename is not None:
            reason = f"{error.filename}: {error.strerror}; {ELSEWHERE}"
        elif full := want_of_space(error):
            reason = f"{full} ({error}). Make room; what was written before is whole, and the same command goes on"
        else:
            raise
        print(f"error: {reason}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise SemoreError(f"{path} is not valid YAML: {error}") from None


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


def _checked(settings: type[Any], section: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A file's values for `settings` under their dotted names; set_defaults alone lets wrong types pass."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(settings)
    try:
        parsed = parser.parse_object(dict(section))
    except ArgumentError as error:
        raise SemoreError(f"{where}: {' '.join(str(error).split())}") from None
    return {name: parsed[name] for name, _ in flat(section)}


def flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every setting of nested mappings."""
    for key, value in section.items():
        if isinstance(value, dict) and key not in OPEN_MAPPINGS:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
