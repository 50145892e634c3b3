"""The loopback server on a thread of the test process, and a client of its wire that needs no `carla` wheel."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgpack

from collect.carla.loopback.faults import Fault
from collect.carla.loopback.server import Server


@contextmanager
def serving(fault: Fault | None = None) -> Iterator[int]:
    """A server's port, for as long as the block lasts."""
    server, stop = Server("127.0.0.1", 0, "Town01", fault or Fault()), threading.Event()
    thread = threading.Thread(target=server.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield server.port
    finally:
        stop.set()
        thread.join(10.0)
        assert not thread.is_alive()
        server.close()


class Caller:
    """Calls procedures over TCP; an error of the procedure is a RuntimeError, a lost connection a ConnectionError."""

    def __init__(self, port: int, timeout: float = 10.0) -> None:
        self.port, self.socket, self._number = port, socket.create_connection(("127.0.0.1", port), timeout), 0
        self._unpacker = msgpack.Unpacker(raw=False)

    def call(self, name: str, *arguments: Any) -> Any:
        """The value a procedure returns; None for one that returns nothing."""
        reply = self.bare(name, [False], *arguments)
        if isinstance(reply, list) and len(reply) == 1 and reply[0] == [False]:
            return None
        kind, value = reply[0]
        if kind == 0:
            raise RuntimeError(value[0])
        return value

    def bare(self, name: str, *arguments: Any) -> Any:
        """The reply as it comes, to arguments as they are."""
        self._number += 1
        self.socket.sendall(msgpack.packb([0, self._number, name, list(arguments)]))
        while True:
            for kind, number, error, result in self._unpacker:
                assert (kind, number, error) == (1, self._number, None)
                return result
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("the server hung up")
            self._unpacker.feed(data)

    def synchronous(self) -> None:
        self.call("set_episode_settings", [True, False, [True, 0.05], True, 0.01, 10, 0.0, True, 3000.0, 2000.0, True])

    def spawn(
        self,
        blueprint: str,
        x: float,
        y: float,
        yaw: float = 0.0,
        parent: int = 0,
        z: float = 0.1,
        **attributes: object,
    ):
        """The id of a new actor."""
        (definition,) = (one for one in self.call("get_actor_definitions") if one[1] == blueprint)
        values = [[one[0], one[1], str(attributes.get(one[0], one[2]))] for one in definition[3]]
        description, transform = [definition[0], blueprint, values], [[x, y, z], [0.0, yaw, 0.0]]
        if parent:
            return self.call("spawn_actor_with_parent", description, transform, parent, 0, "")[0]
        return self.call("spawn_actor", description, transform)[0]

    def close(self) -> None:
        self.socket.close()


@dataclass(frozen=True)
class Message:
    """One message of a stream: head and body."""

    index: int
    frame: int
    elapsed: float
    transform: tuple[float, ...]
    body: bytes


class Reader:
    """Subscribes to a stream, as its token says."""

    def __init__(self, token: bytes, timeout: float = 10.0) -> None:
        self._stream, port, protocol, family = struct.unpack_from("<IHBB", token)
        assert (protocol, family, token[8:12]) == (1, 1, bytes([127, 0, 0, 1]))
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._socket.sendall(struct.pack("<I", self._stream))

    def read(self) -> Message:
        (size,) = struct.unpack("<I", self._exactly(4))
        data = self._exactly(size)
        index, frame, elapsed, *transform = struct.unpack_from("<QQd6f", data)
        return Message(index, frame, elapsed, tuple(transform), data[48:])

    def close(self) -> None:
        self._socket.close()

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise ConnectionError("the stream ended")
            data += more
        return data
