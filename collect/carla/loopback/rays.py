"""What a straight line through the world meets: the flat ground, scenery and bodies, as boxes with upright sides."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.carla.loopback.actors import TAGS, Actors, Body
from semore.collect.embedded.maps.town import Town
from semore.datasets.rollouts.schema import SemanticClass

Floats = NDArray[np.float64]
Point = tuple[float, float, float]

_BOX: Final = 8  # columns of a box: centre, half sizes (m), cosine and sine of its heading


def meets(actors: Actors, start: Point, end: Point) -> list[Any]:
    """Every first contact on the way from `start` to `end`, m, as procedures carry LabelledPoints: [[x, y, z], label],
    the nearest first. What a ray starts in it does not meet."""
    bodies = actors.every(Body)
    scenery = actors.town.scenery
    boxes = np.concatenate([scenery.parts[:, :_BOX], np.array([_box(body) for body in bodies]).reshape(-1, _BOX)])
    labels = [*scenery.tags[:, 1].tolist(), *(int(body.kind.semantic) for body in bodies)]
    origin, way = np.array(start), np.subtract(end, start)
    found = [(float(share), labels[row]) for row, share in _entries(boxes.astype(float), origin, way)]
    if start[2] >= 0.0 > end[2]:
        share = start[2] / (start[2] - end[2])
        found.append((share, _surface(actors.town, *(origin + share * way)[:2].tolist())))
    return [[(origin + share * way).tolist(), TAGS[SemanticClass(label)]] for share, label in sorted(found)]


def beyond(start: Point, direction: Point, distance: float) -> Point:
    """The point `distance` m from `start`; `start` itself without a direction."""
    step = distance / (math.hypot(*direction) or math.inf)
    x, y, z = (place + step * part for place, part in zip(start, direction, strict=True))
    return x, y, z


def _box(body: Body) -> tuple[float, ...]:
    x, y, half_length, half_width, cos, sin, *_ = body.box()
    half_height = (body.kind.width if body.down else body.kind.height) / 2
    return x, y, body.z + half_height, half_length, half_width, half_height, cos, sin


def _entries(boxes: Floats, origin: Floats, way: Floats) -> list[tuple[int, float]]:
    """Rows of the boxes that the way from `origin` enters, and the share of it done by then: a slab test."""
    cos, sin = boxes[:, 6], boxes[:, 7]
    x, y, z = (origin - boxes[:, :3]).T
    begin = np.stack([x * cos + y * sin, y * cos - x * sin, z])
    step = np.stack([way[0] * cos + way[1] * sin, way[1] * cos - way[0] * sin, np.full(len(boxes), way[2])])
    step[np.abs(step) < 1e-9] = 1e-9
    faces = np.stack([(-boxes[:, 3:6].T - begin) / step, (boxes[:, 3:6].T - begin) / step])
    enter, leave = faces.min(0).max(0), faces.max(0).min(0)
    rows = np.flatnonzero((enter <= leave) & (enter >= 0.0) & (enter <= 1.0)).tolist()
    return [(row, float(enter[row])) for row in rows]


def _surface(town: Town, x: float, y: float) -> int:
    """The class of the ground; lane markings count as what they are painted on."""
    _, t = town.road.locate(x, y)
    return int(town.strips[np.searchsorted(town.strips[:, 0], t, side="right"), 1])
