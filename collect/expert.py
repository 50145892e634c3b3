"""The rule-based expert: it sees the simulator's state, keeps its lane, and picks a way ahead without a hit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.camera import Sight, boxes
from semore.datasets.rollouts.schema import ACTOR_COLUMN as ACTOR
from semore.datasets.rollouts.schema import EGO_COLUMN as EGO
from semore.datasets.rollouts.schema import KIND_INDEX, KINDS

Floats = NDArray[np.float64]

CRUISE: Final = 20.0
"""Speed on a free road in m/s."""
FAST: Final = 25.0
"""The car's top speed in m/s."""

_LENGTH, _WIDTH = KINDS[KIND_INDEX["sedan"]].length, KINDS[KIND_INDEX["sedan"]].width
_TICK: Final = 0.2  # s
_HORIZON: Final = np.arange(1, 16) * _TICK  # s looked ahead
_PACES: Final = (
    1.0,
    0.9,
    0.8,
    0.7,
    0.6,
    0.55,
    0.5,
    0.45,
    0.4,
    0.35,
    0.3,
    0.2,
    0.1,
)  # shares of the cruising speed it chooses from, besides the next
_CRAWL: Final = (1.0, 0.3, 0.0)  # m/s; standing still at a hundredth step counts as stuck
_SIDES: Final = (0.0, -0.5, 0.5, -1.0, 1.0)  # shares of the room beside the lane's centre it chooses from
_EDGE = 0.9  # m kept between the middle of the car and the edge of the lane: no squeezing past cyclists
_SWERVE = 1.4  # 1/s, how fast it gets to another side
_PULL, _BRAKE = 3.5, 7.0  # m/s² it counts on
_ROOM_AHEAD, _ROOM_BESIDE = 1.0, 0.4  # m within which a near miss begins to count
_HIT, _HIT_SPEED = 60.0, 5.0  # m of progress a hit is worth, and per m/s it happens at


class Expert:
    """The rule-based expert. It is privileged: it reads the simulator's state.

    It weighs speeds and sides of its lane by where they lead within 3 s if all others go on as they move now, and takes
    the cheapest. `cruise` is its speed on a free road (m/s). With `noise` > 0 the cruising speed is drawn per episode,
    and coloured noise of this scale is added to the action. With `careful` false it ignores all actors, with a `sight`
    those whom a camera would not show: they might as well not be there."""

    def __init__(
        self,
        generator: np.random.Generator,
        noise: float = 0.0,
        careful: bool = True,
        cruise: float = CRUISE,
        sight: Sight | None = None,
    ) -> None:
        self._generator, self._careful, self._sight = generator, careful, sight
        self._scale = noise * generator.random() if noise else 0.0
        self._cruise = generator.uniform(8.0, 23.0) if noise else cruise
        self._noise = np.zeros(2)
        self._lane: tuple[float, float, float] | None = None  # x, y, heading where the bend was last measured
        self._bend = 0.0

    def __call__(self, info: Mapping[str, Any]) -> NDArray[np.float32]:
        """Steer and pedal, (2,) float32 in [−1, 1], from an info of DrivingEnv."""
        ego: Floats = info["ego"].astype(np.float64)
        if not math.isfinite(ego[EGO["lane_dx"]]):
            return np.array([0.0, -1.0], np.float32)
        dx, dy, offset, heading = own_lane(ego)
        self._measure_bend(ego, dx, dy)
        speed = math.hypot(ego[EGO["vx"]], ego[EGO["vy"]])
        target, side = self._cruise, 0.0
        if self._careful and len(info["actors"]):
            actors: Floats = info["actors"].astype(np.float64)
            if self._sight is not None:
                actors = actors[self._sight.seen(ego, actors)]
            others = _others(ego, actors, dx, dy, offset, self._bend)
            target, side = _choose(self._cruise, speed, offset, float(ego[EGO["lane_width"]]), others)
        pedal = np.clip(0.8 * (target - speed), -1.0, 1.0)
        steer = np.clip(-0.10 * (offset - side) - (1.2 if speed < 12.0 else 1.0) * heading, -0.6, 0.6)
        self._noise = 0.85 * self._noise + self._scale * self._generator.normal(size=2) * (0.25, 1.0)
        return np.clip(np.array([steer, pedal]) + self._noise, -1.0, 1.0).astype(np.float32)

    def _measure_bend(self, ego: Floats, dx: float, dy: float) -> None:
        """Curvature of the lane (1/m, positive to the right), from how its direction has changed over the last
        metre."""
        x, y, heading = ego[EGO["x"]], ego[EGO["y"]], math.atan2(dy, dx)
        if self._lane is None:
            self._lane = (x, y, heading)
        way = math.hypot(x - self._lane[0], y - self._lane[1])
        if way > 1.0:
            self._bend = min(0.02, max(-0.02, _wrap(heading - self._lane[2]) / way))
            self._lane = (x, y, heading)


