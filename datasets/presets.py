"""Presets and methods: YAML files whose sections fill a stage's settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

import semore
from semore.datasets.errors import SemoreError

PRESETS = Path(semore.__file__).with_name("presets").resolve()
OPEN_MAPPINGS = ("policies",)
"""Settings whose value is itself a mapping, not a nested group."""


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
    content = read_yaml(path)
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


def preset_sections(preset: str, stage: str) -> list[tuple[Path, dict[str, Any]]]:
    """The preset's section, after those of the presets that it names in turn: a preset may rest on another."""
    found: list[tuple[Path, dict[str, Any]]] = []
    while (path := preset_path(preset)) not in [other for other, _ in found]:
        section = preset_section(preset, stage)
        found.insert(0, (path, section))
        preset = str(section.get("preset", preset))
    if path != found[0][0]:
        raise SemoreError(f"{found[0][0]}, section {stage!r}: preset {preset} rests on this one; name another, or none")
    return found


def read_yaml(path: Path) -> Any:
    """A YAML file's content; SemoreError naming the file when it is none."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise SemoreError(f"{path} is not valid YAML: {error}") from None


@cache
def plain_parser(settings: type[Any]) -> ArgumentParser:
    """A parser of the values of a settings dataclass, which raises ArgumentError. It takes longer to make than to use,
    so it is made once, and whoever sets defaults makes one of their own."""
    return own_parser(settings)


def own_parser(settings: type[Any]) -> ArgumentParser:
    """As `plain_parser`, for defaults of one's own."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(settings)
    return parser


def checked(settings: type[Any], section: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A file's values for `settings` under their dotted names; set_defaults alone lets wrong types pass."""
    try:
        parsed = plain_parser(settings).parse_object(dict(section))  # type: ignore[arg-type]  # classes have a hash
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
