"""What to do about a damaged recording: deleting is for what can be recorded again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

REFRESH: Final = "refresh.zarr"
"""What a training run's own recordings are called, in its folder."""
OURS: Final = re.compile(r"[a-z]+-\d{7}")
"""What the recorder calls its episodes: <scenario>-<seed>."""


def recorded_here(path: Path, attributes: Mapping[str, Any] | None) -> bool:
    """Whether our recorder wrote this episode, as far as name and attributes (None: they cannot be read) tell."""
    return bool(OURS.fullmatch(path.name)) and (attributes is None or "code_version" in attributes)


def remedy_for(path: Path, attributes: Mapping[str, Any] | None = None) -> str:
    """What to do about a damaged episode. Deleting is for what can be recorded again: a recording of somebody else's is
    not ours to give up."""
    if path.parent.name == REFRESH:
        return f"it belongs to the training run {path.parent.parent}, which has to be trained anew: --run NAME"
    if recorded_here(path, attributes):
        return (
            f"delete this folder and collect again with --rollouts {path.parent} and what it was recorded with (only "
            "this episode is recorded anew), or restore it from a copy if something else has recorded it"
        )
    return "`collect` did not record it and cannot do so again: restore it from a copy, or move it elsewhere"
