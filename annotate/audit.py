"""Measure a knowledge set against the simulator's truth: how good H_ka is, where it fails, and whether it looks broken.

`python -m annotate.audit` prints tables, and writes audit.json and a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import auto_cli, set_parsing_settings
from rich.console import Console

from annotate.audit_frames import read_frames, spread, survey
from annotate.audit_measure import Audit, count
from annotate.audit_report import show, to_json
from annotate.audit_sheet import sheet_rows
from annotate.contact_sheet import draw_contact_sheet
from datasets.errors import SemoreError
from datasets.files import write_json
from datasets.knowledge import KnowledgeCache, KnowledgeSet, open_set
from datasets.progress import meter
from datasets.rollouts import Episode, Rollouts, rollouts_path
from datasets.settings import run_command


def audit_knowledge(
    knowledge: KnowledgeSet,
    episodes: Sequence[Episode],
    frames: int | None = None,
    threshold: float = 0.5,
    quiet: bool = False,
) -> Audit:
    """Compare a knowledge set with the truth on `frames` (None: all) of the described frames of these episodes.

    Shows its progress unless `quiet`; only one episode is in memory at a time. SemoreError when nothing is described,
    or the camera sizes differ.
    """
    if not 0 <= threshold < 1:
        raise SemoreError(f"threshold is {threshold}; masks are in [0, 1], so choose one of at least 0 and below 1")
    knowledge.cache.refresh()
    described, texts = survey(knowledge, episodes)
    if not any(map(len, described)):
        raise SemoreError(
            f"knowledge set {knowledge.name!r} describes none of {texts.total():,} frames; run `make annotate` first"
        )
    audit = Audit(knowledge.name, threshold, texts)
    chosen = spread(described, frames)
    progress = None if quiet else meter("audit", sum(map(len, chosen)), "frames")
    with progress or nullcontext() as shown:
        for episode, rows in zip(episodes, chosen, strict=True):
            for part in read_frames(knowledge, episode, rows):
                count(audit, part)
                if shown is not None:
                    shown.advance(len(part.rows))
    return audit


@dataclass(frozen=True)
class AuditSettings:
    """Which knowledge set to measure, on which rollouts."""

    preset: str = "laptop"
    """Names the rollouts folder when `rollouts` does not."""
    scenario: str = "JayWalk"
    """JayWalk, HighBeam or HighWay; with `preset` it names the rollouts folder."""
    data: str = "data"
    """Folder of all recorded data; the cache is <data>/knowledge."""
    rollouts: str = ""
    """Name of the rollouts folder under <data>/rollouts, or a path ending in .zarr; default <scenario>-<preset>."""
    knowledge: str = "privileged"
    """Name of the knowledge set."""
    frames: int = 2000
    """Described frames to compare, spread over the episodes; 0: all."""
    threshold: float = 0.5
    """A pixel is in H_ka above this; CRIS's own is 0.35."""
    sheet: str = ""
    """The contact sheet's path; default beside audit.json, in <data>/knowledge/audits/<knowledge>."""
    rows: int = 12
    """Frames on the contact sheet."""


def main() -> None:
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    settings: AuditSettings = auto_cli(
        AuditSettings, as_positional=False, prog="python -m annotate.audit", description=__doc__
    )
    if settings.frames < 0 or settings.rows < 1:
        raise SemoreError(f"frames {settings.frames} must be at least 0 and rows {settings.rows} at least 1")
    cache = KnowledgeCache(Path(settings.data) / "knowledge")
    knowledge = open_set(cache, settings.knowledge)
    folder = rollouts_path(settings.data, settings.rollouts, settings.scenario, settings.preset)
    episodes = list(Rollouts(folder).episodes())
    audit = audit_knowledge(knowledge, episodes, settings.frames or None, settings.threshold)
    out = cache.root / "audits" / knowledge.name
    sheet = Path(settings.sheet) if settings.sheet else out / "contact_sheet.png"
    write_json(out / "audit.json", {"rollouts": str(folder), **to_json(audit)})
    iou = audit.overall.iou
    score = f"IoU {iou:.2f}" if iou == iou else "nothing to compare"
    title = f"Knowledge “{knowledge.name}” on {folder.stem}: {score}"
    draw_contact_sheet(sheet, sheet_rows(knowledge, episodes, audit, settings.rows), title)
    show(audit, Console())
    print(f"written: {out / 'audit.json'}\nlook at: {sheet}")
    print("next: mend what the warnings name, then `make annotate`" if audit.signatures else "next: make train")


if __name__ == "__main__":
    run_command(main)
