"""The cost of annotating: frames, time, memory and disk, from the speed and sizes measured before."""

from __future__ import annotations

from typing import Final

from semore.annotate.scheduling.plan import Plan
from semore.datasets.knowledge.cache import KnowledgeCache, SetManifest
from semore.datasets.knowledge.level import COMMIT_RECORDS
from semore.datasets.knowledge.rates import GUESSED_PHRASES, bytes_per_record, duration, seconds_per_frame

GUESSED_SECONDS: Final = 0.003
"""Per frame, before anything was measured: about right for the small producers."""
BYTES_PER_PIXEL: Final = 7
"""rgb, semantic, instance and one mask, while an episode is worked on."""


def forecast(plan: Plan, manifest: SetManifest, cache: KnowledgeCache, workers: int = 1) -> str:
    """The cost in one line: frames, cached, to do, time on so many workers, memory of each, disk."""
    line = f"{plan.frames:,} frames, {plan.frames - plan.todo:,} known or repeated"
    if not plan.todo:
        return f"{line}: nothing to do"
    described = plan.frames - plan.texts
    per_frame = plan.phrases.total() / described if described and plan.phrases else GUESSED_PHRASES
    masks = plan.masks + round(plan.texts * per_frame)
    measured = seconds_per_frame(cache.root, manifest)
    seconds = plan.todo * (measured or GUESSED_SECONDS) / workers
    side = int(plan.parts[0].episode.attributes.get("camera", 128))
    longest = max(part.episode.steps + 1 for part in plan.parts)
    memory = (2 * COMMIT_RECORDS + longest * BYTES_PER_PIXEL) * side * side
    disk = (plan.texts + masks + plan.verdicts) * bytes_per_record(cache.levels)
    return (
        f"{line}, {plan.todo:,} to do: {plan.texts:,} texts, about {masks:,} masks, {plan.verdicts:,} verdicts; "
        f"{'at the rate measured last' if measured else 'about'} {duration(seconds)} on {workers} "
        f"worker{'s' if workers > 1 else ''}, {memory / 1e6:,.0f} MB of memory each beside the models, about "
        f"{max(disk / 1e6, 0.1):,.1f} MB of disk"
    )
