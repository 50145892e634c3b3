"""Rehearse a cluster on this machine: the true Dask path, a slow fake model, and injected faults.

Workers die, shards are torn, answers time out or are garbage, and the disk is full. At the end every key must have one
winning record, and exactly the poisoned frames must have failed."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from semore.annotate.pipeline import annotate_rollouts
from semore.annotate.rehearsal.check import finished, problems
from semore.annotate.rehearsal.fake import fake_producers
from semore.annotate.rehearsal.faults import POISON, Faults, Kind
from semore.annotate.rehearsal.rollouts import random_rollouts
from semore.annotate.settings import ExecutorSettings
from semore.datasets.command_line import read_settings
from semore.datasets.errors import SemoreError
from semore.datasets.hints import carried, command
from semore.datasets.knowledge.cache import KnowledgeCache
from semore.datasets.knowledge.records import LevelName
from semore.datasets.rollouts.store import Rollouts
from semore.datasets.run_command import run_command

NAME: Final = "rehearsal"
PASSES: Final = 8
"""Passes at most; each fault that ends one strikes once."""
KINDS: Final[tuple[Kind, ...]] = (
    "poison", "kill", "torn_shard", "timeout", "garbage", "full_disk", "kill_mid_write", "poison_kill",
)  # fmt: skip


@dataclass(frozen=True)
class RehearsalSettings:
    """Configuration of the rehearsal: its length and its workers."""

    episodes: int = 12
    """Episodes of random pictures."""
    frames: int = 200
    """Frames of each."""
    seconds: float = 0.05
    """Processor time of the fake model per batch."""
    batch: int = 8
    """Frames per batch."""
    workers: int = 2
    """Dask workers."""
    commit_seconds: float = 2.0
    """Most work committed at once."""
    folder: str = ""
    """Where; default a temporary folder, removed at the end."""


@dataclass
class Outcome:
    """The result of a rehearsal."""

    passes: int = 0
    deaths: int = 0
    asked: int = 0
    """Frames described, repetitions included."""
    frames: int = 0
    problems: tuple[str, ...] = ()


def rehearse(settings: RehearsalSettings, root: Path, say: Callable[[str], None]) -> Outcome:
    """Run passes until only poisoned frames are left, then check the result. `root` is an empty folder."""
    rollouts = random_rollouts(root / "rollouts.zarr", settings.episodes, settings.frames)
    cache, log = root / "knowledge", root / "log"
    log.mkdir()
    faults = Faults(log, cache, _chosen(rollouts))
    producers = fake_producers(settings.seconds, faults)
    executor = ExecutorSettings("local", settings.workers, commit_seconds=settings.commit_seconds)
    outcome = Outcome(frames=settings.episodes * settings.frames)
    trouble: list[str] = []
    poison = {frame for frame, kind in faults.at.items() if kind in POISON}
    done: dict[LevelName, set[str]] = {}
    while outcome.passes < PASSES:
        outcome.passes += 1
        before = Counter(faults.asked("texts"))
        try:
            summary = annotate_rollouts(
                [rollouts.path],
                KnowledgeCache(cache),
                NAME,
                producers,
                batch=settings.batch,
                quiet=True,
                executor=executor,
            )
        except SemoreError as error:
            say(f"pass {outcome.passes}: stopped: {error}")
        else:
            outcome.deaths += summary.deaths
            say(
                f"pass {outcome.passes}: {summary.done} frames, {summary.failed} records failed, "
                f"{summary.deaths} chunks lost to dead workers"
            )
        again = set(Counter(faults.asked("texts")) - before) & done.get("texts", set())
        if again:
            trouble.append(f"pass {outcome.passes} asked again about {len(again)} finished frames")
        done = finished(cache, NAME, rollouts)
        if len(done["texts"]) == outcome.frames - len(poison) and not problems(cache, NAME, rollouts, poison):
            break
        faults.calm()
    outcome.asked = len(faults.asked("texts"))
    outcome.problems = (*trouble, *problems(cache, NAME, rollouts, poison))
    return outcome


def _chosen(rollouts: Rollouts) -> dict[str, Kind]:
    """A frame for each kind of fault, spread over the episodes in the order of KINDS."""
    digests = np.concatenate([episode.read("digest")["digest"] for episode in rollouts.episodes()])
    places = np.linspace(0.08, 0.92, len(KINDS)) * len(digests)
    return {digests[int(place)].tobytes().hex(): kind for place, kind in zip(places, KINDS, strict=True)}


def main() -> None:
    settings = read_settings(RehearsalSettings, "rehearse")
    root = Path(settings.folder or tempfile.mkdtemp(prefix="rehearsal-"))
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise SemoreError(f"{root} is not empty; choose another --folder")
    try:
        outcome = rehearse(settings, root, print)
    finally:
        if not settings.folder:
            shutil.rmtree(root, ignore_errors=True)
    print(
        f"{outcome.frames} frames, {len(KINDS)} faults, {outcome.passes} passes, {outcome.deaths} chunks lost to dead "
        f"workers; the model was asked about {outcome.asked} frames ({outcome.asked / outcome.frames:.2f} times each)"
    )
    for problem in outcome.problems:
        print(f"PROBLEM: {problem}")
    if outcome.problems:
        raise SemoreError("the rehearsal failed: see the problems above")
    print("every key has one winning record, and exactly the poisoned frames are failed")
    same = {"scheduler": "local", "workers": settings.workers}
    print(f"next: {command('collect', carried())} && {command('annotate', carried() | same)}")


if __name__ == "__main__":
    run_command(main)
