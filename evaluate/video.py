"""Films of test episodes: H.264 that browsers play, small enough to stand in a report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import imageio.v2 as imageio
import numpy as np
from numpy.typing import NDArray

from datasets.files import atomic_file
from datasets.schema import DT
from evaluate.episodes import RunCourse
from evaluate.moments import Moment, record, teaches_mask
from evaluate.overlay import compose

QUALITY: Final = "32"
"""libx264's constant rate factor: a 25 s episode takes about 600 kB."""
EFFORT: Final = "veryfast"
"""libx264's preset."""


def save(pictures: Iterable[NDArray[np.uint8]], path: Path, fps: float) -> None:
    """Write (H, W, 3) uint8 pictures atomically to an .mp4, one after the other: H.264 that browsers play (yuv420p,
    index first)."""
    film: Any  # imageio's own types name what all its plugins have, not what this one has
    with (
        atomic_file(path) as temporary,
        imageio.get_writer(
            temporary, format="FFMPEG", fps=fps, codec="libx264", pixelformat="yuv420p", macro_block_size=2,
            quality=None, output_params=["-crf", QUALITY, "-preset", EFFORT, "-movflags", "+faststart"],
        ) as film,
    ):  # fmt: skip
        for picture in pictures:
            film.append_data(picture)


def film(course: RunCourse, seed: int, path: Path) -> int:
    """Drive `seed` with the trained policy and write an mp4 that plays in real time; returns the number of pictures."""
    moments = record(course, seed, teaches_mask(course.run))
    save(compose(moments), path, frame_rate(moments))
    return len(moments)


def frame_rate(moments: Sequence[Moment]) -> float:
    """Decisions per simulated second; unrounded, as a decision may last any number of steps."""
    steps = moments[1].metrics["steps"] - moments[0].metrics["steps"] if len(moments) > 1 else 1
    return 1.0 / (steps * DT)
