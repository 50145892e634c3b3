"""What driving beside learning gives: `python -m perf.overlap` (or `make bench`).

The same short runs of preset laptop (64², batch 32), with its episodes and annotated frames per update, take turns:
learning and driving one after the other, on one thread and on two, and an actor beside learning, each on one thread.
On one thread and with an actor they do the same work to the last bit, which is checked. Prints a table, and as its very
last line one JSON object:

    in_turns_updates_per_s, in_turns_on_two_updates_per_s, overlapped_updates_per_s     driving is in between
    …_decisions_per_s               decisions driven, recorded and annotated in the same time
    overlapped_over_in_turns        updates per second, each round's own ratio
    overlapped_over_in_turns_on_two the same, over what two cores give without actors
    overlapped_waited_share         of that time, in which learning stood still for the actor
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from perf.clock import Figure, Spread, ending, opening, parser
from semore.annotate.pipeline import annotate_rollouts
from semore.annotate.registry import make_producers
from semore.annotate.settings import ProducerSettings
from semore.collect.plan import CollectSettings
from semore.collect.workers import collect
from semore.datasets.knowledge.cache import KnowledgeCache
from semore.datasets.rollouts.store import Rollouts
from semore.datasets.settings import from_dict
from semore.train import run as running
from semore.train.metrics import read_metrics
from semore.train.module import Semore
from semore.train.settings import TrainSettings

EVERY: Final = 30
"""Updates from one refresh to the next, and from a refresh until it counts."""
WARM: Final = 150
"""Updates before the first refresh, while an actor starts, which takes seconds: they are not timed."""
FORMS: Final = {"in_turns": (1, 0), "in_turns_on_two": (2, 0), "overlapped": (1, 1)}
"""Threads and actors of each form."""
QUICK: Final = ("in_turns", "overlapped")


@dataclass(frozen=True)
class Course:
    """A run from its first refresh to its last update."""

    updates_per_s: float
    decisions_per_s: float
    waited_share: float
    weights: str


def prepare(folder: Path) -> None:
    """Recorded and annotated episodes, as `collect` and `annotate` make them."""
    settings = CollectSettings(
        data=str(folder), rollouts="bench", episodes=3, validation_episodes=1, action_repeat=2, max_episode_steps=200
    )
    recipe = ProducerSettings()
    cache = KnowledgeCache(folder / "knowledge")
    annotate_rollouts([collect(settings).path], cache, "bench", make_producers(recipe), quiet=True, recipe=recipe)


def settings_of(folder: Path, updates: int) -> TrainSettings:
    """Preset laptop, with its data and annotation per update."""
    plain = from_dict(TrainSettings, {"preset": "laptop"})
    schedule = replace(
        plain.schedule, updates=updates, offline_updates=WARM, refresh_every=EVERY, refresh_episodes=1,
        refresh_frames=60, validate_every=0, validate_episodes=1, delay=EVERY, log_every=EVERY, picture_every=0,
    )  # fmt: skip
    return replace(plain, data=str(folder), rollouts="bench", knowledge="bench", device="cpu", schedule=schedule)


@contextmanager
def timed_updates() -> Iterator[list[float]]:
    """When each update begins."""
    times: list[float] = []
    step = Semore.training_step

    def timing(self: Semore, update: int) -> None:
        times.append(time.perf_counter())
        step(self, update)

    with (
        patch.object(Semore, "training_step", timing),
        patch.object(running, "export_policy", lambda agent, path, view: path.touch()),
    ):
        yield times


def course(settings: TrainSettings, form: str) -> Course:
    """Train once; each time with an empty cache for what it drives, else annotating would be free after the first."""
    with tempfile.TemporaryDirectory() as folder, timed_updates() as times:
        own = Path(folder) / "data"
        shutil.copytree(settings.data, own)
        threads, actors = FORMS[form]
        chosen = replace(settings, data=str(own), runs=folder, run="run", threads=threads, actors=actors)
        with open(Path(folder) / "log", "w", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
            summary = running.train(chosen)
        seconds = times[-1] - times[WARM - 1]
        driven = sum(len(episode.decision_rows) - 1 for episode in Rollouts(chosen.folder / "refresh.zarr").episodes())
        rows = read_metrics(chosen.folder / "metrics.csv")
        waited = sum(value for update, name, value in rows if name == "speed/waited_s" and update > WARM)
    return Course((len(times) - WARM) / seconds, driven / seconds, waited / seconds, str(summary["weights_sha256"]))


def measure(forms: Sequence[str], rounds: int, updates: int) -> dict[str, Any]:
    """All figures of a run of these forms."""
    with tempfile.TemporaryDirectory() as folder:
        with open(Path(folder) / "log", "w", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
            prepare(Path(folder) / "data")
        settings = settings_of(Path(folder) / "data", updates)
        turns = [{form: course(settings, form) for form in forms} for _ in range(rounds)]
    same = {each[form].weights for each in turns for form in ("in_turns", "overlapped")}
    if len(same) > 1:
        raise SystemExit("the same seed gave other weights with an actor than without")
    found: dict[str, Any] = {}
    for form in forms:
        found[f"{form}_updates_per_s"] = Spread.of(each[form].updates_per_s for each in turns)
        found[f"{form}_decisions_per_s"] = Spread.of(each[form].decisions_per_s for each in turns)
    for form in (form for form in forms if form != "overlapped"):
        found[f"overlapped_over_{form}"] = Spread.of(
            each["overlapped"].updates_per_s / each[form].updates_per_s for each in turns
        )
    found["overlapped_waited_share"] = Spread.of(each["overlapped"].waited_share for each in turns)
    found["same_weights"] = True
    return found


def figures(found: dict[str, Any]) -> Iterator[Figure]:
    """The figures."""
    names = dict(zip(FORMS, ("in turns", "in turns, two threads", "an actor beside"), strict=True))
    for form, name in names.items():
        yield f"{name}, updates/s", found.get(f"{form}_updates_per_s"), ".1f", ""
        yield f"{name}, decisions/s", found.get(f"{form}_decisions_per_s"), ".1f", ""
    for form, name in names.items():
        if form != "overlapped":
            yield f"updates: an actor beside / {name}", found.get(f"overlapped_over_{form}"), ".2f", "≥ 1"
    yield "learning waits for the actor", found["overlapped_waited_share"], ".0%", ""


def main() -> None:
    options = parser("perf.overlap", "Driving beside learning.", rounds=2)
    options.add_argument("--updates", type=int, help="updates of a run")
    chosen = opening(options, 2, quick={"updates": WARM + 3 * EVERY + 1}, full={"updates": WARM + 5 * EVERY + 1})
    forms = QUICK if chosen.quick else tuple(FORMS)
    found = measure(forms, 1 if chosen.quick else chosen.rounds, chosen.updates)
    ending("learning and driving, 64², batch 32", figures(found), found)


if __name__ == "__main__":
    main()
