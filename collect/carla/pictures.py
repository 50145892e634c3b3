"""Raw camera buffers of a step turned into Images: classes, depth along the ray, and actor ids."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.camera import TAN
from semore.collect.carla.classes import ACTOR_CLASSES
from semore.collect.carla.messages import CAMERAS
from semore.collect.simulator import Ego, Images
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import ACTOR_COLUMN, KIND_INDEX, KINDS, SemanticClass

Floats = NDArray[np.float64]

FAR: Final = 1000.0
"""Range of the depth camera's 24 bits in m."""
SKY_DEPTH: Final = 1e6
"""Value of Images.depth in m where nothing is hit."""
BOX: Final = [ACTOR_COLUMN[name] for name in ("x", "y", "yaw", "length", "width")]
"""Columns of an actor's place and size on the ground."""

_NEAR: Final = 0.6  # m outside an actor's box where its mirrors, doors and limbs may still be
_EGO: Final = KINDS[KIND_INDEX["sedan"]]
_SAMPLE: Final = 32  # pixels that tell where an object is
_RED: Final = 2
_CLASS_OF_KIND: Final = np.array([kind.semantic for kind in KINDS])
_MOVING: Final = np.isin(np.arange(256), ACTOR_CLASSES)


def decode(
    raw: NDArray[np.uint8], cameras: tuple[str, ...], classes: NDArray[np.uint8], eye: Floats,
    actors: NDArray[np.float32], ego: Ego,
) -> Images:  # fmt: skip
    """The pictures in `raw` (C, H, W, 4) uint8 BGRA, one of each of `cameras` (of CAMERAS; SemoreError without one).

    `classes` (256,) as class_table gives it; `eye` as in StepMessage. Pixels of moving things that belong to none of
    `actors`, such as cars parked on the map, have instance 0; those of the ego itself become OTHER.
    """
    missing = [camera for camera in CAMERAS if camera not in cameras]
    if missing:
        raise SemoreError(f"this simulator was made without the camera {missing[0]}; its pictures cannot be had")
    rgb, semantic, instance, depth = (raw[cameras.index(camera)] for camera in CAMERAS)
    tags = classes[semantic[..., _RED]]
    right, down, stretch = _rays(len(rgb))
    ahead = (depth.view(">u4")[..., 0] >> 8).astype(np.float32) * np.float32(FAR / (2**24 - 1))  # R + 256 G + 65536 B
    along = ahead * stretch
    along[tags == SemanticClass.SKY] = SKY_DEPTH
    owners = np.zeros(tags.shape, np.uint16)
    moving = _MOVING[tags]
    if moving.any():
        away = ahead[moving].astype(np.float64)
        seen = np.stack([away, away * right[moving], -away * down[moving], np.ones_like(away)])
        numbers = instance.view("<u2")[..., 0][moving]  # B + 256 G
        owners[moving], own = whose(tags[moving], numbers, (eye[:2] @ seen).T, actors, ego)
        moving[moving] = own
        tags[moving] = SemanticClass.OTHER
    return Images(np.ascontiguousarray(rgb[..., 2::-1]), tags, owners, along)


def whose(
    tags: NDArray[np.uint8], numbers: NDArray[np.uint16], places: Floats, actors: NDArray[np.float32], ego: Ego
) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """Actor id (0: none) of every pixel, (n,) uint16, and whether it is the ego's own, (n,) bool.

    The engine numbers its objects in a way of its own, so an object belongs to the actor of a fitting class whose box
    its pixels lie in or nearest to. `tags` (n,) classes, `numbers` (n,) the engine's, `places` (n, 2) m on the ground.
    """
    owners, own = np.zeros(len(tags), np.uint16), np.zeros(len(tags), np.bool_)
    boxes = np.vstack([(ego.x, ego.y, ego.yaw, _EGO.length, _EGO.width), actors[:, BOX]]).astype(np.float64)
    ids = np.append(0, actors[:, ACTOR_COLUMN["id"]]).astype(np.uint16)
    kinds = np.append(KIND_INDEX["sedan"], actors[:, ACTOR_COLUMN["kind"]]).astype(np.intp)
    classes = _CLASS_OF_KIND[kinds]
    objects = numbers.astype(np.uint32) << 8 | tags  # a bicycle and its rider may share a number
    for one in np.unique(objects):
        tag = int(one) & 0xFF
        (fitting,) = np.nonzero(classes == (SemanticClass.BICYCLE if tag == SemanticClass.RIDER else tag))
        if len(fitting) == 0:
            continue
        (pixels,) = np.nonzero(objects == one)
        sample = places[pixels[:: len(pixels) // _SAMPLE + 1]]
        away = np.sort(outside(sample, boxes[fitting]), axis=0)[len(sample) // 2]
        nearest = int(np.argmin(away))
        if away[nearest] <= _NEAR:
            owners[pixels] = ids[fitting[nearest]]
            own[pixels] = fitting[nearest] == 0
    return owners, own


def outside(places: Floats, boxes: Floats) -> Floats:
    """(n, b): how far (m) each of `places` (n, 2) lies outside each of `boxes` (b, 5): x, y, yaw, length, width."""
    dx, dy = (places[:, None, axis] - boxes[None, :, axis] for axis in (0, 1))
    cos, sin = np.cos(boxes[:, 2]), np.sin(boxes[:, 2])
    along = np.abs(dx * cos + dy * sin) - boxes[:, 3] / 2
    across = np.abs(dy * cos - dx * sin) - boxes[:, 4] / 2
    away: Floats = np.hypot(np.maximum(along, 0.0), np.maximum(across, 0.0))
    return away


@cache
def _rays(size: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """(size, size) each: how far right and down a pixel's ray goes for every metre ahead, and how long it then is."""
    middle = (np.arange(size) + 0.5 - size / 2) / (size / 2) * TAN
    right, down = np.meshgrid(middle.astype(np.float32), middle.astype(np.float32))
    return right, down, np.sqrt(1.0 + right**2 + down**2)
