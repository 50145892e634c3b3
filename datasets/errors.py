"""The exceptions the command lines turn into a single readable line."""


class SemoreError(Exception):
    """Something the user can mend: the message names the file or key, what was expected, and what to do."""


class Stopped(SemoreError):
    """Somebody asked for the end, and what there was to save is saved. Exit code 75 (EX_TEMPFAIL: try again later)."""
