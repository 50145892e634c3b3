"""An OpenAI-compatible server on this machine that misbehaves on demand, and counts what it is asked."""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from PIL import Image


class Reply(NamedTuple):
    """What goes back for one request."""

    body: Any = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    drop: bool = False


def say(text: Any, finish: str = "stop", **message: Any) -> Reply:
    """A well-formed completion."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    return Reply({"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]})


def trouble(status: int, message: str = "trouble", **headers: str) -> Reply:
    """An error as such servers word it; header names with _ for -."""
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Reply({"error": {"message": message, "type": "error", "code": status}}, status, named)


DROP = Reply(drop=True)


class Asked(NamedTuple):
    """One chat request: the picture's number (its first pixel), how often that was asked before, and all the rest."""

    number: int
    attempt: int
    picture: np.ndarray
    prompt: str
    body: dict[str, Any]
    key: str


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # the default of 5 would make connections wait for a second

    def handle_error(self, *_: Any) -> None:
        """A client that gave up is what the tests are about."""


@dataclass
class Loopback:
    """`with Loopback(behave) as server`: `behave(asked)` gives the Reply to each chat request; `models` the one to GET
    models."""

    behave: Callable[[Asked], Reply]
    models: Reply = field(default_factory=lambda: Reply({"object": "list", "data": [{"id": "tiny"}, {"id": "other"}]}))
    asked: list[Asked] = field(default_factory=list)
    checks: int = 0
    most: int = 0
    _now: int = 0

    def __enter__(self) -> Loopback:
        self._lock, self._over, self._attempts = threading.Lock(), threading.Event(), Counter[int]()
        loopback = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                loopback.checks += 1
                self.reply(loopback.models)

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                with loopback._counted():
                    self.reply(loopback._answer(json.loads(raw), self.headers.get("authorization", "")))

            def reply(self, reply: Reply) -> None:
                loopback._over.wait(reply.delay)
                if reply.drop or loopback._over.is_set():
                    self.close_connection = True
                    return
                raw = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in (("content-type", "application/json"), *reply.headers):
                    self.send_header(name, value)
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def _answer(self, body: dict[str, Any], authorization: str) -> Reply:
        image, text = body["messages"][0]["content"]
        header, _, data = image["image_url"]["url"].partition(",")
        assert header == "data:image/png;base64"
        picture = np.asarray(Image.open(BytesIO(base64.b64decode(data))))
        number = int(picture[0, 0, 0])
        with self._lock:
            attempt = self._attempts[number]
            self._attempts[number] += 1
            asked = Asked(number, attempt, picture, text["text"], body, authorization.removeprefix("Bearer "))
            self.asked.append(asked)
        return self.behave(asked)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            yield
        finally:
            with self._lock:
                self._now -= 1
