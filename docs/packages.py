"""Writes docs/packages/*.md, a page per package: each file's purpose, from the first sentence of its docstring.

`.venv/bin/python docs/packages.py`; a test compares the pages with what this would write."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = ("collect", "annotate", "datasets", "train", "evaluate", "study", "perf")
APART: Final = ("study", "perf")
"""Not part of what is installed."""


def page(package: str) -> str:
    """The page of a package: its own docstring, then a table of files for each folder of it."""
    top = ROOT / package
    lines = [f"# {package}/", "", _docstring(top / "__init__.py") if (top / "__init__.py").exists() else "", ""]
    name = package if package in APART else f"semore.{package}"
    lines += [f"Imported as `{name}`. Written by `docs/packages.py` from the files' own docstrings.", ""]
    for folder in sorted({top, *(path.parent for path in top.rglob("*.py"))}):
        files = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
        if folder != top:
            about = _docstring(folder / "__init__.py")
            lines += [f"## {folder.relative_to(ROOT)}/", "", *([about, ""] if about else [])]
        if files:
            lines += ["| file | what it is for |", "|---|---|"]
            lines += [f"| [{path.name}](../../{path.relative_to(ROOT)}) | {_first_sentence(path)} |" for path in files]
            lines += [""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def pages() -> dict[Path, str]:
    """Every page's path and text."""
    return {ROOT / "docs" / "packages" / f"{package}.md": page(package) for package in PACKAGES}


def _docstring(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path.exists() else None
    return (text or "").replace("|", "\\|")


def _first_sentence(path: Path) -> str:
    """Up to the first full stop that ends a sentence, or the first empty line."""
    paragraph = " ".join(_docstring(path).split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s+(?=[A-Z`])", paragraph)[0]


if __name__ == "__main__":
    for target, text in pages().items():
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8")
        print(target.relative_to(ROOT))
