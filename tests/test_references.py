"""Every file, module, command and section that a docstring, a comment or a page names exists.

docs/lab-log.md and CHANGELOG.md are history: they keep the names of their time. docs/packages/ is written from the
files themselves (tests/test_package_pages.py)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

import pytest
from docs_code import TARGETS

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = ("collect", "annotate", "datasets", "train", "evaluate", "study", "perf", "tests")
FOLDERS: Final = (*PACKAGES, "presets", "checkpoints", "docs", "src")
HISTORY: Final = ("docs/lab-log.md", "CHANGELOG.md")
PROGRAMS: Final = ("tests/test_packages.py", "tests/test_installation.py")
"""Files whose texts are programs, for environments in which other names exist."""
GENERATED: Final = PurePosixPath("docs/packages")
"""Pages that docs/packages.py writes from the files themselves."""
LOOSE: Final = ("Makefile", "mkdocs.yml", "pyproject.toml", "compose.yaml")
"""Files at the top whose comments are read, beside the presets'."""

SUFFIXES: Final = "py|md|yaml|yml|toml|lock|css|js"
"""Endings of files that are written by hand; others (csv, json, html) are mostly made by commands."""
URL: Final = re.compile(r"\w+://\S+")
FILE: Final = re.compile(rf"(?<![\w.<>{{}}*/$-])(?:\.\./|\./)*(?:[\w.-]+/)*[\w-][\w.-]*\.(?:{SUFFIXES})(?![\w/*(-])")
INSIDE: Final = re.compile(rf"(?<![\w./<>{{}}*$-])(?:{'|'.join(FOLDERS)})/[\w.-][\w./-]*+(?![<{{…$])")
MODULE: Final = re.compile(rf"(?<![\w./-])(?:semore\.)?(?:{'|'.join(PACKAGES)})(?:\.\w+)+")
SECTIONS: Final = re.compile(r"(\w+)\.md(?:'s \w+ and \w+)?((?:[\s,(]|and|to|§\d+(?:\.\d+)?)+)")
COMMAND: Final = re.compile(r"(?:bin/|`)semore\s+([a-z][a-z-]+)")
MAKE: Final = re.compile(r"`make((?:\s+[a-z][a-z-]+)+)")
NUMBER: Final = re.compile(r"§(\d+(?:\.\d+)?)")
NAMED_FOLDER: Final = re.compile(r"([\w-]+)/(?=\s|`|$)")

DOCSTRING: Final = re.compile(r'"""(.*?)"""', re.DOTALL)
COMMENT: Final = re.compile(r"(?:^|\s)# (.*)")
OUTPUT: Final = ("data", "runs", "demo", "build")
"""Folders that commands make."""


class Passage(NamedTuple):
    """A docstring, a comment or a paragraph, and where it stands."""

    path: PurePosixPath
    line: int
    text: str


def tracked(suffix: str) -> list[PurePosixPath]:
    """Our files with this ending, relative to the repository; links into src/ are not followed."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob(f"*{suffix}")]
    return [PurePosixPath(path.relative_to(ROOT)) for path in [*found, *ROOT.glob(f"*{suffix}")]]


def of_python(path: PurePosixPath) -> Iterator[Passage]:
    """Docstrings, also those of constants and fields, and comments. Searched for as text: parsing takes seconds."""
    source = (ROOT / path).read_text(encoding="utf-8")
    for found in DOCSTRING.finditer(source):
        yield Passage(path, source.count("\n", 0, found.start()) + 1, found[1])
    yield from of_loose(path)


def of_loose(path: PurePosixPath) -> Iterator[Passage]:
    """Comments of a file in which they begin with #; those on adjacent lines are one passage."""
    lines = enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1)
    comments = {number: found[1] for number, line in lines if (found := COMMENT.search(line))}
    yield from (Passage(path, line, text) for line, text in joined(comments))


def of_page(path: PurePosixPath) -> Iterator[Passage]:
    """Paragraphs of a Markdown page."""
    lines = enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1)
    yield from (Passage(path, line, text) for line, text in joined({n: line for n, line in lines if line.strip()}))


def joined(lines: dict[int, str]) -> Iterator[tuple[int, str]]:
    """Adjacent lines as one text, with the number of its first."""
    first, last, held = 0, 0, list[str]()
    for number, line in lines.items():
        if held and number != last + 1:
            yield first, "\n".join(held)
            held = []
        first, last = (first, number) if held else (number, number)
        held.append(line)
    if held:
        yield first, "\n".join(held)


def passages() -> Iterator[Passage]:
    """Everything people read about the code, history apart."""
    for path in tracked(".py"):
        if str(path) not in PROGRAMS:
            yield from of_python(path)
    for path in [*map(PurePosixPath, LOOSE), *(path for path in tracked(".yaml") if path.parts[0] == "presets")]:
        yield from of_loose(path)
    for path in tracked(".md"):
        if str(path) not in HISTORY and GENERATED not in path.parents:
            yield from of_page(path)


@cache
def folders() -> frozenset[PurePosixPath]:
    """Every folder of ours."""
    return frozenset(parent for suffix in (".py", ".yaml") for path in tracked(suffix) for parent in path.parents)


