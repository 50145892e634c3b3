"""A step's raw camera buffers as Images: classes, depth along the ray, and whose pixel is whose."""

from __future__ import annotations

import math
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from collect.carla.classes import ACTOR_CLASSES
from collect.carla.moment import CAMERAS
from collect.simulator import Ego, Images
from datasets.errors import SemoreError
from datasets.schema import ACTOR_COLUMN, KIND_INDEX, KINDS, SemanticClass

Floats = NDArray[np.float64]

FIELD_OF_VIEW: Final = 60.0
"""Degrees (method.md §2.3)."""
FAR: Final = 1000.0
"""m that the depth camera's 24 bits reach."""
SKY_DEPTH: Final = 1e6
"""m in Images.depth where nothing is hit."""

_NEAR: Final = 0.6  # m outside an actor's box where its mirrors, doors and limbs may still be
_EGO: Final = KINDS[KIND_INDEX["sedan"]]
_BLUE, _GREEN, _RED = 0, 1, 2


def decode(
    raw: NDArray[np.uint8], cameras: tuple[str, ...], classes: NDArray[np.uint8], eye: Floats,
    actors: NDArray[np.float32], ego: Ego,
) -> Images:  # fmt: skip
    """The pictures in `raw` (C, H, W, 4) uint8 BGRA, one of each of `cameras` (of CAMERAS; SemoreError without one).

    `classes` (256,) as class_table gives it; `eye` as in Moment. Pixels of moving things that belong to none of
    `actors`, such as cars parked on the map, have instance 0; those of the ego itself become OTHER.
    """
    missing = [camera for camera in CAMERAS if camera not in cameras]
    if missing:
        raise SemoreError(f"this simulator was made without the camera {missing[0]}; its pictures cannot be had")
    rgb, semantic, instance, depth = (raw[cameras.index(camera)] for camera in CAMERAS)
    tags = classes[semantic[..., _RED]]
    ahead = _ahead(depth)
    rays = _rays(len(raw[0]))
    numbers = instance[..., _GREEN].astype(np.uint16) | instance[..., _BLUE].astype(np.uint16) << 8
    owners = np.zeros(tags.shape, np.uint16)
    mobile = np.isin(tags, ACTOR_CLASSES)
    if mobile.any():
        places = _places(ahead[mobile], rays[mobile], eye)
        owners[mobile], own = whose(tags[mobile], numbers[mobile], places, actors, ego)
        mobile[mobile] = own
        tags[mobile] = SemanticClass.OTHER
    along = ahead * np.sqrt(1.0 + np.square(rays).sum(-1))
    along[tags == SemanticClass.SKY] = SKY_DEPTH
    return Images(np.ascontiguousarray(rgb[..., 2::-1]), tags, owners, along.astype(np.float32))


def whose(
    tags: NDArray[np.uint8], numbers: NDArray[np.uint16], places: Floats, actors: NDArray[np.float32], ego: Ego
) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """Actor id (0: none) of every pixel, (n,) uint16, and whether it is the ego's own, (n,) bool.

    The engine numbers its objects in a way of its own, so an object belongs to the actor of a fitting class whose box
    its pixels lie in or nearest to. `tags` (n,) classes, `numbers` (n,) the engine's, `places` (n, 2) m on the ground.
    """
    owners, own = np.zeros(len(tags), np.uint16), np.zeros(len(tags), np.bool_)
    columns = [ACTOR_COLUMN[name] for name in ("x", "y", "yaw", "length", "width")]
    boxes = np.vstack([(ego.x, ego.y, ego.yaw, _EGO.length, _EGO.width), actors[:, columns]]).astype(np.float64)
    kinds = [_EGO, *(KINDS[int(kind)] for kind in actors[:, ACTOR_COLUMN["kind"]])]
    objects = numbers.astype(np.uint32) << 8 | tags  # a bicycle and its rider may share a number
    for one in np.unique(objects):
        pixels = objects == one
        fitting = np.array([_fits(kind.semantic, int(one) & 0xFF) for kind in kinds])
        away = np.median(outside(places[pixels], boxes), axis=0)
        nearest = int(np.argmin(np.where(fitting, away, math.inf)))
        if not fitting[nearest] or away[nearest] > _NEAR:
            continue
        if nearest == 0:
            own |= pixels
        else:
            owners[pixels] = int(actors[nearest - 1, ACTOR_COLUMN["id"]])
    return owners, own


def _fits(kind: SemanticClass, tag: int) -> bool:
    return tag == kind or (kind is SemanticClass.BICYCLE and tag == SemanticClass.RIDER)


def outside(places: Floats, boxes: Floats) -> Floats:
    """(n, b): how far (m) each of `places` (n, 2) lies outside each of `boxes` (b, 5): x, y, yaw, length, width."""
    dx, dy = (places[:, None, axis] - boxes[None, :, axis] for axis in (0, 1))
    cos, sin = np.cos(boxes[:, 2]), np.sin(boxes[:, 2])
    along = np.abs(dx * cos + dy * sin) - boxes[:, 3] / 2
    across = np.abs(dy * cos - dx * sin) - boxes[:, 4] / 2
    outside: Floats = np.hypot(np.maximum(along, 0.0), np.maximum(across, 0.0))
    return outside


def _ahead(depth: NDArray[np.uint8]) -> Floats:
    """Metres along the view direction: R + 256 G + 65536 B of 2²⁴ − 1 steps."""
    steps: Floats = depth[..., _RED] + 256.0 * depth[..., _GREEN] + 65536.0 * depth[..., _BLUE]
    return steps * (FAR / (2**24 - 1))


@cache
def _rays(size: int) -> Floats:
    """(size, size, 2): how far right and down a pixel's ray goes for every metre ahead."""
    middle = (np.arange(size) + 0.5 - size / 2) / (size / 2) * math.tan(math.radians(FIELD_OF_VIEW / 2))
    return np.stack(np.meshgrid(middle, middle), axis=-1)


def _places(ahead: Floats, rays: Floats, eye: Floats) -> Floats:
    """(n, 2) world x, y (m) of pixels `ahead` (n,) m away along `rays` (n, 2)."""
    seen = np.stack([ahead, ahead * rays[:, 0], -ahead * rays[:, 1], np.ones_like(ahead)])
    places: Floats = (eye[:2] @ seen).T
    return places
