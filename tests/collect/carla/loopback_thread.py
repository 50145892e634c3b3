"""The loopback server on a thread of the test process, and a client of its wire that needs no `carla` wheel."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

from semore.collect.carla.loopback.faults import Fault
from semore.collect.carla.loopback.server import Server


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


@contextmanager
def forwarding(host: str, port: int) -> Iterator[None]:
    """Connections to host:port are those to 127.0.0.1:port, for as long as the block lasts."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                ours, _ = listener.accept()
                theirs = socket.create_connection(("127.0.0.1", port))
                for pair in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    with socket.create_server((host, port)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10.0)


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
        assert (protocol, family, token[8:]) == (1, 0, bytes(16))  # TCP, at the host that was called
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


def actors_of(message: Message) -> dict[int, tuple[float, ...]]:
    """id → x, y, z, pitch, yaw, roll, vx, vy, vz of a world snapshot."""
    records = message.body[36:]
    assert len(records) % 119 == 0
    rows = [struct.unpack_from("<IB9f", records, at) for at in range(0, len(records), 119)]
    return {row[0]: row[2:] for row in rows}


def watch(client: Caller) -> Reader:
    """The world's snapshots, from the next on."""
    _, (token,) = client.call("get_episode_info")
    return listen(client, *struct.unpack_from("<I", token))


def subscribed(client: Caller, token: bytes) -> Reader:
    """A reader who did not announce itself."""
    reader = Reader(token)
    client.call("version")
    time.sleep(0.05)  # for the subscription, which nothing acknowledges
    return reader


def listen(client: Caller, stream: int) -> Reader:
    """What the stream sends from now on: a sensor's is numbered like the sensor."""
    return Reader(client.call("get_sensor_token", stream)[0])


def camera(client: Caller, parent: int, kind: str, size: int = 32, **attributes: object) -> tuple[int, Reader]:
    """A camera where Semore's stands on the ego."""
    made = {"image_size_x": size, "image_size_y": size, "fov": 60.0} | attributes
    number = client.spawn(f"sensor.camera.{kind}", 1.0, 0.0, parent=parent, z=1.5, **made)
    return number, listen(client, number)


def pixels(message: Message) -> np.ndarray:
    width, height, _ = struct.unpack_from("<IIf", message.body)
    return np.frombuffer(message.body, np.uint8, offset=12).reshape(height, width, 4)


def events(message: Message) -> list:
    return msgpack.unpackb(message.body, raw=False)
