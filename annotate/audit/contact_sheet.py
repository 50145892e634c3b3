"""The contact sheet as PNG: frame, phrases, H_ka over the frame, and truth over the frame, one row each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from semore.datasets.atomic_io import atomic_file

PICTURE: Final = 256
"""Side of every picture in pixels."""
WORDS: Final = 264
"""Width of the phrases' column."""
MARGIN: Final = 12
HEADER: Final = 74
ROW: Final = PICTURE + MARGIN
WIDTH: Final = 3 * PICTURE + WORDS + 5 * MARGIN

_LINE: Final = 18
_LETTERS: Final = 600
_PAPER, _INK, _FAINT, _BAD = (38, 40, 44), (232, 232, 228), (150, 153, 158), (255, 120, 105)
_AMBER, _TEAL = (255, 176, 0), (40, 215, 190)
_DIMMED: Final = 0.45
"""Brightness of the grey frame under a mask, so that a few lit pixels can be seen."""


@dataclass(frozen=True)
class SheetRow:
    """A frame to show: rgb (H, W, 3), mask (H, W) uint8 H_ka, truth (H, W) bool.

    label: its lines, the first in bold; they should fit WORDS. phrases: each with whether it lit up anything. iou NaN:
    nothing to measure. reason: why there is no knowledge of the frame; then the mask is not shown.
    """

    label: Sequence[str]
    rgb: NDArray[np.uint8]
    phrases: Mapping[str, bool]
    mask: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    iou: float = float("nan")
    reason: str = ""


def sheet_size(rows: int) -> tuple[int, int]:
    """(width, height) in pixels of a sheet of so many rows."""
    return WIDTH, HEADER + rows * ROW


def draw_contact_sheet(path: Path, rows: Sequence[SheetRow], title: str) -> None:
    """Write the sheet to `path` atomically, its pictures scaled to PICTURE pixels."""
    sheet = Image.new("RGB", sheet_size(len(rows)), _PAPER)
    pen = ImageDraw.Draw(sheet)
    bold = _font(20, bold=True)
    pen.text((MARGIN, 10), _fitted(_clean(title), WIDTH - 2 * MARGIN, bold), fill=_INK, font=bold)
    columns = _columns()
    heads = ("frame", "phrases", "H_ka (amber), truth outlined", "truth (teal)")
    for left, head, colour in zip(columns, heads, (_FAINT, _FAINT, _AMBER, _TEAL), strict=True):
        pen.text((left, HEADER - 26), head, fill=colour, font=_font(13))
    for index, row in enumerate(rows):
        _draw_row(sheet, pen, row, HEADER + index * ROW)
    with atomic_file(path) as temporary:
        sheet.save(temporary, format="PNG")


def _columns() -> tuple[int, int, int, int]:
    words = 2 * MARGIN + PICTURE
    first = words + WORDS + MARGIN
    return MARGIN, words, first, first + PICTURE + MARGIN


def _draw_row(sheet: Image.Image, pen: ImageDraw.ImageDraw, row: SheetRow, top: int) -> None:
    frame_at, words_at, mask_at, truth_at = _columns()
    frame = _enlarged(Image.fromarray(row.rgb), Image.Resampling.BICUBIC)
    sheet.paste(frame, (frame_at, top))
    _draw_words(pen, row, words_at, top)
    truth = _enlarged(Image.fromarray(row.truth.astype(np.uint8) * 255), Image.Resampling.NEAREST)
    sheet.paste(_tinted(frame, truth, _TEAL), (truth_at, top))
    if row.reason:
        pen.rectangle((mask_at, top, mask_at + PICTURE - 1, top + PICTURE - 1), outline=_FAINT)
        middle = mask_at + PICTURE / 2, top + PICTURE / 2
        pen.text(middle, "no knowledge", fill=_BAD, font=_font(13), anchor="mm")
    else:
        mask = _enlarged(Image.fromarray(row.mask), Image.Resampling.NEAREST)
        sheet.paste(_tinted(frame, mask, _AMBER, outline=truth), (mask_at, top))


def _draw_words(pen: ImageDraw.ImageDraw, row: SheetRow, left: int, top: int) -> None:
    """Label, IoU, then the reason or the phrases, as many lines as there is room for."""
    first, *others = [*row.label, ""]
    score = f" · IoU {row.iou:.2f}" if row.iou == row.iou else ""
    pen.text((left, top), f"{first}{score}", fill=_INK, font=_font(13, bold=True))
    lines = [(line, _FAINT) for line in others]
    lines += [(line, _BAD) for line in _wrapped(row.reason, 13, WORDS)]
    for phrase, lit in row.phrases.items():
        text = f"• {phrase}" if lit else f"• {phrase} (nothing found)"
        lines += [(line, _INK if lit else _FAINT) for line in _wrapped(text, 13, WORDS)]
    if not row.phrases and not row.reason:
        lines.append(("no phrases", _FAINT))
    room = PICTURE // _LINE - 1
    if len(lines) > room:
        lines = [*lines[: room - 1], ("…", _FAINT)]
    for index, (line, colour) in enumerate(lines):
        pen.text((left, top + (1 + index) * _LINE), line, fill=colour, font=_font(13))


def _tinted(
    frame: Image.Image, mask: Image.Image, colour: tuple[int, int, int], outline: Image.Image | None = None
) -> Image.Image:
    """The dimmed grey frame, tinted by the soft mask, over it the outline of the truth."""
    grey = np.asarray(frame.convert("L"), np.float32)[:, :, None]
    soft = np.asarray(mask, np.float32)[:, :, None] / 255
    pixels = _DIMMED * grey * (1 - soft) + np.array(colour) * (0.6 + 0.4 * grey / 255) * soft
    if outline is not None:
        pixels[_edges(np.asarray(outline) > 0)] = _TEAL
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _edges(solid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels just outside a shape (H, W) bool: an outline that hides none of it."""
    around = solid.copy()
    around[1:] |= solid[:-1]
    around[:-1] |= solid[1:]
    around[:, 1:] |= solid[:, :-1]
    around[:, :-1] |= solid[:, 1:]
    return around & ~solid


def _enlarged(picture: Image.Image, method: Image.Resampling) -> Image.Image:
    return picture.resize((PICTURE, PICTURE), method)


def _wrapped(text: str, size: int, width: int) -> list[str]:
    """Lines no wider than `width` pixels; a word that is wider by itself is broken."""
    font, lines = _font(size), [""]
    for word in _clean(text).split():
        if font.getlength(f"{lines[-1]} {word}".strip()) <= width:
            lines[-1] = f"{lines[-1]} {word}".strip()
            continue
        lines.append("")
        for letter in word:
            if font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return [line for line in lines if line]


def _clean(text: str) -> str:
    """One line of printable characters, no longer than could ever be shown: models answer anything."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text[:_LETTERS]).split())


def _fitted(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text, shortened until it fits."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font that matplotlib carries, so that a sheet looks the same on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(
        f"{matplotlib.get_data_path()}/fonts/ttf/{name}", size, layout_engine=ImageFont.Layout.BASIC
    )
