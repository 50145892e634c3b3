"""The privileged describer: it reads the actors' states and is exact and instant."""

from __future__ import annotations

from semore.annotate.interfaces import FrameBatch
from semore.annotate.oracle.presence import missing_state, without_state
from semore.annotate.oracle.rules import RULES_VERSION, look
from semore.datasets.knowledge.records import Identity, Status, Text


class PrivilegedDescriber:
    """Names the actors that matter and are in view (annotate.oracle.rules), nearest first.

    A frame in which nothing relevant is visible is a known empty scene: status OK, no phrases. A frame without recorded
    state is none: FAILED."""

    @property
    def identity(self) -> Identity:
        """Kind and rules version."""
        return {"role": "describer", "kind": "privileged", "rules": RULES_VERSION, "privileged": True}

    def load(self) -> None:
        """Nothing to load."""

    def describe(self, batch: FrameBatch) -> list[Text]:
        """One Text per frame; FAILED only where the recorded state is missing (annotate.oracle.presence)."""
        missing = missing_state(batch)
        if all(missing):
            return [_failed(lack) for lack in missing]
        scene = look(batch)
        return [_failed(lack) if lack else Text(scene.phrases(frame)) for frame, lack in enumerate(missing)]


def _failed(lack: str) -> Text:
    return Text((), Status.FAILED, without_state(lack, "describer", "qwen2-vl or endpoint"))
