"""In what two knowledge sets differ, key by key, for people who are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

ABSENT: Final = "nothing"


def differences(made: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """The keys in which two sets' plain parts (describer, segmenter, judge, merge) differ, each with both values: a
    producer of another kind is that and no more, as none of its keys compare."""
    return "; ".join(line for part in made for line in _part(part, made[part], asked[part]))


def _part(part: str, made: Any, asked: Any) -> list[str]:
    if made == asked:
        return []
    if not (isinstance(made, Mapping) and isinstance(asked, Mapping)):
        return [_line(part, _kind(made), _kind(asked))]
    if made.get("kind") != asked.get("kind"):
        return [_line(f"{part}.kind", made.get("kind", ABSENT), asked.get("kind", ABSENT))]
    keys = [key for key in {**made, **asked} if made.get(key, ABSENT) != asked.get(key, ABSENT)]
    return [_line(f"{part}.{key}", made.get(key, ABSENT), asked.get(key, ABSENT)) for key in keys]


def _line(key: str, made: Any, asked: Any) -> str:
    return f"{key} was {made}, is now {asked}"


def _kind(part: Any) -> Any:
    """What stands for a whole part: its producer's kind, "none" without one."""
    return part.get("kind", "one of no kind") if isinstance(part, Mapping) else "none" if part is None else part
