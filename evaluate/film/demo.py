"""The films of a shipped policy on a test episode: the whole of it, a page's animation, and what they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semore.datasets.atomic_io import atomic_file
from semore.evaluate.checkpoints import Shipped
from semore.evaluate.episodes import RunCourse
from semore.evaluate.film.moments import Enlarged, Moment, record
from semore.evaluate.film.overlay import GO, HALT, KNOWN, STUDENT, TURN
from semore.evaluate.film.showcase import LARGE, Showcase
from semore.evaluate.film.video import frame_rate, save

HELD: Final = 1.5
"""Seconds that a film stays on its last picture."""
BEFORE, AFTER = 3.0, 1.5
"""Seconds of a page's animation before and after the frame in which key objects fill most of the picture."""
PER_SECOND: Final = 5
"""Pictures per second of a page's animation."""
COLOURS: Final = 96
"""Colours of a page's animation."""
LARGEST: Final = 1_500_000
"""Largest size of a page's animation in bytes."""
ACCENTS: Final = (KNOWN, STUDENT, GO, HALT, TURN)
"""Colours that every animation's palette must have."""
SWATCH: Final = 12
"""Height in pixels of each such colour in the sample that the palette is made from."""


def watch(shipped: Shipped, seed: int) -> list[Moment]:
    """The episode, with pictures for people of LARGE pixels."""
    card = shipped.card
    course = RunCourse(shipped.path, card.scenario, card.weather, card.reward, card.world["simulator"])
    return record(course, seed, card.teaches_mask, Enlarged(LARGE))


def film(showcase: Showcase, moments: Sequence[Moment], path: Path) -> None:
    """An mp4 of the whole episode in real time, which rests on its end."""
    rate = frame_rate(moments)

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for number in range(len(moments)):
            yield showcase.picture(number)
        yield from [showcase.picture(len(moments) - 1)] * int(HELD * rate)

    save(pictures(), path, rate)


def animate(showcase: Showcase, moments: Sequence[Moment], path: Path) -> None:
    """A GIF of the most eventful seconds, of half a film's size or as much less as keeps it below LARGEST."""
    peak = max(range(len(moments)), key=lambda number: moments[number].known.mean())
    seconds = moments[peak].seconds
    every = max(1, round(frame_rate(moments) / PER_SECOND))
    near = [n for n, moment in enumerate(moments) if -BEFORE <= moment.seconds - seconds <= AFTER][::every]
    pictures = [Image.fromarray(showcase.picture(number)) for number in near]
    with atomic_file(path) as temporary:
        for share in (0.5, 0.42, 0.35, 0.28):
            size = (round(pictures[0].width * share), round(pictures[0].height * share))
            small = [picture.resize(size, Image.Resampling.LANCZOS) for picture in pictures]
            palette = _palette(small)
            first, *more = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in small]
            first.save(
                temporary, "gif", save_all=True, append_images=more, loop=0, optimize=True,
                duration=round(1000 * every / frame_rate(moments)),
            )  # fmt: skip
            if temporary.stat().st_size <= LARGEST:
                break


def _palette(pictures: Sequence[Image.Image]) -> Image.Image:
    """One palette for all pictures, with the colours of masks and bars, whose few pixels would find no place in it."""
    chosen = [pictures[0], pictures[len(pictures) // 2], pictures[-1]]
    width, height = chosen[0].size
    sample = Image.new("RGB", (width, len(chosen) * height + len(ACCENTS) * SWATCH))
    for place, picture in enumerate(chosen):
        sample.paste(picture, (0, place * height))
    for place, colour in enumerate(ACCENTS):
        top = len(chosen) * height + place * SWATCH
        sample.paste(colour, (0, top, width, top + SWATCH))
    return sample.quantize(COLOURS)


def told(shipped: Shipped, seed: int, moments: Sequence[Moment], path: Path) -> str:
    """What the film shows, and what it stands for: one episode is no result."""
    card, end = shipped.card, moments[-1].metrics
    test = card.test
    why = ", chosen because much happens in it" if seed == card.demo_seed else ""
    crash = f", crash intensity {end['crash_intensity']:.0f} N·s" if end["crash_intensity"] else ""
    ending = "the full time" if end["ending"] == "success" else f"until {end['ending'].replace('_', ' ')}"
    return (
        f"{path}: {card.scenario}, test seed {seed}{why}: reward {end['reward']:.0f}, {end['distance']:.0f} m, "
        f"{ending}{crash}\n"
        f"  over {test.episodes} test seeds this policy ({card.method}, training seed {card.train_seed}) reached "
        f"{test.reward:.0f} ± {test.std:.0f} and finished {test.finished}"
    )
