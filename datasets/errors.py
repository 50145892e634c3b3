"""The one exception the command lines turn into a single readable line."""


class SemoreError(Exception):
    """Something the user can mend: the message names the file or key, what was expected, and what to do."""
