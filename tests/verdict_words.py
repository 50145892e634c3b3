"""The words that only enough equal runs allow (evaluate.claims), for tests that nobody says them of less."""

from __future__ import annotations

import re

WORDS = re.compile(r"\b(ahead|behind|better|worse|wins|level)\b", re.IGNORECASE)


def said(text: str) -> list[str]:
    """Every verdict word in a text, with what stands around it."""
    return [text[max(0, found.start() - 40) : found.end() + 40] for found in WORDS.finditer(text)]
