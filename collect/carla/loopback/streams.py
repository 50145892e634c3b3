"""Who reads which stream, and what is kept for readers that are still on their way."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from semore.collect.carla.loopback.links import BACKLOG, Link

EXPECTED: Final = 5.0
"""Seconds within which whoever has asked for a stream's token reads the stream."""


@dataclass
class _Reader:
    """Somebody on the way, expected until a moment of the steady clock, and the messages kept for them."""

    until: float = field(default_factory=lambda: time.monotonic() + EXPECTED)
    kept: bytearray = field(default_factory=bytearray)


class Streams:
    """Messages to the readers of each stream.

    A client's `listen()` asks for the stream's token on the connection for calls and returns; its subscription comes on
    a connection of its own, and the `tick()` that follows often overtakes it. What is sent in between is kept, so that
    the client gets every message from its `listen()` on, and none from before."""

    def __init__(self) -> None:
        self._links: dict[int, list[Link]] = {}
        self._coming: dict[int, list[_Reader]] = {}

    def expect(self, stream: int) -> None:
        """A client has asked for the stream's token."""
        self._coming.setdefault(stream, []).append(_Reader())

    def subscribe(self, stream: int, link: Link) -> None:
        """The client at the other end of `link` reads the stream, beginning with what was kept for it."""
        if self._expected(stream):
            link.send(bytes(self._coming[stream].pop(0).kept))
        self._links.setdefault(stream, []).append(link)

    def wanted(self, stream: int) -> bool:
        """Whether anybody reads the stream or is about to."""
        links = self._links.get(stream)
        if links and not all(link.open for link in links):
            links[:] = [link for link in links if link.open]
        return bool(links) or self._expected(stream)

    def send(self, stream: int, message: bytes) -> None:
        """Give everybody the message; like Link.send, to nobody who is far behind."""
        for link in self._links.get(stream, ()):
            link.send(message)
        for reader in self._coming.get(stream, ()):
            if len(reader.kept) <= BACKLOG:
                reader.kept += message

    def clear(self) -> None:
        """Forget everybody."""
        self._links.clear()
        self._coming.clear()

    def _expected(self, stream: int) -> bool:
        coming = self._coming.get(stream)
        if not coming:
            return False
        now = time.monotonic()
        coming[:] = [reader for reader in coming if reader.until > now]
        if not coming:
            del self._coming[stream]
        return bool(coming)