def own_lane(ego: Floats) -> tuple[float, float, float, float]:
    """Direction, offset (m) and heading error (rad) relative to the lane that the ego should be in. If it faces an
    oncoming lane, that is the next lane to the right."""
    dx, dy = float(ego[EGO["lane_dx"]]), float(ego[EGO["lane_dy"]])
    offset = float(ego[EGO["lane_offset"]])
    heading = _wrap(float(ego[EGO["yaw"]]) - math.atan2(dy, dx))
    if abs(heading) > math.pi / 2:
        dx, dy, heading = -dx, -dy, _wrap(heading + math.pi)
        offset = -offset - float(ego[EGO["lane_width"]])
    return dx, dy, offset, heading


def _others(ego: Floats, actors: Floats, dx: float, dy: float, offset: float, bend: float) -> Floats:
    """(N, 6) everybody near: metres ahead of the ego and right of the lane's centre (the lane straightened), velocity
    in the same frame, half extents in it."""
    rx, ry = actors[:, ACTOR["x"]] - ego[EGO["x"]], actors[:, ACTOR["y"]] - ego[EGO["y"]]
    vx, vy = actors[:, ACTOR["vx"]], actors[:, ACTOR["vy"]]
    ahead, side = rx * dx + ry * dy, ry * dx - rx * dy
    along, across = vx * dx + vy * dy, vy * dx - vx * dy
    turn = bend * ahead  # how far the lane's direction has turned there
    side, across = side - turn * ahead / 2 + offset, across - turn * along
    length, width, _ = boxes(actors)
    cos = np.abs(np.cos(actors[:, ACTOR["yaw"]] - math.atan2(dy, dx) - turn))
    sin = np.sqrt(1.0 - cos**2)
    extents = (length * cos + width * sin) / 2, (length * sin + width * cos) / 2
    near = (ahead > -25.0) & (ahead < 100.0) & (np.abs(side) < 25.0)
    table: Floats = np.stack([ahead, side, along, across, *extents], 1)[near]
    return table


def _choose(cruise: float, speed: float, offset: float, lane_width: float, others: Floats) -> tuple[float, float]:
    """Speed (m/s) and offset from the lane's centre (m) to aim at."""
    room = max(0.0, lane_width / 2 - _EDGE)
    choices = np.concatenate([np.array(_PACES) * cruise, _CRAWL])
    paces = np.repeat(choices, len(_SIDES))[:, None]
    sides = np.tile(np.array(_SIDES) * room, len(choices))[:, None]
    # Where each choice leads: (choices, times).
    faster = np.minimum(np.maximum(paces, speed), speed + _PULL * _HORIZON)
    slower = np.maximum(np.minimum(paces, speed), speed - _BRAKE * _HORIZON)
    pace = np.where(paces > speed, faster, slower)
    way = np.cumsum(pace, axis=1) * _TICK
    side = sides + (offset - sides) * np.exp(-_SWERVE * _HORIZON * min(1.0, speed / 8.0))
    x = others[:, 0, None] + others[:, 2, None] * _HORIZON
    y = others[:, 1, None] + others[:, 3, None] * _HORIZON
    ahead = np.abs(way[:, None] - x) - _LENGTH / 2 - others[:, 4, None]
    beside = np.abs(side[:, None] - y) - _WIDTH / 2 - others[:, 5, None]
    hit = np.clip(1.0 - ahead / _ROOM_AHEAD, 0.0, 1.0) * np.clip(1.0 - beside / _ROOM_BESIDE, 0.0, 1.0) ** 2
    # The later a hit would come, the more can still happen before; pushing somebody along counts on.
    worth = hit * ((_HIT + _HIT_SPEED * pace) * np.linspace(1.0, 0.4, len(_HORIZON)))[:, None]
    cost = (worth.max(axis=2) + worth.mean(axis=2)).sum(axis=1)
    cost -= way[:, -1]
    cost += 2.0 * np.abs(sides[:, 0]) + 0.5 * np.abs(sides[:, 0] - offset)
    best = int(np.argmin(cost))
    return float(paces[best, 0]), float(sides[best, 0])


def _wrap(angle: float) -> float:
    return (angle + math.pi) % (2.0 * math.pi) - math.pi
