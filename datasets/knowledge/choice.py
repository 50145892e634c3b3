"""Which knowledge set a command reads when none is named."""

from __future__ import annotations

from pathlib import Path

from semore.datasets.knowledge.cache import set_names
from semore.datasets.names import default_knowledge


def chosen_set(data: str | Path, name: str, preset: str) -> str:
    """`name`; without one the set that `annotate` makes under the preset, or, where that one is not there, the only one
    there is. SemoreError as for `default_knowledge`."""
    if name:
        return name
    default, known = default_knowledge(preset), set_names(Path(data) / "knowledge")
    return known[0] if len(known) == 1 and default not in known else default
