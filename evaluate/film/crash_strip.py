"""A film strip of a crash: eight frames around the hardest impact, and what the student saw in them."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from semore.datasets.atomic_io import atomic_file
from semore.evaluate.film.moments import Moment
from semore.evaluate.film.overlay import GROUND, HURT, INK, camera, label, with_student

FRAMES: Final = 8
BEFORE: Final = 2.0
"""Seconds before the impact at which a strip begins."""
AFTER: Final = 0.4
"""Seconds after the impact at which a strip ends, unless the episode ends first."""
SIDE: Final = 160
GAP: Final = 4


def impact(moments: Sequence[Moment]) -> int | None:
    """Index of the moment whose step brought the hardest impulse, None when nothing was hit."""
    totals = np.array([moment.metrics["crash_intensity"] for moment in moments])
    hits = np.diff(totals, prepend=0.0)
    return int(hits.argmax()) if hits.max() > 0 else None


def frames_of(moments: Sequence[Moment], hit: int) -> list[int]:
    """At most FRAMES indices, evenly apart in time and always with the impact itself."""
    when = moments[hit].seconds
    slack = 1e-6  # of float seconds
    near = [n for n, moment in enumerate(moments) if -BEFORE - slack <= moment.seconds - when <= AFTER + slack]
    chosen = np.linspace(0, len(near) - 1, min(FRAMES, len(near))).round().astype(int)
    picked = [near[place] for place in chosen]
    nearest = min(range(len(picked)), key=lambda place: abs(picked[place] - hit))
    picked[nearest] = hit
    return picked


def crash_strip(moments: Sequence[Moment]) -> Image.Image | None:
    """Camera frames from BEFORE seconds ahead of the hardest impact, timed from it; below them the same frames under
    the student's mask where one is taught. None when nothing was hit."""
    hit = impact(moments)
    if hit is None:
        return None
    shown = frames_of(moments, hit)
    rows = 1 if moments[hit].student is None else 2
    canvas = Image.new("RGB", (len(shown) * (SIDE + GAP) - GAP, rows * (SIDE + GAP) - GAP), GROUND)
    pen = ImageDraw.Draw(canvas)
    for column, number in enumerate(shown):
        moment, x = moments[number], column * (SIDE + GAP)
        picture = camera(moment, SIDE)
        canvas.paste(picture, (x, 0))
        if rows == 2:
            canvas.paste(with_student(moment, picture), (x, SIDE + GAP))
        seconds = moment.seconds - moments[hit].seconds
        text = "impact" if number == hit else f"{seconds:+.1f} s".replace("-", "−")
        label(pen, (x + 8, SIDE - 22), text, HURT if number == hit else INK)
    return canvas


def save(picture: Image.Image, path: Path) -> None:
    """Write it as JPEG, atomically."""
    buffer = BytesIO()
    picture.save(buffer, format="jpeg", quality=82, optimize=True)
    with atomic_file(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
