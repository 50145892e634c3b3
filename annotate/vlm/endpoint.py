"""A vision-language model behind an OpenAI-compatible server, e.g. vLLM: many requests at once.

A request that fails stops no other one."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any, Final, TypeVar

import numpy as np
import openai
from numpy.typing import NDArray

from semore.annotate.settings import EndpointSettings
from semore.annotate.vlm.engine import Answer
from semore.annotate.vlm.pictures import picture, preprocessing
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.records import Identity

PNG_LEVEL: Final = 1
"""Lossless at any level; more would cost time."""
START_RETRIES: Final = 2
"""Further tries of the first request: a server that is not there should be reported soon."""
REFUSED: Final = (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError)
"""Answers (401, 403, 404) that every other request would get too: the user's to mend."""
REASON: Final = 200
"""Characters of a failure's reason."""

T = TypeVar("T")


class Endpoint:
    """The VisionLanguage engine behind a server (protocol: annotate.vlm.engine)."""

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self._checked = False

    def __reduce__(self) -> tuple[type[Endpoint], tuple[EndpointSettings]]:
        """A copy for another process is made there from the settings, as seams.Producers says."""
        return type(self), (self._settings,)

    @property
    def identity(self) -> Identity:
        """The model by the server's name for it, wherever the server is. What that name cannot tell, the server does
        not tell either: serve another dtype, quantisation or engine under another name."""
        return {
            "kind": "endpoint",
            "engine": "openai-endpoint",
            "model": self._settings.model,
            "preprocessing": f"{preprocessing(self._settings.upscale)}, png",
            "decoding": "temperature 0",
        }

    @property
    def max_new_tokens(self) -> int:
        """The settings' cap of a description."""
        return self._settings.max_new_tokens

    def load(self) -> None:
        """Check, once, that the server answers and, where it lists its models, that it has ours; SemoreError if not."""
        if not self._checked:
            self._check()
            self._checked = True

    def answer(self, rgb: NDArray[np.uint8], prompts: Sequence[str], max_new_tokens: int | None = None) -> list[Answer]:
        """See VisionLanguage.answer; a request that fails for good becomes an Answer with the reason. SemoreError when
        the server refuses the key or the model, or has gone away."""
        if len(rgb) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts for {len(rgb)} pictures")
        self.load()
        answers, lost = _run(self._answers(rgb, prompts, max_new_tokens or self.max_new_tokens))
        if lost == len(answers) > 0:
            self._check()  # frames are not to blame when nobody answers any more
        return answers

    async def _answers(self, rgb: NDArray[np.uint8], prompts: Sequence[str], cap: int) -> tuple[list[Answer], int]:
        """The answers, and how many of them were lost for want of a connection."""
        room, lost = asyncio.Semaphore(max(1, self._settings.in_flight)), 0

        async def ask(frame: NDArray[np.uint8], prompt: str) -> Answer:
            nonlocal lost
            async with room:
                try:
                    return _read(await client.chat.completions.create(**self._request(frame, prompt, cap)))
                except REFUSED:
                    raise
                except openai.APITimeoutError:
                    return Answer("", f"no answer within {self._settings.timeout:g} s, {self._tries}")
                except openai.APIConnectionError as error:
                    lost += 1
                    return Answer("", self._reason(f"connection lost, {self._tries}: {error.__cause__ or error}"))
                except openai.APIStatusError as error:
                    return Answer("", self._reason(f"HTTP {error.status_code}: {error.message}"))
                except (openai.OpenAIError, ValueError) as error:
                    return Answer("", self._reason(f"malformed response ({type(error).__name__}: {error})"))

        async with openai.AsyncOpenAI(**self._client(self._settings.retries)) as client:
            tasks = [asyncio.create_task(ask(*one)) for one in zip(rgb, prompts, strict=True)]
            try:
                return list(await asyncio.gather(*tasks)), lost
            except REFUSED as error:
                raise self._refused(error) from None
            finally:
                for task in tasks:
                    task.cancel()

    def _request(self, frame: NDArray[np.uint8], prompt: str, cap: int) -> dict[str, Any]:
        buffer = BytesIO()
        picture(frame, self._settings.upscale).save(buffer, "PNG", compress_level=PNG_LEVEL)
        url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt}]
        messages = [{"role": "user", "content": content}]
        return {"model": self._settings.model, "messages": messages, "temperature": 0, "max_tokens": cap}

    def _check(self) -> None:
        try:
            with openai.OpenAI(**self._client(min(START_RETRIES, self._settings.retries))) as client:
                listed = client.models.list()
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise self._refused(error) from None
        except openai.APIConnectionError as error:
            raise SemoreError(
                f"no server answers at {self._settings.url} ({self._reason(str(error.__cause__ or error))}); start it, "
                "or set endpoint.url to its base address ending in /v1"
            ) from None
        except (openai.OpenAIError, ValueError):
            return  # it is there, but lists no models: the first question will tell
        models = getattr(listed, "data", None)
        names = [str(getattr(model, "id", "")) for model in models] if isinstance(models, list) else []
        if names and self._settings.model not in names:
            raise SemoreError(
                f"the server at {self._settings.url} has no model {self._settings.model!r}; set endpoint.model to one "
                f"it has: {', '.join(names[:9])}"
            )

    def _refused(self, error: BaseException) -> SemoreError:
        settings, reason = self._settings, self._reason(str(error))
        if isinstance(error, openai.NotFoundError):
            return SemoreError(
                f"the server at {settings.url} knows no model {settings.model!r} or no chat completions ({reason}); "
                "set endpoint.model, and endpoint.url to the base address ending in /v1"
            )
        return SemoreError(
            f"the server at {settings.url} refuses the key ({reason}); put the right one into the environment variable "
            f"{settings.key_variable} (endpoint.key_variable)"
        )

    @property
    def _tries(self) -> str:
        return f"{self._settings.retries + 1} tries"

    @property
    def _key(self) -> str:
        """The key, or "", read anew each time so that it is stored nowhere."""
        return os.environ.get(self._settings.key_variable, "")

    def _client(self, retries: int) -> dict[str, Any]:
        key = self._key or "none"  # the library insists on one, and would else take that of OPENAI_API_KEY
        timeout = self._settings.timeout
        return {"base_url": self._settings.url, "api_key": key, "timeout": timeout, "max_retries": retries}

    def _reason(self, message: str) -> str:
        """One line that can be stored, without the key, which servers like to repeat."""
        hidden = message.replace(self._key, "<key>") if self._key else message
        return _line(hidden)


def _line(message: str) -> str:
    return " ".join(message.encode(errors="replace").decode().split())[:REASON]


def _read(response: Any) -> Answer:
    """The answer in a response of any shape."""
    choices = getattr(response, "choices", None)
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = getattr(choice, "message", None)
    if message is None:
        return Answer("", "malformed response: it holds no message")
    if refusal := getattr(message, "refusal", None):
        return Answer("", _line(f"refused: {refusal}"))
    text = getattr(message, "content", None)
    return Answer(text if isinstance(text, str) else "", cut=getattr(choice, "finish_reason", "") == "length")


def _run(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, also where an event loop runs in this thread already (notebooks)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
