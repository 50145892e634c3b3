"""A map of the embedded world as OpenDRIVE 1.4 text, which CARLA's client and other tools read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from semore.datasets.atomic_io import write_text
from semore.datasets.command_line import read_settings
from semore.datasets.errors import SemoreError
from semore.datasets.run_command import run_command


@dataclass(frozen=True)
class OpenDriveSettings:
    """Which map to write, and where."""

    town: str
    """Town01 or Town04."""
    out: str = ""
    """The file to write; default: it is printed."""


def main() -> None:
    chosen = read_settings(OpenDriveSettings, "opendrive")
    from semore.collect.embedded.maps.opendrive import opendrive  # with numba
    from semore.collect.embedded.maps.town import SPECS

    if chosen.town not in SPECS:
        raise SemoreError(f"unknown town {chosen.town!r}; choose one of {', '.join(SPECS)}")
    text = opendrive(SPECS[chosen.town], chosen.town)
    if chosen.out:
        write_text(Path(chosen.out), text)
    else:
        print(text, end="")


if __name__ == "__main__":
    run_command(main)
