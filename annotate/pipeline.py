"""An annotation pass over rollouts: cost estimate, work here or on a cluster, summary."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from rich.console import Console

from semore.annotate.annotator import Annotator, nobody
from semore.annotate.interfaces import Producers
from semore.annotate.registry import make_producers
from semore.annotate.scheduling.budget import rounds
from semore.annotate.scheduling.chunks import ChunkQueue
from semore.annotate.scheduling.cost_estimate import forecast
from semore.annotate.scheduling.executor import Executor, open_executor
from semore.annotate.scheduling.plan import all_frames, decision_frames
from semore.annotate.settings import BATCH, Budget, ExecutorSettings, ProducerSettings
from semore.annotate.summary import Summary
from semore.datasets.atomic_io import write_json
from semore.datasets.knowledge.cache import KnowledgeCache, KnowledgeSet, SetManifest, claim_set
from semore.datasets.knowledge.merge import Merge
from semore.datasets.knowledge.rates import remember_rate
from semore.datasets.progress import meter
from semore.datasets.provenance import code_version
from semore.datasets.rollouts.store import Rollouts
from semore.datasets.settings import as_dict, from_dict

MEASURED: Final = 32
"""Frames a pass must have worked on for its speed to be kept."""


def make_annotator(
    cache: KnowledgeCache,
    name: str,
    producers: Producers,
    merge: Merge = "max",
    batch: int = BATCH,
    retry_failed: bool = True,
    recipe: ProducerSettings | None = None,
) -> Annotator:
    """An Annotator that fills the knowledge set `name`, which its first answer makes if there is none; SemoreError when
    the set has other producers. The `recipe` of its producers lets `annotator_for` make them again."""
    manifest = producers.manifest(merge, as_dict(recipe) if recipe is not None else None)
    return Annotator(claim_set(cache, name, manifest), producers, batch, retry_failed)


def annotator_for(knowledge: KnowledgeSet, batch: int = BATCH) -> Annotator:
    """An Annotator with the producers an existing set was made with; SemoreError when they cannot be made or now
    answer differently."""
    manifest = knowledge.manifest
    settings = from_dict(ProducerSettings, manifest.recipe) if manifest.recipe else _by_kind(manifest)
    return make_annotator(knowledge.cache, knowledge.name, make_producers(settings), manifest.merge, batch)


def annotate_rollouts(
    folders: Sequence[Path],
    cache: KnowledgeCache,
    name: str,
    producers: Producers,
    merge: Merge = "max",
    batch: int = BATCH,
    retry_failed: bool = True,
    quiet: bool = False,
    *,
    recipe: ProducerSettings | None = None,
    budget: Budget | None = None,
    executor: ExecutorSettings | None = None,
    off_decisions: bool = False,
) -> Summary:
    """Annotate the complete episodes of the rollouts folders into the knowledge set `name` of the open `cache`:
    the frames at which actions were chosen, or with `off_decisions` every one.

    Says first what it will cost, shows progress, and prints a summary, unless `quiet`. Records what it did in
    <cache>/passes. Whether it was any good, `Summary.require_answers` says.
    """
    episodes = [episode for folder in folders for episode in Rollouts(folder.resolve()).episodes()]
    annotator = make_annotator(cache, name, producers, merge, batch, retry_failed, recipe)
    wanted = all_frames if off_decisions else decision_frames
    plan = annotator.plan(episodes, wanted)
    budget, settings = budget or Budget(), executor or ExecutorSettings()
    summary = Summary.of(plan)
    console = Console(quiet=quiet, highlight=False, soft_wrap=True)
    manifest = annotator.knowledge.manifest
    if not plan.todo:
        console.print(forecast(plan, manifest, cache))
    else:
        with open_executor(settings, console.print) as workers:
            console.print(forecast(plan, manifest, cache, workers.workers))
            rows = [wanted(episode) for episode in episodes]
            first = 2 * batch * workers.workers
            for part in rounds(budget, plan, episodes, rows, first, lambda: summary.done / max(summary.wall, 1e-9)):
                queue = ChunkQueue(part, batch, settings.commit_seconds)
                queue.learn(summary.done, summary.seconds)
                _round(annotator, workers, queue, part.todo, summary, quiet)
        cache.refresh()  # what workers have committed; saves the index
        if summary.done >= MEASURED and not summary.refusal:
            remember_rate(cache.root, manifest, summary.seconds / summary.done)
        _record(cache, name, budget, settings, summary)
    if (summary.answered or summary.known.total()) and not summary.refusal:
        annotator.knowledge.keep()  # also when other sets' answers serve all of it
    if not quiet:
        summary.show(console)
    return summary


def _round(
    annotator: Annotator, executor: Executor, queue: ChunkQueue, frames: int, summary: Summary, quiet: bool
) -> None:
    start = time.monotonic()
    with nullcontext() if quiet or not frames else meter("annotate", frames, "frames") as progress:
        summary.merge(executor.work(annotator, queue, progress.advance if progress else nobody))
    summary.wall += time.monotonic() - start


def _by_kind(manifest: SetManifest) -> ProducerSettings:
    """For a set made before recipes were kept: producers of the same kinds, with default settings."""
    describer, segmenter, judge = (
        str(part["kind"]) if part else "none" for part in (manifest.describer, manifest.segmenter, manifest.judge)
    )
    return ProducerSettings(describer, segmenter, judge)


def _record(cache: KnowledgeCache, name: str, budget: Budget, executor: ExecutorSettings, summary: Summary) -> None:
    """Keep what the pass did: with a budget, how many frames it came to (design.md §7.6)."""
    about = {"knowledge": name, "extent": as_dict(budget), "crew": as_dict(executor), "code": code_version()}
    path = cache.root / "passes" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{name}.json"
    write_json(path, about | summary.plain())
