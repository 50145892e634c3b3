"""The ego's camera: where it is, how wide it sees, and how tall others stand in its picture (method.md §2.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.datasets.rollouts.schema import ACTOR_COLUMN as ACTOR
from semore.datasets.rollouts.schema import EGO_COLUMN as EGO
from semore.datasets.rollouts.schema import KIND_INDEX

Floats = NDArray[np.float64]

AHEAD: Final = 1.0
"""m in front of the ego's origin."""
HEIGHT: Final = 1.5
"""m above it."""
FIELD_OF_VIEW: Final = 60.0
"""Degrees, across and upright: pictures are square."""
TAN: Final = math.tan(math.radians(FIELD_OF_VIEW / 2))
"""Half of the field of view: m to the side, or up, per m of depth."""

_FEET: Final = HEIGHT / TAN  # m of depth from which on the ground is in the picture
_CLOSE: Final = 0.01  # m: no depth is smaller, so that nothing is divided by 0
_WALKER: Final = KIND_INDEX["pedestrian"]
_CORNERS: Final = np.array([[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]]) / 2  # shares of length and of width


@dataclass(frozen=True)
class Sight:
    """How small somebody may be in the ego's picture and still be seen.

    Only sizes count: that others, houses or the night may hide somebody is left out, and whoever is seen is seen
    exactly, place and velocity."""

    size: int
    """Side of the picture in pixels."""
    pixels: float
    """Who stands less tall than this in it is not seen (0: who is in the picture is)."""

    def seen(self, ego: Floats, actors: Floats) -> NDArray[np.bool_]:
        """Which of `actors` (A, 14) the ego (17,) sees, (A,) bool; columns as in schema.ACTOR_FIELDS and EGO_FIELDS."""
        tall = pixels_tall(ego, actors, self.size)
        return (tall > 0.0) & (tall >= self.pixels)


def pixels_tall(ego: Floats, actors: Floats, size: int) -> Floats:
    """How many pixels tall each of `actors` (A, 14) stands in the picture of `size`² pixels that the ego (17,) has,
    (A,): of its box, what is between the picture's upper and lower edge, as near as it comes; 0 for who is beside the
    picture or behind the camera. A person of 1.8 m has about 1.56 · size / depth in m."""
    length, width, height = boxes(actors)
    cos, sin = math.cos(ego[EGO["yaw"]]), math.sin(ego[EGO["yaw"]])
    x, y = actors[:, ACTOR["x"]] - ego[EGO["x"]], actors[:, ACTOR["y"]] - ego[EGO["y"]]
    turn = (actors[:, ACTOR["yaw"]] - ego[EGO["yaw"]])[:, None]
    along, across = length[:, None] * _CORNERS[0], width[:, None] * _CORNERS[1]
    # Of the box's four corners, (A, 4): metres into the picture, and to the right of its middle.
    depth = (x * cos + y * sin - AHEAD)[:, None] + along * np.cos(turn) - across * np.sin(turn)
    right = (y * cos - x * sin)[:, None] + along * np.sin(turn) + across * np.cos(turn)
    ahead, left_edge, right_edge = depth > 0.0, right >= -TAN * depth, right <= TAN * depth
    inside = ahead.any(1) & left_edge.any(1) & right_edge.any(1)
    # The nearest of its faces is the tallest, unless its feet are below the picture.
    nearest = np.clip(_FEET, depth.min(1), np.maximum(depth.max(1), _CLOSE))
    nearest = np.maximum(nearest, _CLOSE)
    foot = actors[:, ACTOR["z"]] - ego[EGO["z"]] - HEIGHT
    top, bottom = np.minimum(foot + height, TAN * nearest), np.maximum(foot, -TAN * nearest)
    tall: Floats = np.where(inside, np.maximum(top - bottom, 0.0) / (TAN * nearest) * size / 2, 0.0)
    return tall


def boxes(actors: Floats) -> tuple[Floats, Floats, Floats]:
    """Length, width and height (m) of what each of `actors` (A, 14) fills, (A,) each. A person who lies is as long as
    they were tall."""
    length, width, height = (actors[:, ACTOR[name]] for name in ("length", "width", "height"))
    lying = (actors[:, ACTOR["down"]] > 0) & (actors[:, ACTOR["kind"]] == _WALKER)
    return np.where(lying, height, length), width, np.where(lying, length, height)
