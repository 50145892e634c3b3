"""What the documentation tells people to type: all of it can be run, or says why not, and names what exists."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from functools import cache
from importlib import util
from pathlib import Path

import pytest
from docs_code import CODE, PAGES, PLAIN, ROOT, Block, blocks, commands, copy_compiled, copy_project, run_blocks

TUTORIALS = ("tutorial-laptop.md", "tutorial-carla.md", "tutorial-cluster.md")
"""They start in a fresh clone; all other pages start where the first of them ends."""
GUIDES = [page for page in PAGES if page.name not in TUTORIALS and any(
    block.language in CODE and not block.reason for block in blocks(page))]  # fmt: skip
SHELL = [block for page in PAGES for block in blocks(page) if block.language in ("bash", "sh")]
OURS = ("collect", "annotate", "datasets", "train", "evaluate", "perf")
MAKEFILE = (ROOT / "Makefile").read_text()


def test_every_block_is_run_or_output_and_has_a_language():
    for page in PAGES:
        assert page.read_text().count("\n```") == 2 * len(blocks(page)), f"{page.name}: a fence that was not understood"
        for block in blocks(page):
            assert block.language in CODE + PLAIN, f"{block}: name a language; {', '.join(PLAIN)} for what is not code"


def test_python_blocks_compile():
    for page in PAGES:
        for block in blocks(page):
            if block.language == "python":
                compile(block.code, str(block), "exec")


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_make_targets_and_variables_exist(block: Block):
    targets = set(re.findall(r"^([a-z][\w-]*):", MAKEFILE, re.MULTILINE))
    for line in commands(block.code):
        for words in re.findall(r"\bmake ((?:[^&|;\"']|\"[^\"]*\"|'[^']*')+)", line):
            for word in shlex.split(words):
                name, assigned, _ = word.partition("=")
                if assigned:
                    assert re.search(rf"\b{name}\b", MAKEFILE), f"{block}: make knows no variable {name}"
                else:
                    assert word in targets, f"{block}: make knows no target {word}"


@cache
def options(module: str) -> frozenset[str]:
    """What a module's --help offers. Commands of a module with several are asked one by one by the caller."""
    words = module.split()
    done = subprocess.run(
        [".venv/bin/python", "-m", *words, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"python -m {module} --help: {done.stderr}"
    return frozenset(re.findall(r"--[a-z][\w.-]*", done.stdout))


def modules_of(block: Block) -> list[tuple[str, list[str]]]:
    """Every `python -m <one of ours>` of a block with the words after it, and make's ARGS as words of the target."""
    found = []
    for line in commands(block.code):
        for module, rest in re.findall(r"python -m ([\w.]+)([^&|;]*)", line):
            if module.partition(".")[0] in OURS:
                found.append((module, rest.split()))
        for target, words in re.findall(r"\bmake (train|evaluate|collect|annotate)\b[^&|;]*?ARGS=\"([^\"]*)\"", line):
            found.append((target, words.split()))
    return found


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_modules_exist(block: Block):
    for module, _ in modules_of(block):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), f"{block}: no module {module}"


@cache
def words_of(package: str) -> frozenset[str]:
    """Whatever a package could call an option: fields of its classes, parameters of its functions, "--…" literals."""
    found: set[str] = set()
    for source in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(node.target.id)
            elif isinstance(node, ast.arg):
                found.add(node.arg)
            elif isinstance(node, ast.Constant) and str(node.value).startswith("--"):
                found.add(str(node.value)[2:])
    return frozenset(found)


def named_options(words: list[str]) -> set[str]:
    return {word.partition("=")[0].rstrip("'`,.") for word in words if re.match(r"--[a-z]", word)}


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_options_are_not_misspelt(block: Block):
    """Quick and a little lenient: each part of `--a.b` is the name of something in our sources."""
    known = frozenset().union(*(words_of(package) for package in OURS))
    for module, words in modules_of(block):
        for option in named_options(words) - {"--help"}:
            assert option[2:] in known or set(option[2:].split(".")) <= known, f"{block}: {module} has no {option}"


@pytest.mark.slow
@pytest.mark.parametrize("block", SHELL, ids=str)
def test_options_exist(block: Block):
    """Strict and slow: --help of each module lists them."""
    for module, words in modules_of(block):
        named = named_options(words)
        command = f"{module} {words[0]}" if module == "datasets" and named else module
        if named:
            assert not named - (options(command) | {"--help"}), f"{block}: {command} has no such option"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text):
        path, _, anchor = "".join(link).partition("#")
        if path.startswith(("http://", "https://")):
            continue
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name} links to {path}, which does not exist"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles]
            assert anchor in slugs, f"{page.name} links to {target.name}#{anchor}; it has {slugs}"


def test_every_page_is_in_the_navigation():
    named = re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text())
    assert sorted(named) == sorted(page.name for page in PAGES if page.name != "README.md")


@pytest.fixture(scope="module")
def after_tutorial(tmp_path_factory) -> Path:
    """A copy of the project in which the laptop tutorial has been followed."""
    project = tmp_path_factory.mktemp("tutorial") / "semore"
    copy_project(project)
    assert run_blocks(ROOT / "docs" / "tutorial-laptop.md", project) > 0
    return project


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_laptop_tutorial_runs(after_tutorial: Path):
    assert (after_tutorial / "runs" / "JayWalk-laptop" / "evaluation.csv").is_file()
    assert (after_tutorial / "runs" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", TUTORIALS[1:])
def test_tutorial_runs(name: str, tmp_path: Path):
    if name == "tutorial-carla.md" and util.find_spec("carla") is None:
        pytest.skip("the carla client is not installed: make setup SIM=carla")
    copy_project(tmp_path / "semore")
    assert run_blocks(ROOT / "docs" / name, tmp_path / "semore") > 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_page_runs(page: Path, after_tutorial: Path, tmp_path: Path):
    shutil.copytree(after_tutorial, tmp_path / "semore", symlinks=True)
    copy_compiled(tmp_path / "semore")
    run_blocks(page, tmp_path / "semore")


@pytest.mark.slow
@pytest.mark.skipif(util.find_spec("mkdocs") is None, reason="make docs installs mkdocs")
def test_the_site_builds_and_asks_no_other_host(tmp_path: Path):
    done = subprocess.run(
        [".venv/bin/python", "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        asked = re.findall(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"?(?:https?:)?//[^\">]*", page.read_text())
        assert not asked, f"{page.name} loads {asked}"
    assert (tmp_path / "repository" / "compose.yaml.txt").read_text() == (ROOT / "compose.yaml").read_text()
