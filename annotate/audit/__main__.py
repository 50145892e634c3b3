"""Measure a knowledge set against the simulator's truth: how good H_ka is, where it fails, and whether it looks broken.

`semore audit` prints tables, and writes audit.json and a contact sheet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from semore.annotate.annotate_hint import annotate_command, annotated, train_after
from semore.datasets.command_line import read_settings
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.cache import KnowledgeCache
from semore.datasets.knowledge.choice import chosen_set
from semore.datasets.rollouts.recorded import recorded
from semore.datasets.run_command import run_command


@dataclass(frozen=True)
class AuditSettings:
    """Which knowledge set to measure, on which rollouts."""

    preset: str = "laptop"
    """Names the rollouts folder when `rollouts` does not."""
    scenario: str = "JayWalk"
    """JayWalk, HighBeam or HighWay; with `preset` it names the rollouts folder."""
    simulator: str = "embedded"
    """The world of the recordings, as in `collect`: part of the folder's default name."""
    data: str = "data"
    """Folder of all recorded data; the cache is <data>/knowledge."""
    rollouts: str = ""
    """Name of the rollouts folder under <data>/rollouts, or a path ending in .zarr; default <scenario>-<preset>."""
    knowledge: str = ""
    """Name of the knowledge set; default the one that `annotate` makes, or the only one."""
    frames: int = 2000
    """Described frames to compare, spread over the episodes; 0: all."""
    threshold: float = 0.5
    """A pixel is in H_ka above this; CRIS's own is 0.35."""
    sheet: str = ""
    """The contact sheet's path; default beside audit.json, in <data>/knowledge/audits/<knowledge>/<rollouts>."""
    rows: int = 12
    """Frames on the contact sheet."""


def main() -> None:
    settings = read_settings(AuditSettings, "audit")
    if settings.frames < 0 or settings.rows < 1:
        raise SemoreError(f"frames {settings.frames} must be at least 0 and rows {settings.rows} at least 1")
    cache = KnowledgeCache(Path(settings.data) / "knowledge")
    rollouts = recorded(settings)
    folder, episodes = rollouts.path, list(rollouts.episodes())
    knowledge = annotated(settings, cache, chosen_set(settings.data, settings.knowledge, settings.preset))
    again = annotate_command(settings, knowledge.name)
    from semore.annotate.audit.failure_checks import failed_checks
    from semore.annotate.audit.knowledge import audit_knowledge, write_audit
    from semore.annotate.audit.report import show

    audit = audit_knowledge(knowledge, episodes, settings.frames or None, settings.threshold, remedy=again)
    written, sheet = write_audit(audit, knowledge, folder, episodes, settings.rows, settings.sheet)
    show(audit, Console())
    print(f"written: {written}\nlook at: {sheet}")
    if audit.without == audit.frames:
        ((reason, count),) = audit.reasons.most_common(1)
        raise SemoreError(
            f"none of {audit.frames:,} frames has knowledge; {count:,} times: {reason}. Mend that, then `{again}`"
        )
    if failed_checks(audit):
        print(f"next: mend what the warnings name, then {again}")
    else:
        print(f"next: {train_after(settings, knowledge.name, episodes)}")


if __name__ == "__main__":
    run_command(main)
