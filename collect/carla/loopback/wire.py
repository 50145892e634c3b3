"""CARLA 0.9.16's wire format: msgpack-RPC replies, stream tokens, and the binary records of streams.

Learnt by driving the real client; docs/loopback.md lists what is known. All numbers are little-endian."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgpack

VERSION: Final = "0.9.16"
WORLD_STREAM: Final = 1
"""Stream id of the world observer; a sensor's stream id is its actor id."""

SENSOR_INDEX: Final = {
    "sensor.other.collision": 0,
    "sensor.camera.depth": 1,
    "sensor.camera.rgb": 13,
    "sensor.camera.semantic_segmentation": 14,
    "sensor.camera.instance_segmentation": 15,
}
"""What a message's first number says of its body; the client crashes on one it doesn't know."""
WORLD_INDEX: Final = 17

_ACTIVE: Final = 1  # of carla.ActorState; 2 is dormant
_GREEN: Final = 2
_HEAD: Final = struct.Struct("<QQd6f")
_WORLD: Final = struct.Struct("<QdfiiiI")
_ACTOR: Final = struct.Struct("<IB6f9f54s")
_VEHICLE: Final = struct.Struct("<fff???ifB?IB")
_WALKER: Final = struct.Struct("<ffff?")
_IMAGE: Final = struct.Struct("<IIf")
_LENGTH: Final = struct.Struct("<I")

Transform = tuple[float, float, float, float, float, float]
"""x, y, z (m), pitch, yaw, roll (degrees), in the order of the stream's records."""
STILL: Final = (0.0,) * 9
"""The motion of whoever rests."""


def success(value: Any) -> list[Any]:
    """The reply of a procedure that returns `value`."""
    return [[1, value]]


def failure(reason: str) -> list[Any]:
    """The reply of a procedure that failed; the client raises RuntimeError(reason)."""
    return [[0, [reason]]]


VOID: Final = [[False]]
"""The reply of a procedure that returns nothing."""


def request(message: Any) -> tuple[int, str, list[Any]]:
    """Number, name and arguments of a msgpack-RPC request; ValueError for anything else."""
    if not isinstance(message, list) or len(message) != 4 or message[0] != 0 or not isinstance(message[3], list):
        raise ValueError(f"{message!r} is no msgpack-RPC request")
    return message[1], str(message[2]), message[3]


def reply(number: int, result: Any) -> bytes:
    """The msgpack-RPC message that answers request `number`."""
    return bytes(msgpack.packb([1, number, None, result]))


def token(stream: int, port: int) -> bytes:
    """The 24 bytes that tell a client where to subscribe to `stream`: over TCP, at `port` of the host it calls."""
    return struct.pack("<IHBB16x", stream, port, 1, 0)


def pack_transform(transform: Transform) -> list[list[float]]:
    """A Transform as procedures carry it: [[x, y, z], [pitch, yaw, roll]]."""
    return [list(transform[:3]), list(transform[3:])]


def message(index: int, frame: int, elapsed: float, transform: Transform, body: bytes) -> bytes:
    """One message of a stream, its length in front: head and body. `elapsed` is the simulation's time, s."""
    size = _HEAD.size + len(body)
    return b"".join((_LENGTH.pack(size), _HEAD.pack(index, frame, elapsed, *transform), body))


def image(width: int, height: int, fov: float, pixels: bytes) -> bytes:
    """Body of a camera's message; `pixels` are BGRA rows from the top, fov in degrees."""
    return _IMAGE.pack(width, height, fov) + pixels


def collision(actor: Any, other: Any, impulse: tuple[float, float, float]) -> bytes:
    """Body of a collision: the two actors as procedures carry them, the impulse on the first in N·s."""
    return bytes(msgpack.packb([actor, other, list(impulse)]))


def record(number: int, transform: Transform, motion: Sequence[float] = STILL, state: bytes = b"") -> bytes:
    """An actor's 119 bytes in a world snapshot. `motion`: velocity (m/s), angular velocity (degrees/s), acceleration
    (m/s²), each as xyz in the world's axes; `state`: up to 54 bytes that depend on its type."""
    return _ACTOR.pack(number, _ACTIVE, *transform, *motion, state)


def vehicle_state(control: list[Any], speed_limit: float) -> bytes:
    """Type-dependent bytes of a vehicle: its control as procedures carry it, the speed limit in km/h, no traffic
    light."""
    throttle, steer, brake, hand_brake, reverse, manual, gear = control[:7]
    return _VEHICLE.pack(throttle, steer, brake, hand_brake, reverse, manual, gear, speed_limit, _GREEN, False, 0, 0)


def walker_state(control: list[Any]) -> bytes:
    """Type-dependent bytes of a walker: direction, speed (m/s), jump."""
    return _WALKER.pack(*control[0], control[1], control[2])


def world(frame: int, elapsed: float, episode: int, delta: float, records: Iterable[bytes]) -> bytes:
    """A snapshot of the world as the message of WORLD_STREAM; `delta` is the last step's length, s."""
    head = _WORLD.pack(episode, time.time(), delta, 0, 0, 0, 0)
    return message(WORLD_INDEX, frame, elapsed, (0.0,) * 6, b"".join((head, *records)))
