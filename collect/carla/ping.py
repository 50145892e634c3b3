"""Asks a server for its version without the `carla` wheel: one msgpack-RPC call on a connection of its own."""

from __future__ import annotations

import socket
import struct
import time
from typing import Any, NamedTuple

import msgpack

_TOKEN = struct.Struct("<IHBB4s12x")  # stream, port, protocol, kind of address, IPv4 address
_IPV4 = 1
_MOMENT = 0.5  # s that a connection may take although the time is up
_SYNCHRONOUS = [False]  # the metadata every CARLA call begins with: an answer is wanted


class Identity(NamedTuple):
    """A server's CARLA version, its renderer (`unreal`, or the version of a loopback server's), and `closed`: the port
    of its streams when nobody can connect there, else 0."""

    version: str
    renderer: str
    closed: int = 0


def identity(host: str, port: int, timeout: float) -> Identity | None:
    """The identity of the server at host:port, if it is ready to drive within `timeout` seconds; None otherwise.

    The readiness question is answered by Unreal's game thread, because a server whose game thread hangs still tells its
    version. The question for a renderer is known to our loopback server alone; Unreal's answers it with an error."""
    deadline = time.monotonic() + timeout
    try:
        with socket.create_connection((host, port), timeout) as connection:
            version = _call(connection, "version", deadline)
            episode = _call(connection, "get_episode_info", deadline)
            if not isinstance(version, str) or episode is None:
                return None
            renderer = _call(connection, "semore_renderer", deadline)
    except (OSError, ValueError, msgpack.UnpackException):
        return None
    where = _streams(episode, host, port)
    closed = 0 if _connects(where, max(deadline - time.monotonic(), _MOMENT)) else where[1]
    return Identity(version, renderer if isinstance(renderer, str) else "unreal", closed)


def _streams(episode: Any, host: str, port: int) -> tuple[str, int]:
    """Where the streams of a server at host:port are: as the world's token says, by default on the next port."""
    match episode:
        case [_, [bytes(token)]] if len(token) == _TOKEN.size:
            _, streams, _, kind, address = _TOKEN.unpack(token)
            return socket.inet_ntoa(address) if kind == _IPV4 else host, streams
        case _:
            return host, port + 1


def _connects(where: tuple[str, int], timeout: float) -> bool:
    try:
        socket.create_connection(where, timeout).close()
    except OSError:
        return False
    return True


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
