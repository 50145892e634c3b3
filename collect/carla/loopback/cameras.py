"""What the cameras see: the embedded ray-caster draws each pose once per tick, and CARLA's pictures are cut from it."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from collect.carla.loopback.actors import LOW_BEAM, TAGS, Actor, Actors, Body, Vehicle
from collect.embedded.casting import Eye
from collect.embedded.scanline import WIDEST
from collect.embedded.sky import Atmosphere
from collect.embedded.view import look
from collect.simulator import Images
from datasets.schema import ACTOR_FIELDS, KINDS

FARTHEST: Final = 1000.0
"""m that the depth camera's largest code stands for."""

_MOST_CODE: Final = 2**24 - 1
_KIND: Final = {kind.name: index for index, kind in enumerate(KINDS)}
_TAG_OF: Final = np.array([TAGS[semantic] for semantic in sorted(TAGS)], np.uint8)

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
        seen = self._view(camera, max(width, height), width, fov)
        frame = _crop(width, height)
        bgra = np.empty((height, width, 4), np.uint8)
        bgra[..., 3] = 255
        kind = camera.blueprint.rpartition(".")[2]
        if kind == "rgb":
            bgra[..., :3] = seen.rgb[frame][..., ::-1]
        elif kind == "depth":
            side = max(width, height)
            tangent = math.tan(math.radians(fov) / 2) * side / width
            code = _depth_code(seen.depth, tangent)[frame]
            bgra[..., 2], bgra[..., 1], bgra[..., 0] = code & 255, (code >> 8) & 255, code >> 16
        else:
            bgra[..., 2] = _TAG_OF[seen.semantic[frame]]
            instance = seen.instance[frame] if kind == "instance_segmentation" else np.uint16(0)
            bgra[..., 1], bgra[..., 0] = instance & 255, instance >> 8
        return bgra.tobytes()

    def _view(self, camera: Actor, side: int, width: int, fov: float) -> Images:
        """The square picture a camera's picture is cut from; fov is across `width`."""
        x, y, z, yaw = self._actors.place(camera)
        key = (camera.parent, x, y, z, yaw, side, width, fov)
        if key not in self._drawn:
            eye = Eye(x, y, z, math.cos(yaw), math.sin(yaw), math.tan(math.radians(fov / 2)) * side / width)
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
    """A body's row of datasets.schema.ACTOR_FIELDS, its object id in the first column."""
    kind = body.kind
    pose = (body.object_id, _KIND[kind.name], body.x, body.y, body.z, body.yaw, body.vx, body.vy)
    return (*pose, kind.length, kind.width, kind.height, float(body.lit), float(body.down), float(body.braking))


def _crop(width: int, height: int) -> tuple[slice, slice]:
    """The middle of a square that holds width × height."""
    side = max(width, height)
    top, left = (side - height) // 2, (side - width) // 2
    return slice(top, top + height), slice(left, left + width)


def _depth_code(along: NDArray[np.float32], tangent: float) -> NDArray[np.uint32]:
    """24-bit codes of a square picture's depth: metres along the ray become metres along the camera's axis."""
    side = len(along)
    across = ((2 * np.arange(side) + 1) / side - 1.0) * tangent
    ahead = along / np.sqrt(1.0 + across[None, :] ** 2 + across[:, None] ** 2)
    return np.round(np.minimum(ahead, FARTHEST) / FARTHEST * _MOST_CODE).astype(np.uint32)
