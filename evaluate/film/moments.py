"""An episode as films show it: what the policy was shown, the truth, its own mask, and its actions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from semore.annotate.interfaces import FrameBatch
from semore.annotate.oracle.describer import PrivilegedDescriber
from semore.annotate.oracle.segmenter import PrivilegedSegmenter
from semore.collect.embedded.world import EmbeddedSimulator
from semore.collect.env import DrivingEnv, Info
from semore.collect.policies import Action, load_policy
from semore.collect.rollout import drive
from semore.collect.simulator import Restorable
from semore.datasets.rollouts.schema import DT, EGO_COLUMN
from semore.evaluate.episodes import RunCourse
from semore.train.run_io import run_settings


@dataclass(frozen=True)
class Moment:
    """One decision of an episode, or its end.

    `rgb` is the camera's picture for people, of any side; `seen` (S, S, 3) uint8 the newest frame that the policy was
    shown, `residual` (S, S) float32 in [0, 1] its largest difference over the channels to the frame before. `known`
    (H, W) bool is the privileged H_ka: the pixels of the actors that the privileged describer names, from the
    simulator's state, which nobody has when acting. `student` (g, g) float32 in [0, 1] is the policy's own mask, None
    where no loss teaches one. `action` is None at the end. `metrics` are the totals so far.
    """

    rgb: NDArray[np.uint8]
    seen: NDArray[np.uint8]
    residual: NDArray[np.float32]
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


Look = Callable[[DrivingEnv], NDArray[np.uint8]]


class Enlarged:
    """Looks at an embedded environment's present moment with a camera of `side` pixels, which changes nothing in it."""

    def __init__(self, side: int) -> None:
        self._simulator = EmbeddedSimulator(side)

    def __call__(self, env: DrivingEnv) -> NDArray[np.uint8]:
        return self._simulator.restore(cast(Restorable, env.simulator).save()).images.rgb


def teaches_mask(run: Path) -> bool:
    """Whether a loss taught the run's policy a mask, as far as is known: a policy may lie there without its run."""
    return (run / "settings.json").exists() and run_settings(run).agent.teaches_mask


def record(course: RunCourse, seed: int, taught: bool, look: Look = DrivingEnv.render) -> list[Moment]:
    """Drive `seed` with the trained policy and keep every decision, the end included; `taught` says whether its mask is
    worth a look."""
    policy = load_policy(course.run)
    (env,) = course.envs(1)
    moments: list[Moment] = []

    def begin(*_: Any) -> None:
        moments.clear()  # of an attempt whose simulator was lost

    def watch(_: int, observation: NDArray[np.uint8], action: Action | None, info: Info) -> None:
        student = None
        if taught:
            student = (policy.student_mask(observation[None]) if action is None else policy.last_mask)[0]
        moments.append(_moment(look(env), env.render(), observation, student, action, info))

    with closing(env):
        list(drive([env], policy, [seed], begin, watch))
    return moments


def _moment(
    rgb: NDArray[np.uint8],
    recorded: NDArray[np.uint8],
    observation: NDArray[np.uint8],
    student: NDArray[np.float32] | None,
    action: Action | None,
    info: Info,
) -> Moment:
    """The privileged producers look at the moment as they would at a recorded frame."""
    ego = info["ego"]
    unkeyed = np.zeros((1, 16), np.uint8)
    truth = (info[name][None] for name in ("semantic", "instance", "actors", "ego"))
    frame = FrameBatch(recorded[None], unkeyed, unkeyed, *truth)
    (text,) = PrivilegedDescriber().describe(frame)
    masks = PrivilegedSegmenter().segment(frame, [text.phrases])
    known = (masks > 0).sum(0) > 0  # of no masks: nowhere
    speed = float(np.hypot(ego[EGO_COLUMN["vx"]], ego[EGO_COLUMN["vy"]]))
    before, newest = observation[-6:-3], observation[-3:]
    residual = np.abs(newest.astype(np.float32) - before).max(0) / 255
    seen, totals = newest.transpose(1, 2, 0), dict(info["metrics"])
    return Moment(rgb, seen, residual, known, student, text.phrases, speed, action, totals)
