"""The audit of a knowledge set: frames compared with the simulator's truth, and the files it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from semore.annotate.audit.contact_sheet import draw_contact_sheet
from semore.annotate.audit.frames import read_frames, spread, survey
from semore.annotate.audit.measure import Audit, count
from semore.annotate.audit.report import to_json
from semore.annotate.audit.sheet import sheet_rows
from semore.datasets.atomic_io import write_json
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.cache import KnowledgeSet
from semore.datasets.progress import meter
from semore.datasets.rollouts.store import Episode


def audit_knowledge(
    knowledge: KnowledgeSet,
    episodes: Sequence[Episode],
    frames: int | None = None,
    threshold: float = 0.5,
    quiet: bool = False,
    remedy: str = "",
) -> Audit:
    """Compare a knowledge set with the truth on `frames` (None: all) of the described frames of these episodes.

    Shows its progress unless `quiet`; only one episode is in memory at a time. SemoreError when nothing is described,
    with the command that is the `remedy` where it is known, or when the camera sizes differ.
    """
    if not 0 <= threshold < 1:
        raise SemoreError(f"threshold is {threshold}; masks are in [0, 1], so choose one of at least 0 and below 1")
    knowledge.cache.refresh()
    described, texts = survey(knowledge, episodes)
    if not any(map(len, described)):
        raise SemoreError(
            f"knowledge set {knowledge.name!r} describes none of {texts.total():,} frames; annotate them first"
            + (f": `{remedy}`" if remedy else "")
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


def write_audit(
    audit: Audit, knowledge: KnowledgeSet, folder: Path, episodes: Sequence[Episode], rows: int, sheet: str = ""
) -> tuple[Path, Path]:
    """Write audit.json and the contact sheet of `rows` frames (at `sheet`, default beside it) for a rollouts folder;
    returns both paths."""
    out = knowledge.cache.root / "audits" / knowledge.name / folder.stem
    picture = Path(sheet) if sheet else out / "contact_sheet.png"
    write_json(out / "audit.json", {"rollouts": str(folder), **to_json(audit)})
    iou = audit.overall.iou
    score = f"IoU {iou:.2f}" if iou == iou else "nothing to compare"
    title = f"Knowledge “{knowledge.name}” on {folder.stem}: {score}"
    draw_contact_sheet(picture, sheet_rows(knowledge, episodes, audit, rows), title)
    return out / "audit.json", picture
