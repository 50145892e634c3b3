"""The judge that prompts a vision-language model, whichever engine runs it (method.md §6.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from semore.annotate.interfaces import FrameBatch, Verdict
from semore.annotate.prompts import load_prompt
from semore.annotate.vlm.engine import VisionLanguage
from semore.annotate.vlm.parse_vlm import PARSER_VERSION, parse_verdict
from semore.datasets.knowledge.records import Identity, Status

PROMPT: Final = load_prompt("judge-1")
CAP: Final = 4
"""New tokens of a verdict at most."""


class PromptedJudge:
    """Asks PROMPT, with the action's words in it, about every frame and parses the 1 or 0 of the answer."""

    def __init__(self, engine: VisionLanguage) -> None:
        self._engine = engine

    @property
    def identity(self) -> Identity:
        """The engine's, with the prompt, the answer cap and the parser."""
        return {
            **self._engine.identity,
            "role": "judge",
            "prompt": f"{PROMPT.name} {PROMPT.digest}",
            "max_new_tokens": CAP,
            "parser": PARSER_VERSION,
            "privileged": False,
        }

    def load(self) -> None:
        """Load the engine; SemoreError when it cannot be."""
        self._engine.load()

    def judge(self, batch: FrameBatch, actions: Sequence[str]) -> list[Verdict]:
        """One Verdict per frame; FAILED where the engine gave no answer, EMPTY where it is neither 1 nor 0."""
        prompts = [PROMPT.text.replace("{action}", words) for words in actions]
        answers = self._engine.answer(batch.rgb, prompts, CAP)
        return [
            Verdict.invalid(answer.failure, Status.FAILED) if answer.failure else parse_verdict(answer.text)
            for answer in answers
        ]
