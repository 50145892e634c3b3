"""The picture of mask alignment: a column per frame, a row per mask, the truth outlined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from semore.datasets.atomic_io import atomic_file
from semore.evaluate.film.overlay import FAINT, GROUND, INK, KNOWN, STUDENT, TURN, font, tinted

SIDE: Final = 208
"""Pixels of a picture."""
GAP: Final = 4
"""Pixels between pictures."""
APART: Final = 24
"""Pixels between blocks."""
WORDS: Final = 152
"""Width of the rows' names."""
HEADER: Final = 62
AMBER: Final = (255, 176, 0)
DIMMED: Final = 0.5
"""Brightness of the grey frame under a mask, so that a few lit pixels can be seen."""
ROWS: Final = (
    ("camera", "", INK),
    ("truth", "simulator's state", KNOWN),
    ("H_ka", "what training reads", AMBER),
    ("student's mask", "what acting uses", STUDENT),
    ("attention", "motion asks the mask", TURN),
)


class Panel(NamedTuple):
    """A frame: rgb (H, W, 3) uint8, truth (H, W) bool, h_ka (H, W) uint8, student (g, g) and attention (g, g) float32
    in [0, 1], None where there is none."""

    rgb: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    h_ka: NDArray[np.uint8]
    student: NDArray[np.float32]
    attention: NDArray[np.float32] | None


Block = tuple[tuple[str, str], Sequence[Panel]]
"""Title and line below it; the frames."""


def draw(blocks: Sequence[Block], path: Path) -> None:
    """Write the blocks side by side as PNG, atomically."""
    widths = [len(panels) * (SIDE + GAP) - GAP for _, panels in blocks]
    width = WORDS + sum(widths) + APART * (len(blocks) - 1) + GAP
    canvas = Image.new("RGB", (width, HEADER + len(ROWS) * (SIDE + GAP)), GROUND)
    pen = ImageDraw.Draw(canvas)
    for number, (name, told, colour) in enumerate(ROWS):
        middle = HEADER + number * (SIDE + GAP) + SIDE // 2
        pen.text((12, middle), name, colour, font(14, bold=True), anchor="ls")
        pen.text((12, middle + 18), told, FAINT, font(11), anchor="ls")
    left = WORDS
    for ((title, told), panels), wide in zip(blocks, widths, strict=True):
        pen.text((left, 10), title, INK, font(20, bold=True))
        pen.text((left, 38), told, FAINT, font(13))
        for place, panel in enumerate(panels):
            for number, picture in enumerate(_pictures(panel)):
                canvas.paste(picture, (left + place * (SIDE + GAP), HEADER + number * (SIDE + GAP)))
        left += wide + APART
    with atomic_file(path) as temporary:
        canvas.save(temporary, format="png", optimize=True)


def _pictures(panel: Panel) -> list[Image.Image]:
    """In the order of ROWS."""
    square = (SIDE, SIDE)
    frame = Image.fromarray(panel.rgb).resize(square, Image.Resampling.BICUBIC)
    grey = frame.convert("L").point(lambda value: value * DIMMED).convert("RGB")
    truth = Image.fromarray(panel.truth.astype(np.uint8) * 255).resize(square, Image.Resampling.NEAREST)
    outline = ImageChops.subtract(truth.filter(ImageFilter.MaxFilter(3)), truth)
    attention = np.zeros((1, 1), np.float32) if panel.attention is None else panel.attention
    masks = [
        tinted(grey, truth, Image.Resampling.NEAREST, KNOWN),
        tinted(grey, Image.fromarray(panel.h_ka), Image.Resampling.NEAREST, AMBER),
        tinted(grey, _grey_levels(panel.student), Image.Resampling.BILINEAR, STUDENT),
        tinted(grey, _grey_levels(attention), Image.Resampling.BILINEAR, TURN),
    ]
    for mask in masks[1:]:
        mask.paste(KNOWN, mask=outline)
    return [frame, *masks]


def _grey_levels(mask: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray((mask * 255).astype(np.uint8))
