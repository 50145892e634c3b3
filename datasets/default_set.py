"""Which knowledge set is meant when none is named: one rule for the stage that makes it and for all that read it."""

from __future__ import annotations

from typing import Final

from semore.datasets.presets import preset_section

DESCRIBER: Final = "privileged"
SEGMENTER: Final = "cris-tiny"
"""The producers when none are named."""


def set_name(describer: str = DESCRIBER, segmenter: str = SEGMENTER) -> str:
    """<describer>-<segmenter>, once when they are called the same."""
    return "-".join(dict.fromkeys((describer, segmenter)))


def default_set(preset: str = "laptop") -> str:
    """The set that `annotate` makes under a preset and no further settings; SemoreError as for `preset_section`."""
    section = preset_section(preset, "annotate")
    made = {role: section[role] for role in ("describer", "segmenter") if role in section}
    return section.get("knowledge") or set_name(**made)
