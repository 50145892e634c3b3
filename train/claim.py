"""Which run a folder belongs to: its settings and data are written when it is begun, and compared when it goes on."""

from __future__ import annotations

from collections.abc import Sequence

from semore.collect.scenarios import scenario_and_weather
from semore.datasets.atomic_io import digest_json, read_json, write_json
from semore.datasets.errors import SemoreError
from semore.datasets.provenance import environment
from semore.datasets.rollouts.store import Episode
from semore.datasets.settings import as_dict
from semore.train.settings import TrainSettings, hyperparameters, started_with, what_counts


def claim(settings: TrainSettings, fingerprint: str) -> None:
    """Write the run's settings, or check that they are the ones it was started with, on rollouts of that fingerprint.

    A run that ended before its first checkpoint binds nobody: there is nothing of it to go on from.
    """
    path = settings.folder / "settings.json"
    begun = any((settings.folder / name).exists() for name in ("last.ckpt", "summary.json"))
    wanted = hyperparameters(settings) | {"rollouts_fingerprint": fingerprint}
    if not (begun and path.exists()):
        write_json(path, {"settings": as_dict(settings), "identity": wanted, "environment": environment()})
        return
    before = read_json(path)
    found, wanted = what_counts(started_with(before["identity"])), what_counts(wanted)
    if (threads := before["settings"].get("threads", settings.threads)) != settings.threads:
        print(f"train: begun with --threads {threads}; with {settings.threads} sums are rounded otherwise from here on")
    if digest_json(found) != digest_json(wanted):
        changed = ", ".join(
            f"{key} {found.get(key)!r} → {wanted.get(key)!r}"
            for key in sorted(found.keys() | wanted.keys())
            if found.get(key) != wanted.get(key)
        )
        raise SemoreError(f"{settings.folder} was started with other settings ({changed}); choose another --run NAME")


def check_world(episodes: Sequence[Episode], scenario: str, weather: str, world: dict[str, str]) -> None:
    """SemoreError when an episode was recorded elsewhere than the policy will drive: in another scenario, weather, or
    version of the `world`."""
    wanted_scenario, wanted_weather = scenario_and_weather(scenario, weather)
    wanted = {"scenario": wanted_scenario.name, "weather": wanted_weather.name, **world}
    for episode in episodes:
        for key, value in wanted.items():
            if episode.attributes.get(key) != value:
                raise SemoreError(
                    f"{episode.path} was recorded with {key} {episode.attributes.get(key)!r}, the policy would drive "
                    f"with {value!r}; give the --scenario, --weather and --simulator that it was recorded with, or "
                    "other --rollouts, or record anew with this version"
                )
