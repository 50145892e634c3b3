"""An episode as people watch it: what the policy was shown, what mattered in truth, what it saw and what it did."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotate.describe.privileged import PrivilegedDescriber
from annotate.seams import FrameBatch
from annotate.segment.privileged import PrivilegedSegmenter
from collect.behaviour import Action, load_policy
from collect.driving import Info
from collect.episodes import drive
from datasets.files import read_json
from datasets.schema import DT, EGO_COLUMN
from evaluate.episodes import RunCourse


@dataclass(frozen=True)
class Moment:
    """One decision of an episode, or its end.

    `known` (H, W) bool is the privileged H_ka: the pixels of the actors that the privileged describer names, from the
    simulator's state, which nobody has when acting. `student` (g, g) float32 in [0, 1] is the policy's own mask, None
    where no loss teaches one. `action` is None at the end. `metrics` are the totals so far.
    """

    rgb: NDArray[np.uint8]
    known: NDArray[np.bool_]
    student: NDArray[np.float32] | None
    phrases: tuple[str, ...]
    speed: float
    action: Action | None
    metrics: dict[str, Any]

    @property
    def seconds(self) -> float:
        """Simulated time since the start of the episode."""
        return float(self.metrics["steps"]) * DT


def record(course: RunCourse, seed: int) -> list[Moment]:
    """Drive `seed` with the trained policy and keep every decision, the end included."""
    policy = load_policy(course.run)
    taught = read_json(course.run / "settings.json")["settings"]["agent"]["semantic_weight"] > 0
    (env,) = course.envs(1)
    moments: list[Moment] = []

    def begin(*_: Any) -> None:
        moments.clear()  # of an attempt whose simulator was lost

    def watch(_: int, observation: NDArray[np.uint8], action: Action | None, info: Info) -> None:
        student = policy.student_mask(observation[None])[0] if taught else None
        moments.append(_moment(env.render(), student, action, info))

    with closing(env):
        list(drive([env], policy, [seed], begin, watch))
    return moments


def _moment(rgb: NDArray[np.uint8], student: NDArray[np.float32] | None, action: Action | None, info: Info) -> Moment:
    """The privileged producers look at the moment as they would at a recorded frame."""
    ego = info["ego"]
    unkeyed = np.zeros((1, 16), np.uint8)
    frame = FrameBatch(
        rgb[None], unkeyed, unkeyed, info["semantic"][None], info["instance"][None], info["actors"][None], ego[None]
    )
    (text,) = PrivilegedDescriber().describe(frame)
    masks = PrivilegedSegmenter().segment(frame, [text.phrases])
    known = (masks > 0).sum(0) > 0  # of no masks: nowhere
    speed = float(np.hypot(ego[EGO_COLUMN["vx"]], ego[EGO_COLUMN["vy"]]))
    return Moment(rgb, known, student, text.phrases, speed, action, dict(info["metrics"]))
