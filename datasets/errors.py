"""The exceptions the command lines turn into a single readable line."""

from collections.abc import Iterable
from difflib import get_close_matches


class SemoreError(Exception):
    """An error that the user can mend. Its message names the file or key, what was expected, and what to do."""


class UsageError(SemoreError):
    """A mistake on the command line; the program ends with exit code 2."""


class Stopped(SemoreError):
    """Somebody asked for the end, and what there was to save is saved. Exit code 75 (EX_TEMPFAIL: try again later)."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The names that are close to a mistyped one, as a question; "" when none is."""
    lower = {each.lower(): each for each in known}
    near = get_close_matches(name.lower(), lower, 3, 0.6)
    return f"did you mean {', '.join(lower[each] for each in near)}?" if near else ""
