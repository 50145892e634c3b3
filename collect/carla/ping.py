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
    """What a server says it is: its CARLA version, and whose pictures it sends (`unreal`, or a loopback's renderer).
    `closed` is the port of its streams when nobody can connect there, else 0."""

    version: str
    renderer: str
    closed: int = 0


def identity(host: str, port: int, timeout: float) -> Identity | None:
    """Who answers at host:port within `timeout` seconds, ready to drive; None when nobody does.

    The readiness question is one that Unreal's game thread answers: a server whose game thread hangs goes on telling
    its version. Only our loopback server knows the last question; Unreal's calls it an error.
    """
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
