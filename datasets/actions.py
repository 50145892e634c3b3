"""What counts as an action or a control: finite numbers. A NaN that is clipped turns into full steer and full brake."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from semore.datasets.errors import SemoreError

ACTION: Final = "an action (steer, pedal)"


def finite(values: Any, shape: tuple[int, ...] = (2,), what: str = ACTION) -> NDArray[Any]:
    """`values` as an array of numbers; SemoreError, saying `what` they are, when it is of another shape or holds what
    is no finite number. Nothing is clipped."""
    try:
        found = np.asarray(values)
        if found.dtype.kind not in "biuf":
            found = found.astype(np.float64)
    except (TypeError, ValueError):
        raise SemoreError(f"{what} must be finite numbers, not {values!r}") from None
    if found.shape != shape:
        raise SemoreError(f"{what} must be an array of shape {shape}, not of shape {found.shape}")
    if not np.isfinite(found).all():
        rows = found.reshape(-1, shape[-1])
        bad = rows[~np.isfinite(rows).all(axis=1)][0].tolist()
        raise SemoreError(f"{what} must be finite numbers, not {bad}; a policy that gives such has diverged")
    return found
