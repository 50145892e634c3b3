"""Asking a server who it is without the `carla` wheel: one msgpack-rpc call on a connection of its own."""

from __future__ import annotations

import socket
import time
from typing import Any, NamedTuple

import msgpack

_SYNCHRONOUS = [False]  # the metadata every CARLA call begins with: an answer is wanted


class Identity(NamedTuple):
    """What a server says it is: its CARLA version, and whose pictures it sends (`unreal`, or a loopback's renderer)."""

    version: str
    renderer: str


def identity(host: str, port: int, timeout: float) -> Identity | None:
    """Who answers at host:port within `timeout` seconds, ready to drive; None when nobody does.

    The readiness question is one that Unreal's game thread answers: a server whose game thread hangs goes on telling
    its version. Only our loopback server knows the last question; Unreal's calls it an error.
    """
    deadline = time.monotonic() + timeout
    try:
        with socket.create_connection((host, port), timeout) as connection:
            version = _call(connection, "version", deadline)
            if not isinstance(version, str) or _call(connection, "get_episode_info", deadline) is None:
                return None
            renderer = _call(connection, "semore_renderer", deadline)
    except (OSError, ValueError, msgpack.UnpackException):
        return None
    return Identity(version, renderer if isinstance(renderer, str) else "unreal")


def _call(connection: socket.socket, name: str, deadline: float) -> Any:
    """The value the server answers, None when it answers with an error; OSError when it doesn't in time."""
    connection.sendall(msgpack.packb([0, 1, name, [_SYNCHRONOUS]]))
    unpacker = msgpack.Unpacker(strict_map_key=False)
    while True:
        connection.settimeout(max(deadline - time.monotonic(), 1e-3))
        received = connection.recv(65_536)
        if not received:
            raise ConnectionError(f"the connection was closed during {name}")
        unpacker.feed(received)
        for answer in unpacker:
            return _value(answer)


def _value(answer: Any) -> Any:
    """The value within `[1, id, error, [[1, value]]]`; None for an error and for any other shape."""
    match answer:
        case [1, _, None, [[1, value]]]:
            return value
        case _:
            return None
