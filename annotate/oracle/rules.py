"""The rules that privileged producers share: which actors matter, and the phrase for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.annotate.interfaces import MAX_PHRASES, FrameBatch
from semore.datasets.rollouts.schema import ACTOR_FIELDS, EGO_FIELDS, KINDS

RULES_VERSION: Final = 1
"""Part of the privileged producers' identity: raise it with every change of a rule below."""

MIN_PIXELS: Final = 4
"""An actor counts as seen from this many pixels of the instance image on."""
PEDESTRIAN_RANGE: Final = 60.0
VEHICLE_RANGE: Final = 100.0
ROADSIDE: Final = 12.0
"""Metres beside the road (the ego's lane and the one to its left) within which a pedestrian is worth naming."""
KERB: Final = 0.3
"""Metres beside the road that still count as on it."""
LYING_ASIDE: Final = 3.0
"""Metres beside the road up to which someone knocked down is said to lie on it."""
MOVING: Final = 0.3
"""Speed (m/s) from which someone walks."""
ABOUT_TO: Final = 3.0
"""Seconds within which someone walking towards the road reaches it."""
DEFAULT_LANE_WIDTH: Final = 3.5

_NOUNS = ("car", "police car", "fire truck", "ambulance", "cyclist", "pedestrian")
_NOUN_OF_KIND = np.array(
    [_NOUNS.index(kind.name) if kind.name in _NOUNS else _NOUNS.index("car") for kind in KINDS], np.int64
)
_PEDESTRIAN = _NOUNS.index("pedestrian")

_ON_FOOT = (
    "{} lying on the road",
    "{} crossing the road",
    "{} standing on the road",
    "{} walking on the road",
    "{} about to cross the road",
    "{} at the roadside",
)
_LYING, _CROSSING, _STANDING, _WALKING, _ABOUT, _ROADSIDE = range(6)
_DRIVING = (
    "{} lying on the road",
    "{} ahead",
    "{} in the left lane",
    "{} in the right lane",
    "{} on the far left",
    "{} on the far right",
    "{} across the road",
    "oncoming {}",
    "oncoming {} with headlights on",
)
_AHEAD, _LEFT, _RIGHT, _FAR_LEFT, _FAR_RIGHT, _ACROSS, _ONCOMING, _ONCOMING_LIT = range(1, 9)

PHRASES: Final[tuple[str, ...]] = tuple(
    relation.format(noun)
    for index, noun in enumerate(_NOUNS)
    for relation in (_DRIVING if index != _PEDESTRIAN else _ON_FOOT)
)
"""Every phrase the privileged describer can say; a code below indexes it."""
CODES: Final[dict[str, int]] = {phrase: code for code, phrase in enumerate(PHRASES)}


@dataclass(frozen=True)
class Scene:
    """Per frame and actor: code (B, A) int64 into PHRASES (−1 = not worth naming), id (B, A) int64, distance (B, A)
    in metres from the ego, place (B, A) in lanes to the right of the one the ego is in."""

    code: NDArray[np.int64]
    id: NDArray[np.int64]
    distance: NDArray[np.float32]
    place: NDArray[np.float32]

    def phrases(self, frame: int) -> tuple[str, ...]:
        """The frame's phrases, nearest first, each once, at most MAX_PHRASES."""
        codes = self.code[frame]
        named = [(distance, code) for distance, code in zip(self.distance[frame], codes, strict=True) if code >= 0]
        return tuple(dict.fromkeys(PHRASES[code] for _, code in sorted(named)))[:MAX_PHRASES]

    def ids(self, frame: int, phrase: str) -> NDArray[np.int64]:
        """The instance ids the phrase stands for in this frame; ValueError when the rules never say it."""
        if phrase not in CODES:
            raise ValueError(f"{phrase!r} is not a phrase of the privileged describer")
        ids: NDArray[np.int64] = self.id[frame][self.code[frame] == CODES[phrase]]
        return ids


@dataclass(frozen=True)
class LaneView:
    """The lane for the way the ego drives, (B, 1) columns: unit direction, ego's offset from the lane's centre (m,
    right positive), width (m), heading error (rad, clockwise); `known` (B,) is False where there is no lane frame:
    then the ego's heading and a default width stand in.

    When the ego drives against its lane's traffic, this is the lane to the right, the one it should be in."""

    dx: NDArray[np.float32]
    dy: NDArray[np.float32]
    offset: NDArray[np.float32]
    width: NDArray[np.float32]
    error: NDArray[np.float32]
    known: NDArray[np.bool_]


def lane_view(ego: NDArray[np.float32]) -> LaneView:
    """The lane of ego rows (B, 17)."""
    columns = {name: ego[:, index : index + 1] for index, name in enumerate(EGO_FIELDS)}
    known: NDArray[np.bool_] = np.isfinite(columns["lane_dx"] + columns["lane_dy"] + columns["lane_offset"])
    known &= np.hypot(columns["lane_dx"], columns["lane_dy"]) > 0  # zeros are no direction
    heading = np.cos(columns["yaw"]), np.sin(columns["yaw"])
    dx = np.where(known, columns["lane_dx"], heading[0])
    dy = np.where(known, columns["lane_dy"], heading[1])
    width = np.where(known & (columns["lane_width"] > 0), columns["lane_width"], DEFAULT_LANE_WIDTH)
    offset = np.where(known, columns["lane_offset"], 0.0)
    against = dx * heading[0] + dy * heading[1] < 0
    dx, dy = np.where(against, -dx, dx), np.where(against, -dy, dy)
    error = np.arctan2(dx * heading[1] - dy * heading[0], dx * heading[0] + dy * heading[1])
    return LaneView(dx, dy, np.where(against, -offset - width, offset), width, error, known[:, 0])


