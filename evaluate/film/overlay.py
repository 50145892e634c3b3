"""A film frame: the camera, privileged H_ka and the student's mask over it, and a panel of actions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from semore.datasets.rollouts.schema import DT, MAX_EPISODE_STEPS
from semore.evaluate.film.moments import Moment

SIDE: Final = 256
"""Pixels of a panel; a picture is two by two of them."""
KNOWN: Final = (0, 214, 170)
"""Colour of the privileged H_ka."""
STUDENT: Final = (255, 60, 172)
"""Colour of the student's mask."""
STRENGTH: Final = 0.65
INK, FAINT, GROUND, RAIL = (236, 238, 242), (150, 156, 168), (20, 22, 27), (52, 56, 66)
GO, HALT, TURN, HURT = (88, 196, 120), (240, 96, 84), (110, 168, 255), (255, 120, 96)
PHRASES: Final = 3


def compose(moments: Sequence[Moment]) -> list[NDArray[np.uint8]]:
    """A (2·SIDE, 2·SIDE, 3) uint8 picture per moment: camera, H_ka over student's mask, panel."""
    highest = max(1.0, max(moment.metrics["reward"] for moment in moments))
    lowest = min(0.0, min(moment.metrics["reward"] for moment in moments))
    curve = list(reward_curve(moments, lowest, highest))
    return [np.asarray(_picture(moment, curve[: number + 1])) for number, moment in enumerate(moments)]


def camera(moment: Moment, side: int) -> Image.Image:
    """The camera's picture, enlarged."""
    return Image.fromarray(moment.rgb).resize((side, side), Image.Resampling.BICUBIC)


def with_known(moment: Moment, picture: Image.Image) -> Image.Image:
    """A square picture of the moment under the privileged H_ka."""
    return tinted(picture, Image.fromarray(moment.known.astype(np.uint8) * 255), Image.Resampling.NEAREST, KNOWN)


def with_student(moment: Moment, picture: Image.Image) -> Image.Image:
    """A square picture of the moment under the student's mask, which is as coarse as the network's feature map."""
    assert moment.student is not None
    mask = Image.fromarray((moment.student * 255).astype(np.uint8))
    return tinted(picture, mask, Image.Resampling.BILINEAR, STUDENT)


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def label(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, colour: tuple[int, int, int] = INK) -> None:
    """A short text on a dark ground, legible on any picture."""
    box = pen.textbbox(place, text, font=font(12))
    pen.rectangle((box[0] - 4, box[1] - 3, box[2] + 4, box[3] + 3), fill=GROUND)
    pen.text(place, text, fill=colour, font=font(12))


def tinted(
    picture: Image.Image, mask: Image.Image, kind: Image.Resampling, colour: tuple[int, int, int]
) -> Image.Image:
    """A picture under a grey mask of any size, enlarged in the given way, whose white hides STRENGTH of it."""
    tint = Image.new("RGB", picture.size, colour)
    return Image.composite(tint, picture, mask.resize(picture.size, kind).point(lambda value: value * STRENGTH))


def _picture(moment: Moment, curve: Sequence[tuple[float, float]]) -> Image.Image:
    canvas = Image.new("RGB", (2 * SIDE, 2 * SIDE), GROUND)
    pen = ImageDraw.Draw(canvas)
    shown = camera(moment, SIDE)
    canvas.paste(shown, (0, 0))
    canvas.paste(with_known(moment, shown), (SIDE, 0))
    if moment.student is not None:
        canvas.paste(with_student(moment, shown), (0, SIDE))
        label(pen, (8, SIDE + 8), "student's mask", STUDENT)
    else:
        pen.text((SIDE // 2, SIDE + SIDE // 2), "no mask is taught", FAINT, font(13), anchor="mm")
    label(pen, (8, 8), "camera")
    label(pen, (SIDE + 8, 8), "H_ka, privileged", KNOWN)
    pen.rectangle((SIDE, SIDE, 2 * SIDE, 2 * SIDE), fill=GROUND)
    _panel(pen, moment, curve)
    return canvas


def _panel(pen: ImageDraw.ImageDraw, moment: Moment, curve: Sequence[tuple[float, float]]) -> None:
    """Speed, time, pedal and steering, the reward so far and its curve, the crash, and what is in view in words."""
    left, right, top = SIDE + 14, 2 * SIDE - 14, SIDE
    metrics = moment.metrics
    pen.text((left, top + 12), f"{moment.speed:.1f}", INK, font(28, bold=True))
    after = pen.textlength(f"{moment.speed:.1f}", font=font(28, bold=True))
    pen.text((left + after + 6, top + 26), "m/s", FAINT, font(13))
    pen.text((right, top + 26), f"{moment.seconds:.1f} s", FAINT, font(13), anchor="ra")
    steer, pedal = (0.0, 0.0) if moment.action is None else map(float, moment.action)
    bar(pen, (left, top + 62, right), "steer", steer, TURN)
    name, colour = ("throttle", GO) if pedal >= 0 else ("brake", HALT)
    bar(pen, (left, top + 82, right), name, pedal, colour)
    pen.text((left, top + 104), f"reward {metrics['reward']:.1f}", INK, font(13))
    if metrics["crash_intensity"] > 0:
        pen.text((right, top + 104), f"crash {metrics['crash_intensity']:.0f} N·s", HURT, font(13), anchor="ra")
    width, height = right - left, 34
    pen.line((left, top + 160, right, top + 160), fill=RAIL)
    points = [(left + x * width, top + 160 - y * height) for x, y in curve]
    if len(points) > 1:
        pen.line(points, fill=INK, width=2)
    if metrics["ending"]:
        pen.text((left, top + 172), f"end: {metrics['ending'].replace('_', ' ')}", HURT, font(13, bold=True))
        return
    lines = list(_spoken(moment.phrases)) or ["nothing to name in view"]
    for number, line in enumerate(lines):
        pen.text((left, top + 172 + 20 * number), line, KNOWN if moment.phrases else FAINT, font(12))


def _spoken(phrases: Sequence[str]) -> Iterator[str]:
    yield from (phrase if len(phrase) < 34 else phrase[:33] + "…" for phrase in phrases[:PHRASES])
    if len(phrases) > PHRASES:
        yield f"and {len(phrases) - PHRASES} more"


def bar(
    pen: ImageDraw.ImageDraw, place: tuple[int, int, int], name: str, value: float, colour: tuple[int, int, int]
) -> None:
    """A named bar that grows from its middle, value in [−1, 1]; place is left, top and right."""
    left, top, right = place
    start = left + 70
    middle = (start + right) / 2
    pen.text((left, top), name, FAINT, font(12))
    pen.rectangle((start, top + 3, right, top + 11), fill=RAIL)
    end = middle + max(-1.0, min(1.0, value)) * (right - start) / 2
    pen.rectangle((min(middle, end), top + 3, max(middle, end), top + 11), fill=colour)
    pen.line((middle, top, middle, top + 14), fill=FAINT)


def reward_curve(moments: Sequence[Moment], lowest: float, highest: float) -> Iterator[tuple[float, float]]:
    """(share of the longest episode, share of the reward's range) of each moment."""
    for moment in moments:
        yield moment.seconds / (MAX_EPISODE_STEPS * DT), (moment.metrics["reward"] - lowest) / (highest - lowest)
