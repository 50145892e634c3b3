"""The recordings that a command's settings name, or the command that makes them."""

from __future__ import annotations

from typing import Protocol

from semore.datasets.errors import SemoreError, did_you_mean
from semore.datasets.hints import carried, choices, command, recordings
from semore.datasets.names import rollouts_path
from semore.datasets.rollouts.store import Rollouts


class NamesRollouts(Protocol):
    """The settings of every command that reads recordings."""

    @property
    def preset(self) -> str: ...
    @property
    def scenario(self) -> str: ...
    @property
    def simulator(self) -> str: ...
    @property
    def data(self) -> str: ...
    @property
    def rollouts(self) -> str: ...


def recorded(settings: NamesRollouts) -> Rollouts:
    """The rollouts that the settings name, with an episode at least; SemoreError with the command that records them,
    and as for `Rollouts.episodes`."""
    path = rollouts_path(settings.data, settings.rollouts, settings.scenario, settings.preset, settings.simulator)
    rollouts = Rollouts(path)
    there = (path / "zarr.json").exists()
    if there:
        rollouts.episodes()  # SemoreError when it is torn, foreign or of another version
        if rollouts.names():
            return rollouts
    made = carried() | recordings(settings) | choices(settings, "weather", "carla")
    close = did_you_mean(path.stem, (each.parent.stem for each in path.parent.glob("*.zarr/zarr.json")))
    hint = f"{close} Or record" if close and not there else "record"
    what = "has no episode" if there else "does not exist"
    raise SemoreError(f"{path} {what}; {hint} it: `{command('collect', made)}`")
