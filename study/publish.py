"""Makes a checkpoint that ships with the repository from a finished, evaluated run, with its card.

`python -m study.publish runs/JayWalk-laptop` writes its acting network and a card with its results."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from semore.collect.scenarios import scenario_and_weather
from semore.datasets.atomic_io import atomic_file, read_json, write_json, write_text
from semore.datasets.command_line import read_settings
from semore.datasets.errors import SemoreError
from semore.datasets.hints import command
from semore.datasets.progress import meter
from semore.datasets.run_command import run_command
from semore.datasets.settings import from_dict
from semore.evaluate.checkpoints import (
    FOLDER,
    LARGEST,
    Card,
    Tested,
    in_words,
    installed_world,
    sha256,
    shipped_scenarios,
    weights_sha256,
)
from semore.evaluate.episodes import Row, RunCourse, driven
from semore.evaluate.film.moments import record, teaches_mask
from semore.evaluate.run_commands import evaluate_command
from semore.evaluate.runs import read_runs
from semore.evaluate.statistics import estimate
from semore.evaluate.sweep.points import identity
from semore.train.checkpoint import read_checkpoint
from semore.train.run_io import run_settings

CANDIDATES: Final = 8
"""Episodes that are looked at for the one to show."""
WORLD: Final = ("simulator", "simulator_version", "renderer_version")


@dataclass(frozen=True)
class PublishSettings:
    """What to ship, and where to."""

    run: str
    """Folder of the run: trained to the end and evaluated on test seeds, in the embedded world."""
    folder: str = FOLDER
    """Folder of the checkpoints; the scenario's former one is replaced."""
    demo_seed: int = -1
    """Test seed that the demo drives; −1: the most eventful of a few finished episodes."""


def publish(run: Path, folder: Path, demo_seed: int = -1) -> Card:
    """Write `<scenario>.pt2`, its card and the folder's README. SemoreError when the run is not finished or evaluated,
    is of another world than this code's, or its policy is too large."""
    settings, (finished,) = run_settings(run), read_runs([run])
    policy = run / "policy.pt2"
    if not policy.exists():
        raise SemoreError(f"{policy} does not exist; finish the run, or give another --run")
    if policy.stat().st_size > LARGEST:
        raise SemoreError(
            f"{policy} has {policy.stat().st_size / 1e6:.1f} MB, more than the {LARGEST / 1e6:.0f} MB that the "
            "repository takes; ship a run with a smaller agent.encoder"
        )
    trained = read_checkpoint(run / "best.ckpt", {})["identity"]
    world = {name: str(trained[name]) for name in WORLD}
    scenario, weather = scenario_and_weather(settings.scenario, settings.weather)
    rows = finished.episodes(cell=(scenario.name, weather.name))
    _check_world(run, world, rows)
    course = RunCourse(run, scenario.name, weather.name, settings.reward, world["simulator"])
    if any(row.policy_digest != course.policy_digest for row in rows):
        raise SemoreError(
            f"{run / 'evaluation.csv'} has episodes of another policy than {policy}, or that do not say of which; "
            f"`{evaluate_command(run)}` drives this one"
        )
    rewards = estimate([row.reward for row in driven(rows)])
    saved = read_json(run / "settings.json")
    card = Card(
        scenario=scenario.name, weather=weather.name, method=finished.method, preset=Path(settings.preset).stem,
        train_seed=finished.seed, update=int(read_json(run / "summary.json")["best_update"]), reward=settings.reward,
        streams=settings.agent.encoder.streams, teaches_mask=teaches_mask(run),
        test=Tested(
            min(row.seed for row in rows), len(driven(rows)), sum(row.ending == "success" for row in rows),
            rewards.mean, rewards.std, rewards.low, rewards.high,
        ),
        demo_seed=demo_seed if demo_seed >= 0 else most_eventful(course, rows),
        settings_digest=identity(settings).hex(), code=saved.get("environment", {}).get("semore", "unknown"),
        world=world, weights_sha256=weights_sha256(policy), file_sha256=sha256(policy),
    )  # fmt: skip
    with atomic_file(folder / f"{card.scenario}.pt2") as temporary:
        shutil.copyfile(policy, temporary)
    write_json(folder / f"{card.scenario}.json", asdict(card))
    write_text(folder / "README.md", readme(folder))
    return card


