"""Films of the shipped policies on test episodes, without training or data (`make demo`).

One film for each scenario shows the camera, what the policy is shown, its mask, the truth and the motion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from semore.datasets.atomic_io import atomic_file
from semore.datasets.command_line import read_settings
from semore.datasets.errors import SemoreError
from semore.datasets.hints import command
from semore.datasets.progress import meter
from semore.datasets.rollouts.schema import SEED_SPLITS
from semore.datasets.run_command import run_command
from semore.datasets.settings import changed
from semore.evaluate.checkpoints import FOLDER, Card, Shipped, open_shipped, shipped_scenarios
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


@dataclass(frozen=True)
class DemoSettings:
    """Which policies to watch, and where the films go."""

    scenarios: tuple[str, ...] = ()
    """Scenarios; default all that have a checkpoint."""
    seed: int = -1
    """Test seed to drive, 2,000,000 and up; −1: the eventful one that the checkpoint's card names."""
    folder: str = FOLDER
    """Folder of the checkpoints."""
    out: str = "demo"
    """Folder of the films."""
    images: str = ""
    """Also write demo-<scenario>.gif into this folder: the most eventful seconds, for a web page."""


def check(settings: DemoSettings) -> None:
    """SemoreError naming the first setting that makes no sense."""
    test = SEED_SPLITS["test"]
    if settings.seed != -1 and settings.seed not in test:
        raise SemoreError(f"seed {settings.seed} is no test seed; give {test.start} to {test.stop - 1}, or -1")


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


def main() -> None:
    settings = read_settings(DemoSettings, "demo")
    check(settings)
    torch.set_num_threads(1)  # the networks are small: a second thread only waits
    folder = Path(settings.folder)
    scenarios = settings.scenarios or tuple(shipped_scenarios(folder))
    if not scenarios:
        raise SemoreError(f"{folder} holds no checkpoint; `python -m study.publish --run runs/<run>` makes one")
    every = [open_shipped(folder, scenario) for scenario in scenarios]
    lines = []
    with meter("demo", len(every), "films") as progress:
        for shipped in every:
            seed = settings.seed if settings.seed >= 0 else shipped.card.demo_seed
            moments = watch(shipped, seed)
            showcase = Showcase(moments, shipped.card, seed)
            path = Path(settings.out) / f"{shipped.card.scenario}-{seed}.mp4"
            film(showcase, moments, path)
            if settings.images:
                animate(showcase, moments, Path(settings.images) / f"demo-{shipped.card.scenario}.gif")
            lines.append(told(shipped, seed, moments, path))
            progress.advance(1, shipped.card.scenario)
    print("\n".join(lines))
    card = every[0].card
    another = changed(settings) | {"scenarios": (card.scenario,), "seed": card.demo_seed + 1}
    print(f"another episode: `{command('demo', another)}`")
    print(f"next: {train_such(card)}")


def train_such(card: Card) -> str:
    """The commands that train such a policy on this machine."""
    names = {"preset": card.preset, "scenario": card.scenario}
    return f"{command(('collect', 'annotate'), names)} && {command('train', names | {'method': card.method})}"


if __name__ == "__main__":
    run_command(main)
