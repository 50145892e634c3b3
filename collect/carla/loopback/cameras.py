"""The loopback server's cameras: each pose is drawn once per tick, and CARLA's pictures are cut from it."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.carla.loopback.actors import LOW_BEAM, TAGS, Actor, Actors, Body, Vehicle
from semore.collect.embedded.jit import kernel
from semore.collect.embedded.render.ray_intersect import Eye
from semore.collect.embedded.render.scanline import WIDEST
from semore.collect.embedded.render.sky import Atmosphere
from semore.collect.embedded.render.view import look
from semore.collect.simulator import Images
from semore.datasets.rollouts.schema import ACTOR_FIELDS, KIND_INDEX

FARTHEST: Final = 1000.0
"""m that the depth camera's largest code stands for."""

_MOST_CODE: Final = 2**24 - 1
_TAG_OF: Final = np.array([TAGS[semantic] for semantic in sorted(TAGS)], np.uint8)

Bytes = NDArray[np.uint8]
Key = tuple[float, ...]


class Cameras:
    """The pictures of one tick. Cameras are level: pitch and roll of their pose are not drawn."""

    def __init__(self, actors: Actors, air: Atmosphere, age: int) -> None:
        """`age`: ticks since the weather came; it moves the rain."""
        self._actors, self._air, self._age = actors, air, age
        self._drawn: dict[Key, Images] = {}

    def pixels(self, camera: Actor) -> bytes:
        """BGRA rows of what `camera` sees, in the coding of its blueprint."""
        attributes = camera.attributes
        width, height, fov = int(attributes["image_size_x"]), int(attributes["image_size_y"]), field_of_view(attributes)
        side = max(width, height)
        seen = self._view(camera, side, width, fov)
        top, left = (side - height) // 2, (side - width) // 2
        bgra = np.empty((height, width, 4), np.uint8)
        kind = camera.blueprint.rpartition(".")[2]
        if kind == "rgb":
            _write_colours(seen.rgb, top, left, bgra)
        elif kind == "depth":
            _write_depth(seen.depth, _tangent(fov, side, width), top, left, bgra)
        else:
            _write_tags(seen.semantic, seen.instance, kind == "instance_segmentation", _TAG_OF, top, left, bgra)
        return bgra.tobytes()

    def _view(self, camera: Actor, side: int, width: int, fov: float) -> Images:
        """The square picture a camera's picture is cut from; fov is across `width`."""
        x, y, z, yaw = self._actors.place(camera)
        key = (camera.parent, x, y, z, yaw, side, width, fov)
        if key not in self._drawn:
            eye = Eye(x, y, z, math.cos(yaw), math.sin(yaw), _tangent(fov, side, width))
            self._drawn[key] = self._draw(eye, side, self._carrier(camera), (x, y, yaw))
        return self._drawn[key]

    def _carrier(self, camera: Actor) -> Body | None:
        """The body that carries the camera, directly or through another actor."""
        actor = self._actors.get(camera.parent)
        while actor is not None and not isinstance(actor, Body):
            actor = self._actors.get(actor.parent)
        return actor

    def _draw(self, eye: Eye, side: int, carrier: Body | None, place: tuple[float, float, float]) -> Images:
        others = [body for body in self._actors.every(Body) if body is not carrier]
        table = np.array([_row(body) for body in others], np.float32).reshape(-1, len(ACTOR_FIELDS))
        paint = np.array([body.paint for body in others]).reshape(-1, 3)
        beams = isinstance(carrier, Vehicle) and bool(carrier.lights & LOW_BEAM)
        if carrier is not None:
            place = (carrier.x, carrier.y, carrier.yaw)
        return look(self._actors.town, self._air, side, eye, place, table, paint, beams, self._age)


def field_of_view(attributes: dict[str, str]) -> float:
    """A camera's horizontal field of view, degrees."""
    return float(attributes["fov"])


def unusable(attributes: dict[str, str]) -> str:
    """Why a camera of these attributes cannot be drawn; "" when it can."""
    width, height = int(attributes["image_size_x"]), int(attributes["image_size_y"])
    if not 8 <= min(width, height) <= max(width, height) <= WIDEST:
        return f"a picture of {width}x{height} px; the loopback server draws 8 to {WIDEST} px a side"
    if not 1.0 <= field_of_view(attributes) <= 150.0:
        return f"a field of view of {attributes['fov']} degrees; the loopback server draws 1 to 150"
    return ""


def _row(body: Body) -> tuple[float, ...]:
    """A body's row of datasets.rollouts.schema.ACTOR_FIELDS, its object id in the first column."""
    kind = body.kind
    pose = (body.object_id, KIND_INDEX[kind.name], body.x, body.y, body.z, body.yaw, body.vx, body.vy)
    return (*pose, kind.length, kind.width, kind.height, float(body.lit), float(body.down), float(body.braking))


def _tangent(fov: float, side: int, width: int) -> float:
    """Tan of half the angle across a square of `side` pixels, when `width` of them span `fov` degrees."""
    return math.tan(math.radians(fov / 2)) * side / width


@kernel
def _write_colours(rgb: Bytes, top: int, left: int, bgra: Bytes) -> None:
    for v in range(bgra.shape[0]):
        for u in range(bgra.shape[1]):
            for channel in range(3):
                bgra[v, u, channel] = rgb[v + top, u + left, 2 - channel]
            bgra[v, u, 3] = 255


@kernel
def _write_tags(
    semantic: Bytes, instance: NDArray[np.uint16], with_instance: bool, tags: Bytes, top: int, left: int, bgra: Bytes
) -> None:
    """The class's tag is red; the object's id is green (low byte) and blue."""
    for v in range(bgra.shape[0]):
        for u in range(bgra.shape[1]):
            number = int(instance[v + top, u + left]) if with_instance else 0
            bgra[v, u, 0], bgra[v, u, 1] = number >> 8, number & 255
            bgra[v, u, 2], bgra[v, u, 3] = tags[semantic[v + top, u + left]], 255


@kernel
def _write_depth(along: NDArray[np.float32], tangent: float, top: int, left: int, bgra: Bytes) -> None:
    """Metres along the ray become metres along the camera's axis, in 24 bits from red to blue."""
    side = along.shape[0]
    for v in range(bgra.shape[0]):
        rise = ((2 * (v + top) + 1) / side - 1.0) * tangent
        for u in range(bgra.shape[1]):
            across = ((2 * (u + left) + 1) / side - 1.0) * tangent
            ahead = along[v + top, u + left] / math.sqrt(1.0 + across * across + rise * rise)
            code = int(min(ahead, FARTHEST) / FARTHEST * _MOST_CODE + 0.5)
            bgra[v, u, 0], bgra[v, u, 1], bgra[v, u, 2], bgra[v, u, 3] = code >> 16, (code >> 8) & 255, code & 255, 255