def most_eventful(course: RunCourse, rows: Sequence[Row]) -> int:
    """Of the first few episodes that lasted their full time without a hit (without such: of all), the seed of the one
    in which key objects fill most of the picture at their nearest."""
    whole = [row for row in driven(rows) if row.ending == "success" and not row.crash_intensity]
    chosen = (whole or driven(rows))[:CANDIDATES]
    if not chosen:
        raise SemoreError(f"{course.run} has no test episode that its simulator brought to an end; evaluate it again")
    filled = {}
    with meter("look for an eventful episode", len(chosen), "episodes") as progress:
        for row in chosen:
            shares = [float(moment.known.mean()) for moment in record(course, row.seed, taught=False)]
            filled[row.seed] = float(np.quantile(shares, 0.95))
            progress.advance(1, f"seed {row.seed}")
    return max(filled, key=lambda seed: filled[seed])


def readme(folder: Path) -> str:
    """What the folder's files are, and a table of them from their cards."""
    cards = [from_dict(Card, read_json(folder / f"{name}.json")) for name in shipped_scenarios(folder)]
    sizes = {card.scenario: (folder / f"{card.scenario}.pt2").stat().st_size / 1e6 for card in cards}
    lines = [
        f"| {card.scenario} | {card.method} | {card.preset}, seed {card.train_seed} | {card.test.reward:.0f} ± "
        f"{card.test.std:.0f} | {card.test.low:.0f} … {card.test.high:.0f} | {card.test.finished} of "
        f"{card.test.episodes} | {sizes[card.scenario]:.1f} MB | {in_words(card.world)} |"
        for card in cards
    ]
    return README + "\n".join(lines) + "\n"


README: Final = """# Trained policies

What `make demo` drives: `<scenario>.pt2` is the acting network of one training run (a `torch.export` program, without
critics; `semore.collect.policies.load_policy` reads it), `<scenario>.json` its card: method, training seed, digest of
the settings, code, world, what it reached on test seeds, and the sha256 of its weights and of the file. A policy
holds for the world it was trained in; `make demo` refuses it in another. `python -m study.publish runs/<run>`
makes these files, this one too.

| scenario | method | preset | reward on test seeds | 95% interval | episodes finished | size | world |
|---|---|---|---|---|---|---|---|
"""


def _check_world(run: Path, world: dict[str, str], rows: Sequence[Row]) -> None:
    if world["simulator"] != "embedded":
        raise SemoreError(f"{run} was trained in {world['simulator']}; the demo drives in the embedded world only")
    installed = installed_world()
    if world != installed:
        raise SemoreError(
            f"{run} was trained in the world {in_words(world)}, installed is {in_words(installed)}; train a new run"
        )
    if not rows:
        raise SemoreError(f"{run / 'evaluation.csv'} has no episode of the run's own scenario and weather")
    others = {row.renderer for row in rows} - {"", f"{world['simulator']} {world['renderer_version']}"}
    if others:
        raise SemoreError(
            f"{run / 'evaluation.csv'} has episodes of {', '.join(sorted(others))}, the run is of {in_words(world)}; "
            f"move the file away, and then `{evaluate_command(run)}`"
        )


def main() -> None:
    settings = read_settings(PublishSettings, "python -m study.publish")
    torch.set_num_threads(1)  # the networks are small: a second thread only waits
    folder = Path(settings.folder)
    card = publish(Path(settings.run), folder, settings.demo_seed)
    path = folder / f"{card.scenario}.pt2"
    print(
        f"{path}: {path.stat().st_size / 1e6:.1f} MB, {card.method}, training seed {card.train_seed}; reward "
        f"{card.test.reward:.0f} ± {card.test.std:.0f} on {card.test.episodes} test seeds; the demo drives seed "
        f"{card.demo_seed}"
    )
    shown = {"scenarios": (card.scenario,), "folder": "" if settings.folder == FOLDER else settings.folder}
    print(f"commit {folder} when it is good\nnext: {command('demo', shown)}")


if __name__ == "__main__":
    run_command(main)
