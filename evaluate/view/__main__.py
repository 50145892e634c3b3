"""Walk through a recorded episode in a browser: camera, H_ka, phrases, verdicts, reward and control.

It writes one HTML file that needs nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment

from semore.datasets.atomic_io import write_text
from semore.datasets.command_line import read_settings
from semore.datasets.hints import command, recordings
from semore.datasets.rollouts.inventory import choose_set
from semore.datasets.rollouts.recorded import recorded
from semore.datasets.run_command import run_command
from semore.evaluate.view.scene import coverage_line, scene


@dataclass(frozen=True)
class ViewSettings:
    """Which episode to show, and where to write the page."""

    data: str = "data"
    """Folder of all recorded data."""
    rollouts: str = ""
    """Name of the rollouts folder under <data>/rollouts, or a path ending in .zarr; default <scenario>-<preset>."""
    scenario: str = "JayWalk"
    """Names the rollouts folder when `rollouts` does not."""
    preset: str = "laptop"
    """As scenario."""
    simulator: str = "embedded"
    """The world of the recordings, as in `collect`: part of the folder's default name."""
    episode: str = ""
    """Name of the episode; default the first."""
    knowledge: str = ""
    """Knowledge set to show, `none` for none; default, of those with masks of the episode, the one that `annotate`
    makes by default, else the only one."""
    out: str = ""
    """The HTML file; default <data>/exports/<rollouts>-<episode>.html."""


def page(moments: dict[str, Any]) -> str:
    """The page, whole: styles, script, pictures and numbers inside."""
    folder = files("semore.evaluate.view")
    style, script, template = ((folder / name).read_text("utf-8") for name in ("view.css", "view.js", "page.html"))
    data = json.dumps(moments, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    return Environment(autoescape=True).from_string(template).render(style=style, script=script, data=data, **moments)


def main() -> None:
    settings = read_settings(ViewSettings, "view")
    rollouts = recorded(settings)
    name = settings.episode or rollouts.names()[0]
    episode = rollouts.episode(name)
    knowledge = choose_set(settings.data, settings.knowledge, [episode], settings.preset)
    moments = scene(episode, knowledge)
    target = Path(settings.out or f"{settings.data}/exports/{rollouts.path.stem}-{name}.html")
    write_text(target, page(moments))
    print(f"{target}: {len(moments['step'])} frames, {target.stat().st_size / 1e6:.1f} MB")
    print(coverage_line(moments["valid"], knowledge))
    if knowledge is None and settings.knowledge != "none":
        print(f"masks of it: `{command('annotate', recordings(settings))}`")
    print(f"next: open {target} in a browser; arrow keys step, space plays")


if __name__ == "__main__":
    run_command(main)
