"""Films of test episodes: H.264 that browsers play, small enough to stand in a report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import imageio.v2 as imageio
import numpy as np
from numpy.typing import NDArray

from semore.datasets.atomic_io import atomic_file, read_json, write_json
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import DT
from semore.evaluate.episodes import RunCourse
from semore.evaluate.film.moments import Moment, record, teaches_mask
from semore.evaluate.film.overlay import compose

QUALITY: Final = "32"
"""libx264's constant rate factor: a 25 s episode takes about 600 kB."""
EFFORT: Final = "veryfast"
"""libx264's preset."""


def save(pictures: Iterable[NDArray[np.uint8]], path: Path, fps: float) -> None:
    """Write (H, W, 3) uint8 pictures atomically to an .mp4, one after the other: H.264 that browsers play (yuv420p,
    index first)."""
    film: Any  # imageio's own types name what all its plugins have, not what this one has
    with atomic_file(path) as temporary:
        with imageio.get_writer(
            temporary, format="FFMPEG", fps=fps, codec="libx264", pixelformat="yuv420p", macro_block_size=2,
            quality=None, output_params=["-crf", QUALITY, "-preset", EFFORT, "-movflags", "+faststart"],
        ) as film:  # fmt: skip
            for picture in pictures:
                film.append_data(picture)
        if not whole(temporary):  # imageio does not ask how ffmpeg ended
            raise SemoreError(f"{path} could not be written: ffmpeg says why above; make room if the disk is full")


def whole(film: Path) -> bool:
    """Whether an MP4's parts fill the file and its index is among them; ffmpeg writes that last."""
    size, place, kinds = film.stat().st_size, 0, set()
    with open(film, "rb") as handle:
        while place < size:
            handle.seek(place)
            head = handle.read(16)
            length = int.from_bytes(head[:4], "big")
            kinds.add(head[4:8])
            place += length if length != 1 else int.from_bytes(head[8:], "big")
            if length == 0:
                return False
    return place == size and b"moov" in kinds


def film(course: RunCourse, seed: int, path: Path) -> int:
    """Drive `seed` with the trained policy and write an mp4 that plays in real time, and notes beside it; returns the
    number of pictures."""
    digest = course.policy_digest  # before the policy is read: if it is replaced meanwhile, the film is not believed
    moments = record(course, seed, teaches_mask(course.run))
    save(compose(moments), path, frame_rate(moments))
    note(digest, path, moments[-1].metrics)
    return len(moments)


def note(policy_digest: str, film: Path, metrics: dict[str, Any]) -> None:
    """Write beside a film which policy it is of, and the episode's totals."""
    write_json(film.with_suffix(".json"), {"policy_digest": policy_digest, "metrics": metrics})


def noted(policy_digest: str, film: Path) -> dict[str, Any] | None:
    """The totals of the episode, None when there are no notes beside the film, or they are of another policy. Notes
    from before they named the policy are none."""
    notes = film.with_suffix(".json")
    found: dict[str, Any] = read_json(notes) if notes.exists() else {}
    return found["metrics"] if found.get("policy_digest") == policy_digest else None


def frame_rate(moments: Sequence[Moment]) -> float:
    """Decisions per simulated second; unrounded, as a decision may last any number of steps."""
    steps = moments[1].metrics["steps"] - moments[0].metrics["steps"] if len(moments) > 1 else 1
    return 1.0 / (steps * DT)
