"""The code of the documentation: fenced blocks of Markdown pages, and a copy of the project where they can be run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PAGES: Final = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "study" / "docs").glob("*.md")])
CODE: Final = ("bash", "sh", "python")
PLAIN: Final = ("text", "yaml", "json")
"""Languages of what nobody runs: output, file contents."""
TARGETS: Final = frozenset(
    word
    for names in re.findall(r"^([a-z][a-z -]*):(?!=)|^commands := (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for word in " ".join(names).split()
)
"""The targets of make."""
_BLOCK: Final = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+?) -->\n+)?```(?P<info>.*)\n(?P<code>(?:(?!```).*\n)*)```$", re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, its language, its code, and why it is not run (empty: it is)."""

    page: Path
    line: int
    language: str
    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order. `<!-- not run: reason -->` before a fence exempts it."""
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, found.start("info")) + 1, found["info"].strip(), found["code"],
              found["reason"] or "")
        for found in _BLOCK.finditer(text)
    ]  # fmt: skip


def commands(code: str) -> list[str]:
    """The lines of shell code without comments, continuation lines joined."""
    joined = code.replace("\\\n", " ")
    return [line for each in joined.splitlines() if (line := re.sub(r"(^|\s)#.*", "", each).strip())]


def copy_project(target: Path) -> None:
    """What a clone of the project has, with our .venv, its compiled world, and a laptop preset of the debug one's size.

    Links stay links: those of src/semore then lead to the copy's own stages. Lock files are dated back, so that make
    takes .venv for up to date and never installs the copy into it.
    """
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
    (target / ".venv").symlink_to(ROOT / ".venv")
    for lock in [target / "pyproject.toml", *target.glob("requirements*.lock")]:
        os.utime(lock, (0, 0))
    debug = (ROOT / "presets" / "debug.yaml").read_text()
    (target / "presets" / "laptop.yaml").write_text(debug.replace("  preset: debug\n", ""))
    copy_compiled(target)


def copy_compiled(target: Path) -> None:
    """numba files a module's machine code under its folder's path: a copy elsewhere would compile for minutes."""
    from numba.core.caching import _CacheLocator  # a second to import, and only slow tests come here

    world = Path("src", "semore", "collect", "embedded")
    kept = world / "__pycache__"
    for folder in {source.parent.relative_to(ROOT) for source in (ROOT / world).rglob("*.py")}:
        here, there = (_CacheLocator.get_suitable_cache_subpath(str(root / folder / "a.py")) for root in (ROOT, target))
        for compiled in (ROOT / kept).glob(f"numba-*/{here}"):
            shutil.copytree(compiled, target / kept / compiled.parent.name / there, dirs_exist_ok=True)


def surroundings(project: Path) -> dict[str, str]:
    """The environment for commands of a copy: its own sources stand before those that .venv has installed, both for
    `.venv/bin/semore` and for `.venv/bin/python -m study`; nothing is known of the make that runs the tests, nor of
    what an earlier run has exported into the user's own folders."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "SEMORE_"))}
    own = {"PYTHONPATH": f"{project / 'src'}:{project}", "MINARI_DATASETS_PATH": str(project / "minari")}
    return kept | own | {"COLUMNS": "120"}


def run_blocks(page: Path, project: Path) -> int:
    """Runs the page's blocks in order in a copy of the project; AssertionError with the output at the first that fails.
    What a page leaves running in the background ends with it. Returns how many were run."""
    environment = surroundings(project)
    ready = [block for block in blocks(page) if block.language in CODE and not block.reason]
    sessions: list[subprocess.Popen[bytes]] = []
    try:
        for block in ready:
            python = block.language == "python"
            words = [".venv/bin/python", "-c"] if python else ["bash", "-euo", "pipefail", "-c"]
            with (project / "block.log").open("wb") as log:
                session = subprocess.Popen(
                    [*words, block.code], cwd=project, env=environment, start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                )  # fmt: skip
            sessions.append(session)
            code = session.wait()
            said = (project / "block.log").read_text(errors="replace")
            assert code == 0, f"{block} ended with code {code}:\n{block.code}\n{said[-6000:]}"
    finally:
        for session in sessions:
            if session.poll() is None or _alive(session.pid):
                os.killpg(session.pid, signal.SIGTERM)
    return len(ready)


def _alive(group: int) -> bool:
    """Whether anything of a process group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
