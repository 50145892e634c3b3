"""A frame of the demo: the camera large, beside it input, mask, truth and motion, below it the controls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from semore.datasets.rollouts.schema import DT, MAX_EPISODE_STEPS
from semore.evaluate.checkpoints import Card
from semore.evaluate.film.moments import Moment
from semore.evaluate.film.overlay import (
    FAINT,
    GO,
    GROUND,
    HALT,
    HURT,
    INK,
    KNOWN,
    RAIL,
    STUDENT,
    TURN,
    bar,
    font,
    label,
    reward_curve,
    with_known,
    with_student,
)

PANEL: Final = 288
GAP: Final = 8
LARGE: Final = 2 * PANEL + GAP
"""Side of the camera's picture in pixels."""
WIDTH, HEIGHT = 2 * LARGE + GAP, LARGE + 104
"""Size of the whole frame in pixels; films need even numbers."""
LIT: Final = 3.0
"""Residuals are shown brighter than they are, by this factor."""


class Showcase:
    """Pictures (HEIGHT, WIDTH, 3) uint8 of the moments of one episode; their `rgb` is best LARGE pixels wide."""

    def __init__(self, moments: Sequence[Moment], card: Card, seed: int) -> None:
        self._moments, self._card = moments, card
        self._title = f"{card.scenario}, {card.weather.replace('_', ' ')} · {card.method} · test seed {seed}"
        rewards = [moment.metrics["reward"] for moment in moments]
        self._lowest, self._highest = min(0.0, *rewards), max(1.0, card.test.reward, *rewards) * 1.1
        self._curve = list(reward_curve(moments, self._lowest, self._highest))
        self._heat = (matplotlib.colormaps["magma"](np.linspace(0, 1, 256))[:, :3] * 255).astype(np.uint8)

    def picture(self, number: int) -> NDArray[np.uint8]:
        """Of the moment at that index."""
        moment = self._moments[number]
        canvas = Image.new("RGB", (WIDTH, HEIGHT), GROUND)
        pen = ImageDraw.Draw(canvas)
        large = Image.fromarray(moment.rgb).resize((LARGE, LARGE), Image.Resampling.BICUBIC)
        canvas.paste(large, (0, 0))
        small = large.resize((PANEL, PANEL), Image.Resampling.BOX)
        left, right, low = LARGE + GAP, LARGE + 2 * GAP + PANEL, PANEL + GAP
        for place, (picture, text, colour) in zip(
            ((left, 0), (right, 0), (left, low), (right, low)), self._panels(moment, small), strict=True
        ):
            canvas.paste(picture, place)
            label(pen, (place[0] + 8, 8 + place[1]), text, colour)
        label(pen, (12, 10), self._title)
        if moment.metrics["ending"]:
            ending = moment.metrics["ending"].replace("_", " ")
            fair = moment.metrics["ending"] == "success"
            text = "the full time is driven" if fair else f"the end: {ending}"
            box = (0, LARGE // 2 - 26, LARGE, LARGE // 2 + 26)
            pen.rectangle(box, fill=GROUND)
            pen.text((LARGE // 2, LARGE // 2), text, GO if fair else HURT, font(24, bold=True), anchor="mm")
        self._controls(pen, moment)
        self._rewards(pen, number)
        return np.asarray(canvas)

    def _panels(self, moment: Moment, small: Image.Image) -> list[tuple[Image.Image, str, tuple[int, int, int]]]:
        square = (PANEL, PANEL)
        seen = Image.fromarray(np.ascontiguousarray(moment.seen)).resize(square, Image.Resampling.NEAREST)
        level = (np.minimum(moment.residual * LIT, 1.0) * 255).astype(np.uint8)
        motion = Image.fromarray(self._heat[level]).resize(square, Image.Resampling.NEAREST)
        if moment.student is None:
            student, told = small.point(lambda value: value // 3), "no mask is taught"
        else:
            student, told = with_student(moment, small), "student's mask"
        side = moment.seen.shape[0]
        dual = self._card.streams == "dual"
        return [
            (seen, f"what the policy is shown, {side}×{side}", INK),
            (student, told, STUDENT),
            (motion, "motion residual, second stream" if dual else "difference to the last frame", INK),
            (with_known(moment, small), "key objects, truth (never shown)", KNOWN),
        ]

    def _controls(self, pen: ImageDraw.ImageDraw, moment: Moment) -> None:
        """Speed, the bars of steer and pedal, and the key objects in words."""
        top = LARGE + 12
        speed = f"{moment.speed:.1f}"
        pen.text((12, top), speed, INK, font(30, bold=True))
        pen.text((18 + pen.textlength(speed, font=font(30, bold=True)), top + 14), "m/s", FAINT, font(13))
        steer, pedal = (0.0, 0.0) if moment.action is None else map(float, moment.action)
        bar(pen, (140, top + 4, LARGE - 12), "steer", steer, TURN)
        bar(pen, (140, top + 28, LARGE - 12), "throttle" if pedal >= 0 else "brake", pedal, GO if pedal >= 0 else HALT)
        spoken = ", ".join(moment.phrases) or "no key object in view"
        spoken = spoken if len(spoken) <= 78 else spoken[:77] + "…"
        pen.text((12, top + 60), spoken, KNOWN if moment.phrases else FAINT, font(13))

    def _rewards(self, pen: ImageDraw.ImageDraw, number: int) -> None:
        """The reward so far, its curve over the longest episode there is, and the mean over test seeds."""
        moment, test = self._moments[number], self._card.test
        left, right, top, bottom = LARGE + GAP + 130, WIDTH - 12, LARGE + 14, HEIGHT - 12
        pen.text((LARGE + GAP, LARGE + 12), f"{moment.metrics['reward']:.0f}", INK, font(30, bold=True))
        pen.text((LARGE + GAP, LARGE + 48), "reward so far", FAINT, font(12))
        crash = moment.metrics["crash_intensity"]
        text = f"crash {crash:.0f} N·s" if crash > 0 else f"{moment.seconds:.1f} s"
        pen.text((LARGE + GAP, LARGE + 72), text, HURT if crash > 0 else FAINT, font(13))

        def at(x: float, y: float) -> tuple[float, float]:
            return left + x * (right - left), bottom - y * (bottom - top)

        pen.line((*at(0, 0), *at(1, 0)), fill=RAIL)
        mean = (test.reward - self._lowest) / (self._highest - self._lowest)
        pen.line((*at(0, mean), *at(1, mean)), fill=FAINT)
        pen.text(at(1, mean), f"mean of {test.episodes} test seeds: {test.reward:.0f}", FAINT, font(11), anchor="rd")
        if number:
            pen.line([at(x, y) for x, y in self._curve[: number + 1]], fill=INK, width=2)
        seconds = f"{MAX_EPISODE_STEPS * DT:.0f} s"
        pen.text(at(1, 0), seconds, FAINT, font(11), anchor="rd")
