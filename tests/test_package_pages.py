"""The page of every package says of each file what it is for, as the files say themselves."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))
from packages import pages  # noqa: E402


def test_the_committed_pages_are_what_the_files_say():
    stale = [path.name for path, text in pages().items() if not path.exists() or path.read_text("utf-8") != text]
    assert stale == [], "run `.venv/bin/python docs/packages.py`"


def test_every_file_says_what_it_is_for_in_one_sentence():
    for path, text in pages().items():
        for line in text.splitlines():
            assert not line.endswith("|  |"), f"{path.name}: {line}"