def look(batch: FrameBatch) -> Scene:
    """Classify every actor of every frame (vectorised over both)."""
    actor = {name: batch.actors[:, :, index] for index, name in enumerate(ACTOR_FIELDS)}
    lane = lane_view(batch.ego)
    right, ahead = _beside_and_ahead(batch, actor["x"], actor["y"], lane)
    distance = np.hypot(
        actor["x"] - batch.ego[:, [EGO_FIELDS.index("x")]], actor["y"] - batch.ego[:, [EGO_FIELDS.index("y")]]
    )
    exists = np.isfinite(distance)
    noun = _NOUN_OF_KIND[np.where(exists, actor["kind"], 0).astype(np.int64)]
    on_foot = noun == _PEDESTRIAN
    place = right / lane.width - np.round(lane.offset / lane.width)
    relation = np.where(on_foot, _foot_relation(actor, lane, right), _drive_relation(actor, lane, place))
    reach = np.where(on_foot, PEDESTRIAN_RANGE, VEHICLE_RANGE)
    ids = np.where(exists, actor["id"], 0).astype(np.int64)
    named = exists & (relation >= 0) & (ahead > 0) & (distance <= reach) & (pixels(batch.instance, ids) >= MIN_PIXELS)
    return Scene(np.where(named, noun * len(_DRIVING) + relation, -1), ids, distance, place)


def pixels(instance: NDArray[np.uint16], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """(B, A) pixels of each actor id (B, A) in instance (B, H, W); 0 for id 0."""
    known = np.unique(ids)
    flat = instance.reshape(-1)
    shown = np.flatnonzero(flat)
    values = flat[shown].astype(np.int64)
    column = np.minimum(np.searchsorted(known, values), len(known) - 1)
    ours = known[column] == values
    frame = shown[ours] // max(instance[0].size, 1)
    counts = np.bincount(frame * len(known) + column[ours], minlength=len(instance) * len(known))
    table = counts.reshape(len(instance), len(known))
    found: NDArray[np.int64] = np.take_along_axis(table, np.searchsorted(known, ids), axis=1)
    return np.where(ids > 0, found, 0)


def _beside_and_ahead(
    batch: FrameBatch, x: NDArray[np.float32], y: NDArray[np.float32], lane: LaneView
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Metres right of the ego lane's centre, and metres ahead of the ego along the lane."""
    dx = x - batch.ego[:, [EGO_FIELDS.index("x")]]
    dy = y - batch.ego[:, [EGO_FIELDS.index("y")]]
    return lane.offset + dy * lane.dx - dx * lane.dy, dx * lane.dx + dy * lane.dy


def _foot_relation(
    actor: dict[str, NDArray[np.float32]], lane: LaneView, right: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Relations of pedestrians: the road is the ego's lane and the one to its left (right-hand traffic)."""
    centre = right + 0.5 * lane.width
    beside = np.abs(centre) - lane.width
    sideways = actor["vy"] * lane.dx - actor["vx"] * lane.dy
    approach = -sideways * np.sign(centre)
    on_road = beside <= KERB
    moving = np.hypot(actor["vx"], actor["vy"]) > MOVING
    return np.select(
        [
            (actor["down"] > 0) & (beside <= LYING_ASIDE),
            on_road & (np.abs(sideways) > MOVING),
            on_road & moving,
            on_road,
            (approach > MOVING) & (beside <= ABOUT_TO * approach),
            beside <= ROADSIDE,
        ],
        [_LYING, _CROSSING, _WALKING, _STANDING, _ABOUT, _ROADSIDE],
        -1,
    )


def _drive_relation(
    actor: dict[str, NDArray[np.float32]], lane: LaneView, place: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Relations of vehicles and cyclists by heading and by the lane they are in."""
    along = np.cos(actor["yaw"]) * lane.dx + np.sin(actor["yaw"]) * lane.dy
    return np.select(
        [
            actor["down"] > 0,
            along < -0.5,
            along < 0.5,
            np.abs(place) <= 0.5,
            (place < 0) & (place >= -1.5),
            (place > 0) & (place <= 1.5),
            (place < 0) & (place >= -3.5),
            (place > 0) & (place <= 3.5),
        ],
        [
            np.full(along.shape, _LYING),
            np.where(actor["lights"] > 0, _ONCOMING_LIT, _ONCOMING),
            np.full(along.shape, _ACROSS),
            *(np.full(along.shape, relation) for relation in (_AHEAD, _LEFT, _RIGHT, _FAR_LEFT, _FAR_RIGHT)),
        ],
        -1,
    )
