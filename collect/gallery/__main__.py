"""Contact sheets of the embedded world: every scenario under every weather, and every actor.

`semore gallery` writes docs/images/gallery.png and, beside it, actors.png."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from semore.datasets.command_line import read_settings
from semore.datasets.run_command import run_command


@dataclass(frozen=True)
class GallerySettings:
    """What to draw, and where."""

    size: int = 192
    """Side of each picture in pixels."""
    out: str = "docs/images/gallery.png"
    """The sheet of scenarios; that of the actors goes beside it."""


def main() -> None:
    settings = read_settings(GallerySettings, "gallery")
    from semore.collect.gallery.sheets import actors, gallery  # with numba

    out = Path(settings.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    for path, image in ((out, gallery(settings.size)), (out.with_name("actors.png"), actors(settings.size))):
        image.save(path)
        print(f"wrote {path} ({image.width} x {image.height})")


if __name__ == "__main__":
    run_command(main)
