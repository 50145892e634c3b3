"""Non-blocking sockets: unsent data wait in memory, and a client that stops reading loses frames."""

from __future__ import annotations

import selectors
import socket
from typing import Any, Final

BACKLOG: Final = 64 * 2**20
"""Bytes that wait for a client before messages are dropped."""
_CHUNK: Final = 2**18


class Link:
    """One connection; `handler` is told of what arrives (see server.py)."""

    def __init__(self, connection: socket.socket, selector: selectors.BaseSelector, handler: Any) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket, self._selector = connection, selector
        self._waiting = bytearray()
        self._handler = handler
        self.open = True
        selector.register(connection, selectors.EVENT_READ, handler)

    def receive(self) -> bytes:
        """What has arrived; the link is closed when there is nothing more to come."""
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self.close()
        return data

    def send(self, data: bytes) -> None:
        """Send `data`, now or as soon as the client reads; dropped when it is far behind or gone."""
        if not self.open or len(self._waiting) > BACKLOG:
            return
        sent = 0 if self._waiting else self._push(data)
        if self.open and sent < len(data):
            if not self._waiting:
                self._selector.modify(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self._handler)
            self._waiting += data[sent:]

    def flush(self) -> None:
        """Send more of what waits."""
        del self._waiting[: self._push(self._waiting)]
        if self.open and not self._waiting:
            self._selector.modify(self._socket, selectors.EVENT_READ, self._handler)

    def _push(self, data: bytes | bytearray) -> int:
        """How many bytes the system takes at once; the link is closed when the client is gone."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.close()
            return 0

    def close(self) -> None:
        """Hang up; harmless twice."""
        if self.open:
            self.open = False
            self._selector.unregister(self._socket)
            self._socket.close()


def listen(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """Listening sockets on two neighbouring ports, the first for procedures and the next for streams; port 0 finds a
    free pair. OSError when they are taken."""
    for _ in range(100):
        first = _bound(host, port)
        try:
            return first, _bound(host, first.getsockname()[1] + 1)
        except (OSError, OverflowError):
            first.close()
            if port:
                raise
    raise OSError(f"no two neighbouring ports are free on {host}")


def _bound(host: str, port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen(16)
    except (OSError, OverflowError):
        made.close()
        raise
    made.setblocking(False)
    return made
