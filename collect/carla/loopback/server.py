"""The loopback server's loop: one thread answers procedures, feeds streams, and ticks the world."""

from __future__ import annotations

import selectors
import socket
import time
from threading import Event
from typing import Any, Final

import msgpack

from semore.collect.carla.loopback import wire
from semore.collect.carla.loopback.faults import Fault
from semore.collect.carla.loopback.links import Link, listen
from semore.collect.carla.loopback.procedures import Procedures
from semore.collect.carla.loopback.simulation import Simulation
from semore.collect.carla.loopback.streams import Streams

_PACE: Final = 0.05  # s between two ticks of the free-running world
_PATIENCE: Final = 0.2  # s without a call after which the loop looks whether it is to stop


class Server:
    """Serves one world on two neighbouring ports of `host` until `run` is interrupted; OSError when they are taken."""

    def __init__(self, host: str, port: int, map_name: str, fault: Fault) -> None:
        self._selector = selectors.DefaultSelector()
        self._calls, self._subscriptions = listen(host, port)
        self.port = int(self._calls.getsockname()[1])
        self._links: set[Link] = set()
        self._streams = streams = Streams()
        self._fault = fault
        self._simulation = Simulation(map_name, streams.send, streams.wanted, fault)
        self._procedures = Procedures(self._simulation, host, self.port, self.tick, streams.expect)
        for listener, made in ((self._calls, _Calls), (self._subscriptions, _Subscription)):
            self._selector.register(listener, selectors.EVENT_READ, made)

    def run(self, stop: Event | None = None) -> None:
        """Serve until `stop` is set, or for ever."""
        due = time.monotonic()
        while stop is None or not stop.is_set():
            wait = _PATIENCE if self._simulation.synchronous else max(0.0, due - time.monotonic())
            for key, events in self._selector.select(wait):
                if isinstance(key.data, type):
                    self._welcome(key.fileobj, key.data)
                else:
                    key.data.ready(events)
            if not self._simulation.synchronous and time.monotonic() >= due:
                self._simulation.tick()
                due = time.monotonic() + _PACE

    def tick(self) -> int:
        """One tick of the world as a client asks for it, with whatever fault is due; the new frame's number."""
        self._fault.tick_asked()
        if self._fault.drops():
            self.hang_up()
        return self._simulation.tick()

    def answer(self, name: str, arguments: list[Any]) -> Any:
        return self._procedures.call(name, arguments)

    def subscribe(self, stream: int, link: Link) -> None:
        self._streams.subscribe(stream, link)

    def hang_up(self) -> None:
        """Close every connection, but not the ports."""
        for link in self._links:
            link.close()
        self._links.clear()
        self._streams.clear()

    def close(self) -> None:
        """Give back every socket."""
        self.hang_up()
        for listener in (self._calls, self._subscriptions):
            self._selector.unregister(listener)
            listener.close()
        self._selector.close()

    def _welcome(self, listener: Any, made: type[_Calls] | type[_Subscription]) -> None:
        assert isinstance(listener, socket.socket)
        try:
            connection, _ = listener.accept()
        except OSError:  # it has gone again
            return
        visitor = made(self)
        visitor.link = Link(connection, self._selector, visitor)
        self._links = {link for link in self._links if link.open} | {visitor.link}


class _Calls:
    """A connection that calls procedures."""

    link: Link

    def __init__(self, server: Server) -> None:
        self._server = server
        self._unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=2**28)

    def ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self.link.flush()
        if not events & selectors.EVENT_READ:
            return
        try:
            self._unpacker.feed(self.link.receive())
            for message in self._unpacker:
                number, name, arguments = wire.request(message)
                self.link.send(wire.reply(number, self._server.answer(name, arguments)))
        except (ValueError, msgpack.UnpackException):  # not msgpack-RPC: some other kind of client
            self.link.close()


class _Subscription:
    """A connection that reads one stream: the client says which, then only listens."""

    link: Link

    def __init__(self, server: Server) -> None:
        self._server = server
        self._head = b""

    def ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self.link.flush()
        if events & selectors.EVENT_READ:
            before = len(self._head)
            self._head = (self._head + self.link.receive())[:4]
            if before < 4 <= len(self._head):
                self._server.subscribe(int.from_bytes(self._head, "little"), self.link)
