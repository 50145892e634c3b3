"""Name, segment and judge what matters in recorded frames, once, into the shared knowledge cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from semore.annotate.annotate_hint import train_after
from semore.annotate.pipeline import annotate_rollouts
from semore.annotate.registry import check_names, check_together, make_producers
from semore.annotate.scheduling.plan import all_frames, decision_frames
from semore.annotate.settings import AnnotateSettings, Budget, ExecutorSettings, ProducerSettings
from semore.datasets.errors import SemoreError
from semore.datasets.hints import carried, command
from semore.datasets.knowledge.cache import KnowledgeCache, open_set
from semore.datasets.rollouts.recorded import recorded
from semore.datasets.rollouts.store import Episode
from semore.datasets.run_command import run_command
from semore.datasets.settings import changed, load_settings, part_of

if TYPE_CHECKING:
    from semore.annotate.pilot import Pilot

LARGER = 4
"""How much larger a pilot is proposed to be after one that was too small to tell."""


def main() -> None:
    settings = load_settings(AnnotateSettings, "annotate")
    if settings.batch < 1:
        raise SemoreError(f"batch is {settings.batch}; it must be at least 1")
    recipe, executor = part_of(settings, ProducerSettings), part_of(settings, ExecutorSettings)
    budget = part_of(settings, Budget)
    check_names(recipe)
    check_together(recipe)
    rollouts = recorded(settings)  # told before any producer is imported, which takes seconds
    name = settings.knowledge_set
    cache = KnowledgeCache(Path(settings.data) / "knowledge")
    summary = annotate_rollouts(
        [rollouts.path],
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
    episodes = list(rollouts.episodes())
    if budget.sample:
        from semore.annotate.pilot import report_pilot

        wanted = all_frames if settings.off_decisions else decision_frames
        pilot = report_pilot(open_set(cache, name), rollouts.path, episodes, wanted)
        print(f"next: {after_pilot(settings, pilot, episodes)}")
    else:
        print(f"next: {train_after(settings, name, episodes)}")


def after_pilot(settings: AnnotateSettings, pilot: Pilot, episodes: Sequence[Episode]) -> str:
    """What a pilot leads to: annotating the rest, a larger pilot where it was too small to tell, or the same one."""
    from semore.annotate.audit.failure_checks import failed_checks, too_few

    asked = carried() | changed(settings, "sample")
    if failed_checks(pilot.audit):
        again = command("annotate", asked | {"sample": settings.sample})
        return f"mend what the warnings name, then {again}"
    if not pilot.left:
        return train_after(settings, settings.knowledge_set, episodes)
    larger = {"sample": LARGER * settings.sample} if too_few(pilot.audit) else {}
    return command("annotate", asked | larger)


if __name__ == "__main__":
    run_command(main)
