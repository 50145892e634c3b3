"""The pilot: a sample's speed, cost of the rest, mask quality and contact sheet, before a long pass is started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from semore.annotate.audit.knowledge import audit_knowledge, write_audit
from semore.annotate.audit.measure import Audit
from semore.annotate.audit.report import show
from semore.annotate.scheduling.cost_estimate import forecast
from semore.annotate.scheduling.plan import Wanted, make_plan
from semore.datasets.knowledge.cache import KnowledgeSet
from semore.datasets.rollouts.store import Episode

ROWS = 10
"""Frames on the contact sheet."""


class Pilot(NamedTuple):
    """What a pilot has found: the audit, and how many frames are left."""

    audit: Audit
    left: int


def report_pilot(knowledge: KnowledgeSet, folder: Path, episodes: Sequence[Episode], wanted: Wanted) -> Pilot:
    """Print the cost of the `wanted` frames that are left, at the rate just measured, and the audit of what is
    annotated so far; write the audit's contact sheet."""
    console = Console(highlight=False, soft_wrap=True)
    rest = make_plan(knowledge, episodes, retry_failed=True, wanted=wanted)
    console.print(f"the rest: {forecast(rest, knowledge.manifest, knowledge.cache)}")
    audit = audit_knowledge(knowledge, episodes, quiet=True)
    _, sheet = write_audit(audit, knowledge, folder, episodes, ROWS)
    show(audit, console)
    console.print(f"look at: {sheet}")
    return Pilot(audit, rest.todo)
