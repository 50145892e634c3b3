"""Record rollouts of a scenario into data/rollouts: whole episodes, in parallel, resuming where it stopped."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from semore.collect.plan import CollectSettings
from semore.collect.workers import collect
from semore.datasets.hints import carried, command, recordings
from semore.datasets.rollouts.store import Rollouts
from semore.datasets.run_command import run_command
from semore.datasets.settings import load_settings


def _summary(rollouts: Rollouts) -> Table:
    rows: dict[tuple[str, str], list[Any]] = {}
    for episode in rollouts.episodes():
        rows.setdefault((episode.attributes["policy"], episode.attributes["split"]), []).append(episode)
    table = Table("policy", "split", "episodes", "steps", "mean reward", "endings", title=str(rollouts.path))
    for (policy, split), episodes in sorted(rows.items()):
        endings: dict[str, int] = {}
        for episode in episodes:
            endings[episode.attributes["ending"]] = endings.get(episode.attributes["ending"], 0) + 1
        reward = sum(episode.attributes["total_reward"] for episode in episodes) / len(episodes)
        steps = sum(episode.steps for episode in episodes)
        ends = ", ".join(f"{ending} {count}" for ending, count in sorted(endings.items()))
        table.add_row(policy, split, str(len(episodes)), str(steps), f"{reward:.1f}", ends)
    return table


def main() -> None:
    settings = load_settings(CollectSettings, "collect")
    rollouts = collect(settings)
    Console().print(_summary(rollouts))
    print(f"next: {command('annotate', carried() | recordings(settings))}")


if __name__ == "__main__":
    run_command(main)
