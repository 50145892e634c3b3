"""Name, segment and judge what matters in recorded frames, once, into the shared knowledge cache."""

from __future__ import annotations

from pathlib import Path

from semore.annotate.pipeline import annotate_rollouts
from semore.annotate.registry import check_names, make_producers
from semore.annotate.scheduling.plan import all_frames, decision_frames
from semore.annotate.settings import AnnotateSettings, Budget, ExecutorSettings, ProducerSettings
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.cache import KnowledgeCache, open_set
from semore.datasets.rollouts.store import Rollouts
from semore.datasets.run_command import run_command
from semore.datasets.settings import load_settings, part_of


def main() -> None:
    settings = load_settings(AnnotateSettings, "annotate")
    if settings.batch < 1:
        raise SemoreError(f"batch is {settings.batch}; it must be at least 1")
    recipe, executor = part_of(settings, ProducerSettings), part_of(settings, ExecutorSettings)
    budget = part_of(settings, Budget)
    check_names(recipe)
    Rollouts(settings.folder).episodes()  # told before any producer is imported, which takes seconds
    name = settings.knowledge_set
    cache = KnowledgeCache(Path(settings.data) / "knowledge")
    summary = annotate_rollouts(
        [settings.folder],
        cache,
        name,
        make_producers(recipe),
        settings.merge,
        settings.batch,
        settings.retry_failed,
        recipe=recipe,
        budget=budget,
        executor=executor,
        off_decisions=settings.off_decisions,
    )
    summary.require_answers()
    if budget.sample:
        from semore.annotate.pilot import report_pilot

        wanted = all_frames if settings.off_decisions else decision_frames
        episodes = list(Rollouts(settings.folder).episodes())
        report_pilot(open_set(cache, name), settings.folder, episodes, wanted)
    print("next: make annotate" if budget.sample else "next: make train")


if __name__ == "__main__":
    run_command(main)
