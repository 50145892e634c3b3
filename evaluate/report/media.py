"""Films of the best, median and worst test episode and strips of crashes, and their place in the page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import imageio.v2 as imageio
import numpy as np
from PIL import Image

from semore.collect.policies import load_view
from semore.datasets.progress import meter
from semore.evaluate.episodes import Row, RunCourse, driven
from semore.evaluate.film import crash_strip, video
from semore.evaluate.film.moments import record, teaches_mask
from semore.evaluate.film.overlay import compose
from semore.evaluate.runs import Cell, Run

CRASHES: Final = 6
"""Strips per run: the hardest crashes."""
PICTURES: Final = 8
"""Attention pictures per run at most, evenly apart in time and the last one always."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A filmed episode: why it was chosen, its row of evaluation.csv, its files, and the totals of the filmed drive,
    which may differ from the row's by rounding, since a film is driven alone."""

    role: str
    row: Row
    film: Path | None
    strip: Path | None
    told: dict[str, Any]


def chosen(rows: Sequence[Row]) -> dict[str, Row]:
    """The best, the median (the lower one of two) and the worst episode by reward; without those that failed."""
    order = sorted(driven(rows), key=lambda row: row.reward)
    if not order:
        return {}
    return {"best": order[-1], "median": order[(len(order) - 1) // 2], "worst": order[0]}


def crashes(rows: Sequence[Row]) -> list[Row]:
    """The hardest crashes, at most CRASHES."""
    hit = [row for row in driven(rows) if row.crash_intensity > 0]
    return sorted(hit, key=lambda row: -row.crash_intensity)[:CRASHES]


def clips(run: Run, course: Cell) -> list[Clip]:
    """Film what is not yet in `<run>/films` or is of another policy; SemoreError without policy.pt2."""
    rows = run.episodes("trained", course)
    films = {f"{role} of {len(driven(rows))}": row for role, row in chosen(rows).items()}
    strips = crashes(rows)
    view = load_view(run.folder)
    world = RunCourse(run.folder, *course, view["reward"], view.get("simulator", "embedded"))
    wanted = dict.fromkeys(row.seed for row in [*films.values(), *strips])
    found: dict[int, dict[str, Any]] = {}
    with meter(f"film {run.name}", len(wanted), "episodes") as progress:
        for seed in wanted:
            filmed = any(row.seed == seed for row in films.values())
            found[seed] = _film(world, seed, filmed)
            progress.advance(1, f"seed {seed}")
    told = [Clip(role, row, _path(world, row.seed, "mp4"), None, found[row.seed]) for role, row in films.items()]
    return told + [
        Clip("crash", row, None, _path(world, row.seed, "jpg"), found[row.seed])
        for row in strips
        if found[row.seed]["crash_intensity"] > 0
    ]


def attention_pictures(run: Run) -> list[tuple[int, Path]]:
    """(update, picture) of what the trainer drew, at most PICTURES."""
    every = sorted((run.folder / "pictures").glob("update-*.png"))
    step = max(1, -(-len(every) // PICTURES))
    return [(int(path.stem.rpartition("-")[2]), path) for path in reversed(every[::-1][::step])]


@dataclass
class Album:
    """Files as data URIs, until `limit` bytes are spent."""

    limit: int
    spent: int = 0
    left_out: list[Path] = field(default_factory=list)

    def add(self, path: Path) -> str | None:
        """A data URI (PNG converted to WebP, others unchanged), None when there is no room left for it."""
        if path.suffix == ".png":
            with Image.open(path) as picture:
                kind, content = "image/webp", _webp(picture)
        else:
            kind, content = {".mp4": "video/mp4", ".jpg": "image/jpeg"}[path.suffix], path.read_bytes()
        return self._taken(kind, content, path)

    def still(self, film: Path) -> str | None:
        """A data URI of the film's middle, which stands there until it is played."""
        reader: Any  # imageio's own types name what all its plugins have, not what this one has
        with imageio.get_reader(film) as reader:
            about = reader.get_meta_data()
            picture = reader.get_data(int(about["duration"] * about["fps"]) // 2)  # the reader seeks, and decodes one
        return self._taken("image/webp", _webp(Image.fromarray(np.asarray(picture))), None)

    def _taken(self, kind: str, content: bytes, path: Path | None) -> str | None:
        address = f"data:{kind};base64,{base64.b64encode(content).decode()}"
        if self.spent + len(address) > self.limit:
            self.left_out += [path] if path else []
            return None
        self.spent += len(address)
        return address


def _webp(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.convert("RGB").save(buffer, format="webp", quality=82, method=6)
    return buffer.getvalue()


def _path(world: RunCourse, seed: int, suffix: str) -> Path:
    return world.run / "films" / f"{world.scenario}-{world.weather}-{seed}.{suffix}"


def _film(world: RunCourse, seed: int, filmed: bool) -> dict[str, Any]:
    """The totals of the episode; its film, if wanted, and the strip of its hardest impact, if any, are on disk."""
    film, picture_path, digest = _path(world, seed, "mp4"), _path(world, seed, "jpg"), world.policy_digest
    told = video.noted(digest, film)
    if told is not None and (film.exists() or not filmed):
        return told
    if told is None:  # what lies there is of another policy, and would be taken for this one's once the notes are
        film.unlink(missing_ok=True)
        picture_path.unlink(missing_ok=True)
    moments = record(world, seed, teaches_mask(world.run))
    if filmed:
        video.save(compose(moments), film, video.frame_rate(moments))
    picture = crash_strip.crash_strip(moments)
    if picture is not None:
        crash_strip.save(picture, picture_path)
    video.note(digest, film, moments[-1].metrics)
    return moments[-1].metrics