def is_file(name: str, passage: Passage) -> bool:
    """Whether a file of that name is meant that exists: seen from the top, from beside the passage or from a folder
    above it, in docs/ for a page, or in a folder that the same passage names."""
    path = PurePosixPath(name)
    beside = [ROOT / parent for parent in passage.path.parents]
    pages = [ROOT / "docs"] if path.suffix == ".md" else []
    named = set(NAMED_FOLDER.findall(passage.text))
    near = [ROOT / folder for folder in folders() if folder.name in named] if len(path.parts) == 1 else []
    if path.parts[0] in OUTPUT or (path.parts[0] in FOLDERS and any(ROOT.glob(f"{path}*"))):
        return True
    return any((folder / path).exists() for folder in (ROOT, *beside, *pages, *near))


@cache
def names_in(module: PurePosixPath) -> dict[str, ast.AST]:
    """What a module defines at its top, by name."""
    found: dict[str, ast.AST] = {}
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name.partition(".")[0]: node for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.setdefault(node.name, node)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.setdefault(node.id, node)
    return found


def is_module(dotted: str) -> bool:
    """Whether a dotted name leads to a package or a module, and from there to a name that it defines and, in a class,
    to a member."""
    *_, last = parts = dotted.removeprefix("semore.").split(".")
    if last in SUFFIXES.split("|"):
        return True  # a file, which is looked for as one
    at = PurePosixPath(parts.pop(0))
    while parts and (ROOT / at / parts[0]).is_dir():
        at /= parts.pop(0)
    if parts and (ROOT / at / f"{parts[0]}.py").is_file():
        at /= f"{parts.pop(0)}.py"
    else:
        at /= "__init__.py"
    if not parts:
        return True
    if not (ROOT / at).is_file() or not (owner := names_in(at).get(parts[0])):
        return False
    if len(parts) == 1 or not isinstance(owner, ast.ClassDef):
        return True
    members = {node.name for node in owner.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    members |= {node.id for node in ast.walk(owner) if isinstance(node, ast.Name)}
    members |= {node.attr for node in ast.walk(owner) if isinstance(node, ast.Attribute)}
    return bool(owner.bases) or parts[1] in members


@cache
def sections(page: str) -> frozenset[str]:
    """The numbers of a page's headings."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    return frozenset(re.findall(r"^#+ (\d+(?:\.\d+)?) ", text, re.MULTILINE))


@cache
def commands() -> frozenset[str]:
    """The subcommands of `semore`."""
    return frozenset(re.findall(r'^    "([a-z-]+)": Command', (ROOT / "src/semore/cli.py").read_text(), re.MULTILINE))


def no_command(text: str) -> Iterator[str]:
    """The subcommands of `semore` and the targets of make that the text names and that do not exist."""
    yield from (f"command semore {found}" for found in set(COMMAND.findall(text)) - commands())
    yield from (f"target {found}" for found in {*" ".join(MAKE.findall(text)).split()} - TARGETS)


def missing(passage: Passage) -> Iterator[str]:
    """What the passage names that does not exist."""
    text = URL.sub(" ", passage.text)
    for found in {*FILE.findall(text), *(name.rstrip(".-/") for name in INSIDE.findall(text))}:
        if not is_file(found, passage):
            yield f"file {found}"
    for found in set(MODULE.findall(text)):
        if not is_module(found):
            yield f"name {found}"
    yield from no_command(text)
    own = passage.path.stem if str(passage.path) in ("docs/method.md", "docs/design.md") else ""
    cited = [(page, number) for page, after in SECTIONS.findall(text) for number in NUMBER.findall(after)]
    cited += [(own, number) for number in NUMBER.findall(SECTIONS.sub(" ", text)) if own]
    for page, number in cited:
        if not (ROOT / "docs" / f"{page}.md").is_file() or number not in sections(page):
            yield f"section {page}.md §{number}"


def test_what_is_named_exists():
    found = [f"{each.path}:{each.line}: no {name}" for each in passages() for name in missing(each)]
    assert not found, "\n".join(found)


def test_commands_in_messages_exist():
    """What an error or a hint says to type next. Tests may name what does not exist."""
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path in tracked(".py") if path.parts[0] != "tests"}
    found = [f"{path}: no {name}" for path, text in texts.items() for name in no_command(text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("see child.py", "file child.py"),
        ("as collect/driving.py says", "file collect/driving.py"),
        ("as `collect/env.py` says, and `presets/methods/sac.yaml`", ""),
        ("the tests in tests/contracts/", "file tests/contracts"),
        ("one of annotate.seams", "name annotate.seams"),
        ("semore.datasets.rollouts.schema.FIELDS", "name semore.datasets.rollouts.schema.FIELDS"),
        ("semore.datasets.rollouts.schema.ACTOR_FIELDS", ""),
        ("collect.env.DrivingEnv.reset", ""),
        ("datasets.rollouts.store.Rollouts.nothing", "name datasets.rollouts.store.Rollouts.nothing"),
        ("by method.md's order and notation (§4, §5.2)", ""),
        ("by method.md §2.3 to §2.9", "section method.md §2.9"),
        ("by design.md §3,\n§8.1", "section design.md §8.1"),
        ("run `semore collect --help`, or `.venv/bin/semore gather`", "command semore gather"),
        ("`make collect annotate SCENARIO=HighBeam`, then `make evaluate train-all`", "target train-all"),
        ("by models.md §2", "section models.md §2"),
    ],
)
def test_what_is_gone_is_found(text, gone):
    """The finder itself, on names of both kinds."""
    found = list(missing(Passage(PurePosixPath("collect/expert.py"), 1, text)))
    assert found == ["file models.md", gone] if "models" in text else found == [gone] * bool(gone)
