"""The describer that prompts a vision-language model, whichever engine runs it (method.md §5.1)."""

from __future__ import annotations

from typing import Final

from semore.annotate.interfaces import FrameBatch
from semore.annotate.prompts import load_prompt
from semore.annotate.vlm.engine import Answer, VisionLanguage
from semore.annotate.vlm.parse_vlm import PARSER_VERSION, parse_phrases
from semore.datasets.knowledge.records import Identity, Status, Text

PROMPT: Final = load_prompt("describe-1")


class PromptedDescriber:
    """Asks PROMPT about every frame and parses the answer's lines into phrases."""

    def __init__(self, engine: VisionLanguage) -> None:
        self._engine = engine

    @property
    def identity(self) -> Identity:
        """The engine's, with the prompt, the answer cap and the parser."""
        return {
            **self._engine.identity,
            "role": "describer",
            "prompt": f"{PROMPT.name} {PROMPT.digest}",
            "max_new_tokens": self._engine.max_new_tokens,
            "parser": PARSER_VERSION,
            "privileged": False,
        }

    def load(self) -> None:
        """Load the engine; SemoreError when it cannot be."""
        self._engine.load()

    def describe(self, batch: FrameBatch) -> list[Text]:
        """One Text per frame; FAILED where the engine gave no answer, EMPTY where it says nothing usable."""
        answers = self._engine.answer(batch.rgb, [PROMPT.text] * len(batch), self._engine.max_new_tokens)
        return [
            Text((), Status.FAILED, answer.failure) if answer.failure else parse_phrases(_whole_lines(answer))
            for answer in answers
        ]


def _whole_lines(answer: Answer) -> str:
    """Without the last line of an answer that the cap cut: half a phrase names something else, or nothing."""
    whole = answer.text.rstrip("\n").rpartition("\n")[0]
    return whole if answer.cut and whole.strip() else answer.text
