"""The privileged judge: from speeds and distances it says whether an action is reasonable (method.md §6.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.annotate.interfaces import FrameBatch, Verdict
from semore.annotate.oracle.presence import missing_state, without_state
from semore.annotate.oracle.rules import LaneView, lane_view
from semore.datasets.action_text import PEDALS, parse_words
from semore.datasets.knowledge.records import Identity, Status
from semore.datasets.rollouts.schema import ACTOR_FIELDS, EGO_FIELDS, KINDS

JUDGE_VERSION: Final = 1

BRAKING: Final = 6.0
"""Deceleration (m/s²) the judge counts on."""
MARGIN: Final = 4.0
"""Metres to keep to an obstacle once stopped."""
REACTION: Final = 0.3
HORIZON: Final = 1.0
"""Seconds ahead in which an actor may step into the path, or the ego leave its lane."""
SIDE_MARGIN: Final = 0.3
SLOW: Final = 3.0
"""Below this speed (m/s) braking needs a reason."""
STEER_CURVATURE: Final = 0.04
"""Path curvature (1/m) that the words "steer left/right" are taken to mean, capped at MAX_TURN rad/s."""
MAX_TURN: Final = 0.6


class PrivilegedJudge:
    """1 unless the action drives at an obstacle within braking distance, brakes for nothing when slow, or steers or
    drives on out of the lane; 255 where the ego has no lane frame, and (failed) where no state was recorded."""

    @property
    def identity(self) -> Identity:
        """Kind and rules version."""
        return {"role": "judge", "kind": "privileged", "rules": JUDGE_VERSION, "privileged": True}

    def load(self) -> None:
        """Nothing to load."""

    def judge(self, batch: FrameBatch, actions: Sequence[str]) -> list[Verdict]:
        """One Verdict per frame; ValueError for words that are no action."""
        missing = missing_state(batch)
        codes = np.array([parse_words(words) for words in actions], np.int64).reshape(-1, 2)
        if all(missing):
            return [_failed(lack) for lack in missing]
        steer, pedal = codes[:, 0] - 1, codes[:, 1]
        lane = lane_view(batch.ego)
        speed = _forward_speed(batch.ego)
        near, ahead = _obstacles(batch, speed)
        into = near & (pedal != PEDALS.index("brake"))
        idle = ~ahead & (speed < SLOW) & (pedal == PEDALS.index("brake"))
        bad = into | idle | _leaves_lane(lane, speed, steer, pedal)
        return [
            _failed(lack) if lack else
            Verdict(0 if wrong else 1) if known else
            Verdict.invalid("the ego is on no driving lane")
            for wrong, known, lack in zip(bad.tolist(), lane.known.tolist(), missing, strict=True)
        ]  # fmt: skip


def _failed(lack: str) -> Verdict:
    return Verdict.invalid(without_state(lack, "judge", "qwen2-vl, endpoint or none"), Status.FAILED)


def _forward_speed(ego: NDArray[np.float32]) -> NDArray[np.float32]:
    yaw, vx, vy = (ego[:, EGO_FIELDS.index(name)] for name in ("yaw", "vx", "vy"))
    speed: NDArray[np.float32] = vx * np.cos(yaw) + vy * np.sin(yaw)
    return speed


def _obstacles(batch: FrameBatch, speed: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(B,) bool each: an actor in the ego's path within braking distance; one within twice that and 10 m more."""
    actor = {name: batch.actors[:, :, index] for index, name in enumerate(ACTOR_FIELDS)}
    x, y, yaw = (batch.ego[:, [EGO_FIELDS.index(name)]] for name in ("x", "y", "yaw"))
    forward, right = (np.cos(yaw), np.sin(yaw)), (-np.sin(yaw), np.cos(yaw))
    dx, dy = actor["x"] - x, actor["y"] - y
    along, beside = dx * forward[0] + dy * forward[1], dx * right[0] + dy * right[1]
    lead = actor["vx"] * forward[0] + actor["vy"] * forward[1]
    across = actor["vx"] * right[0] + actor["vy"] * right[1]
    turned = np.abs(np.sin(actor["yaw"] - yaw))
    half_length = 0.5 * ((1 - turned) * actor["length"] + turned * actor["width"])
    half_width = 0.5 * ((1 - turned) * actor["width"] + turned * actor["length"])
    ours = KINDS[0]
    gap = along - half_length - 0.5 * ours.length
    reach = half_width + 0.5 * ours.width + SIDE_MARGIN
    # the soonest and the latest sideways place within the horizon: the path is blocked if any lies inside it
    later = beside + across * HORIZON
    blocked = (np.minimum(beside, later) < reach) & (np.maximum(beside, later) > -reach) & (along > 0)
    blocked &= actor["id"] > 0
    closing = np.maximum(speed, 0)[:, None]
    need = (closing**2 - np.maximum(lead, 0) ** 2) / (2 * BRAKING) + REACTION * np.maximum(closing - lead, 0) + MARGIN
    near = (blocked & (gap < need)).any(1)
    ahead = (blocked & (gap < 2 * np.maximum(need, 0) + 10)).any(1)
    return near, ahead


def _leaves_lane(
    lane: LaneView, speed: NDArray[np.float32], steer: NDArray[np.int64], pedal: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """(B,) bool: within HORIZON the ego's centre is beyond the lane's edge and farther out than now, and the action
    steers that way, or goes straight on without braking."""
    turn = steer * np.minimum(np.abs(speed) * STEER_CURVATURE, MAX_TURN)
    offset, error, edge = lane.offset[:, 0], lane.error[:, 0], 0.5 * lane.width[:, 0]
    later = offset + np.maximum(speed, 0) * HORIZON * np.sin(error + 0.5 * turn * HORIZON)
    onward = (steer == np.sign(later)) | ((steer == 0) & (pedal != PEDALS.index("brake")))
    out: NDArray[np.bool_] = onward & (np.abs(later) > edge) & (np.abs(later) > np.abs(offset) + 0.1)
    return out
