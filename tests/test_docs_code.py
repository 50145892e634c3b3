"""What the documentation tells people to type: all of it can be run, or says why not, and names what exists."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import util
from pathlib import Path

import pytest
from docs_code import (
    CODE,
    PAGES,
    PLAIN,
    ROOT,
    TARGETS,
    Block,
    blocks,
    commands,
    copy_compiled,
    copy_project,
    run_blocks,
    surroundings,
)

from semore.cli import COMMANDS
from semore.datasets.__main__ import COMMANDS as DATASETS
from semore.datasets.command_line import VARIABLES

TUTORIALS = ("tutorial-laptop.md", "tutorial-carla.md", "tutorial-cluster.md")
"""They start in a fresh clone; all other pages start where the first of them ends."""
GUIDES = [page for page in PAGES if page.name not in TUTORIALS and any(
    block.language in CODE and not block.reason for block in blocks(page))]  # fmt: skip
SHELL = [block for page in PAGES for block in blocks(page) if block.language in ("bash", "sh")]
STAGES = ("collect", "annotate", "datasets", "train", "evaluate")
APART = ("study", "perf")
"""Ours, too, but started with `python -m`."""
MADE = re.compile(r"\bmake ((?:[^&|;\"']|\"[^\"]*\"|'[^']*')+)")
"""What make is told to do in a line of shell."""


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
    for line in commands(block.code):
        for made in MADE.findall(line):
            for word in shlex.split(made):
                name, assigned, _ = word.partition("=")
                if assigned:
                    assert name in {*VARIABLES, "ARGS", "PYTHON"}, f"{block}: make knows no variable {name}"
                else:
                    assert word in TARGETS, f"{block}: make knows no target {word}"


@cache
def options(command: str) -> frozenset[str]:
    """What a command's --help offers: one of semore's, or `python -m` and a module of ours."""
    program = [".venv/bin/python", "-m"] if command.partition(".")[0] in APART else [".venv/bin/semore"]
    done = subprocess.run(
        [*program, *command.split(), "--help"],
        cwd=ROOT, capture_output=True, text=True, env=surroundings(ROOT), check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command} --help: {done.stderr}"
    return frozenset(re.findall(r"--[a-z][\w.-]*", done.stdout))


def calls(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Every command of ours in a block with the words after it: of semore, `python -m <study or perf>`, and make's
    targets with ARGS. A command of `semore datasets` has two words."""
    for line in commands(block.code):
        for command, rest in re.findall(r"\bsemore ([a-z-]+)([^&|;]*)", line):
            words = rest.split()
            yield (f"datasets {words[0]}", words[1:]) if command == "datasets" else (command, words)
        for module, rest in re.findall(r"python -m ([\w.]+)([^&|;]*)", line):
            if module.partition(".")[0] in (*STAGES, *APART):
                yield module, rest.split()
        for made in MADE.findall(line):
            words = shlex.split(made)
            given = dict(word.split("=", 1) for word in words if "=" in word)
            for target in sorted(set(words) & set(COMMANDS)):
                yield target, shlex.split(given.get("ARGS", ""))


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_commands_exist(block: Block):
    for command, _ in calls(block):
        if command.partition(".")[0] in APART:
            path = ROOT / command.replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), f"{block}: no {command}"
        else:
            name, _, second = command.partition(" ")
            assert name in COMMANDS, f"{block}: no semore {name}"
            assert name != "datasets" or second in DATASETS, f"{block}: no semore {command}"


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
    """Quick and a little lenient: each part of `--a.b` is the name of something in our sources. Lists take words, not
    brackets, which a shell may take for a pattern."""
    known = frozenset().union(*(words_of(package) for package in (*STAGES, *APART)))
    for command, words in calls(block):
        for option in named_options(words) - {"--help"}:
            assert option[2:] in known or set(option[2:].split(".")) <= known, f"{block}: {command} has no {option}"
        assert not [word for word in words if re.match(r"'?\[", word)], f"{block}: write the list as words"


@pytest.mark.slow
@pytest.mark.parametrize("block", SHELL, ids=str)
def test_options_exist(block: Block):
    """Strict and slow: --help of each command lists them."""
    for command, words in calls(block):
        if named := named_options(words):
            assert not named - (options(command) | {"--help"}), f"{block}: {command} has no such option"


@pytest.mark.slow
@pytest.mark.parametrize("block", SHELL, ids=str)
def test_variables_reach_a_command(block: Block):
    """None of the variables in a line of make is without effect. (SIM also installs the CARLA client; producers also
    name the knowledge set that is read.)"""
    for line in commands(block.code):
        for words in map(shlex.split, MADE.findall(line)):
            for name in {word.partition("=")[0] for word in words} & set(VARIABLES) - {"SIM"}:
                setting, only = VARIABLES[name]
                asked = {f"--{setting}", *(["--knowledge"] if name in ("DESCRIBER", "SEGMENTER") else [])}
                takers = [each for each in words if each in (only or COMMANDS) and asked & options(each)]
                assert takers, f"{block}: {name} does nothing in `make {' '.join(words)}`"


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
    named = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text())
    pages = [page.relative_to(ROOT) for page in [*PAGES, *(ROOT / "docs" / "packages").glob("*.md")]]
    inside = [re.sub(r"^docs/|(?<=^study/)docs/", "", str(page)) for page in pages]
    assert sorted(named) == sorted(page for page in inside if page != "README.md")


def table_under(title: str) -> list[list[str]]:
    """The rows of the table in a section of docs/commands.md, without its head."""
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", (ROOT / "docs" / "commands.md").read_text(), re.M | re.S)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return rows[2:]


def test_the_page_of_commands_lists_all():
    assert {name.strip("`"): bool(made) for name, made, _ in table_under("Commands")} == {
        name: name in TARGETS for name in COMMANDS
    }
    (alone,) = re.findall(r"^Of make alone: (.*)\.$", (ROOT / "docs" / "commands.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"`([\w-]+)`", alone)) == TARGETS - set(COMMANDS)


def test_the_page_of_commands_lists_makes_variables():
    rows = table_under("Variables")
    assert {name.strip("`"): setting.strip("`") for name, setting, _ in rows} == {
        name: variable.setting for name, variable in VARIABLES.items()
    }
    for name, _, about in rows:
        only = VARIABLES[name.strip("`")].commands
        assert about.startswith(f"of {', '.join(f'`{each}`' for each in only)}:") or not only, name


def test_a_copy_of_the_project_runs_its_own_code(tmp_path: Path):
    """Not the code that .venv has installed, which is this tree's."""
    project = tmp_path / "semore"
    copy_project(project)
    asked = "import semore.cli as a, semore.collect as b, study as c; print(a.__file__, b.__file__, c.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=tmp_path, capture_output=True, text=True, env=surroundings(project), check=True,
    )  # fmt: skip
    assert [Path(file).relative_to(project) for file in done.stdout.split()] == [
        Path("src/semore/cli.py"), Path("src/semore/collect/__init__.py"), Path("study/__init__.py"),
    ]  # fmt: skip
    assert (project / "src" / "semore" / "collect" / "env.py").samefile(project / "collect" / "env.py")


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
        cwd=ROOT, capture_output=True, text=True, env=surroundings(ROOT) | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        asked = re.findall(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"?(?:https?:)?//[^\">]*", page.read_text())
        assert not asked, f"{page.name} loads {asked}"
    assert (tmp_path / "repository" / "compose.yaml.txt").read_text() == (ROOT / "compose.yaml").read_text()
