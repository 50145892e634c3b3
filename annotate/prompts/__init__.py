"""The prompts of vision-language models: one text file each, named by version. A changed text is a new file."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from semore.datasets.atomic_io import digest16

FOLDER: Final = Path(__file__).parent


class Prompt(NamedTuple):
    """A prompt: its file's name without ending, its text, and the digest (hex) of the file's bytes."""

    name: str
    text: str
    digest: str


def load_prompt(name: str) -> Prompt:
    """The prompt of `<name>.txt` in this folder."""
    raw = (FOLDER / f"{name}.txt").read_bytes()
    return Prompt(name, raw.decode().strip(), digest16(raw).hex())
