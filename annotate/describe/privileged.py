"""The describer that knows the actors' states: exact, instant, and a truth that learned ones are measured against."""

from __future__ import annotations

from annotate.rules import RULES_VERSION, look
from annotate.seams import FrameBatch
from datasets.knowledge_records import Identity, Status, Text


class PrivilegedDescriber:
    """Names the actors that matter and are in view (annotate.rules), nearest first.

    A frame in which nothing relevant is visible is a known empty scene: status OK, no phrases."""

    @property
    def identity(self) -> Identity:
        """Kind and rules version."""
        return {"role": "describer", "kind": "privileged", "rules": RULES_VERSION, "privileged": True}

    def load(self) -> None:
        """Nothing to load."""

    def describe(self, batch: FrameBatch) -> list[Text]:
        """One Text per frame; FAILED only where the recorded ego pose is not a number."""
        scene = look(batch)
        return [
            Text(scene.phrases(frame)) if pose == pose else Text((), Status.FAILED, "the ego's pose is not a number")
            for frame, pose in enumerate(batch.ego[:, 0].tolist())
        ]
