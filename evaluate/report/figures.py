"""Numbers as text: a true minus sign, and as many digits as the number's size deserves."""

from __future__ import annotations

import math

from semore.evaluate.compared import Pooled
from semore.evaluate.statistics import Estimate


def number(value: float, digits: int | None = None, sign: bool = False) -> str:
    """12.3, 1,234, −0.052, – for what is not a number; `sign` writes + too."""
    if not math.isfinite(value):
        return "–"
    if value == 0 and digits is None:
        return "0"
    if digits is None:
        size = abs(value)
        digits = 0 if size >= 99.5 else 1 if size >= 1 else 3
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def spread(found: Estimate | Pooled) -> str:
    """mean ± std, as the field prints it."""
    return f"{number(found.mean)} ± {number(found.std)}"


def interval(found: Estimate, sign: bool = False, digits: int | None = None) -> str:
    """low … high."""
    return f"{number(found.low, digits, sign)} … {number(found.high, digits, sign)}"


def ended(ending: str) -> str:
    """How an episode ended, in words."""
    return {"success": "reached the end", "collisions": "ended in a collision"}.get(ending, ending.replace("_", " "))


def duration(seconds: float) -> str:
    """14 min 27 s, 2 h 05 min."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
