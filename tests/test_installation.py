"""Wheel, sdist and editable install, each used from a foreign folder as somebody else's project would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
from bounds import ROOT, copy_checkout

pytestmark = pytest.mark.slow

STAGES = ("collect", "annotate", "datasets", "train", "evaluate", "presets")
LIBRARIES = Path(sys.executable).parent.parent / "lib" / "python3.11" / "site-packages"
CLEAN = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
MINE = """
from semore.datasets.rollouts.store import Rollouts
from semore.datasets.presets import preset_path

laptop: int = preset_path("laptop")
reveal_type(Rollouts)
Rollouts(1, 2, 3)
"""
"""Wrong twice: what finds no types finds no fault in it."""
READ = """
import sys
from pathlib import Path
import semore.cli
from semore.datasets.knowledge.cache import KnowledgeCache
from semore.datasets.provenance import code_version
from semore.datasets.rollouts.store import Rollouts
from semore.datasets.presets import method_path, preset_section
print(Path(semore.__file__).parent)
print(len(preset_section("laptop", "train")), method_path("sac").name, code_version())
print([name for name in ("torch", "numba", "gymnasium", "scipy", "matplotlib") if name in sys.modules])
"""
BESIDE = """
from pathlib import Path
import datasets, evaluate
import semore.collect, semore.annotate, semore.datasets, semore.train, semore.evaluate
from semore.annotate.prompts import load_prompt
from semore.annotate.segment.cris_tiny.weights import WEIGHTS, about_weights, read_weights
from semore.datasets.rollouts.store import Rollouts
from semore.datasets.presets import preset_path
assert datasets.Dataset.from_dict({"a": [1, 2]}).num_rows == 2 and evaluate.EvaluationModule
read_weights(WEIGHTS)
for path in (datasets, evaluate, semore):
    print(Path(path.__file__).parent)
print(preset_path("debug"), load_prompt("describe-1").name)
"""


class Built(NamedTuple):
    """A copy of the checkout, and what was built of it."""

    checkout: Path
    wheel: Path
    sdist: Path


def run(*command: str | Path, cwd: Path, ok: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=CLEAN, capture_output=True, text=True)
    assert not ok or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def environment(folder: Path, *beside: Path) -> Path:
    """A new virtual environment that also sees the packages in the folders `beside`; its interpreter."""
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    if beside:
        site = folder / "lib" / "python3.11" / "site-packages"
        (site / "beside.pth").write_text("".join(f"{path}\n" for path in beside))
    return folder / "bin" / "python"


def install(interpreter: Path, *what: str | Path) -> None:
    run(interpreter, "-m", "pip", "--disable-pip-version-check", "install", "-q", *what, cwd=interpreter.parent)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    copy_checkout(folder / "checkout")
    interpreter = environment(folder / "build")
    install(interpreter, "setuptools>=77", "wheel")
    hook = "from setuptools import build_meta; import sys; build_meta.build_sdist(sys.argv[1])"
    run(interpreter, "-c", hook, folder, cwd=folder / "checkout")
    (sdist,) = folder.glob("*.tar.gz")
    # Of the sdist, as an installer without a wheel does: what the sdist lacks, the wheel lacks.
    pip = ("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation")
    run(interpreter, *pip, "-w", folder, sdist, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return Built(folder / "checkout", wheel, sdist)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Somebody else's project: a repository of its own with a commit, in which the environments lie."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE)
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@example.org")
    for arguments in (("init", "-q"), ("add", "mine.py"), ("commit", "-q", "-m", "theirs")):
        run(*git, *arguments, cwd=folder)
    return folder


def check_types(interpreter: Path, folder: Path, pyright: Path | None) -> None:
    """mypy, and pyright where npm has it, find our types and definitions and so what is wrong in a file of theirs."""
    mypy = (sys.executable, "-m", "mypy", "--strict", "--cache-dir", folder / "cache", "--python-executable")
    said = run(*mypy, interpreter, "mine.py", cwd=folder, ok=False).stdout
    assert 'mine.py:5: error: Incompatible types in assignment (expression has type "Path"' in said, said
    assert "semore.datasets.rollouts.store.Rollouts" in said, said
    assert 'mine.py:7: error: Too many arguments for "Rollouts"' in said, said
    if pyright is not None:
        said = run(pyright, "--pythonpath", interpreter, "mine.py", cwd=folder, ok=False).stdout
        assert 'mine.py:5:15 - error: Type "Path" is not assignable' in said, said
        assert 'Type of "Rollouts" is "type[Rollouts]"' in said, said
        assert "mine.py:7:13 - error: Expected" in said, said
        assert "could not be resolved" not in said, said


@pytest.fixture(scope="module")
def pyright(tmp_path_factory) -> Path | None:
    if shutil.which("npm") is None:
        return None
    folder = tmp_path_factory.mktemp("pyright")
    run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, "pyright", cwd=folder)
    return folder / "node_modules" / ".bin" / "pyright"


def test_wheel_and_sdist_hold_every_file_of_the_package(built: Built) -> None:
    listed = run("git", "ls-files", *STAGES, cwd=ROOT).stdout.split()
    wanted = {f"semore/{name}" for name in listed} | {"semore/py.typed", "semore/cli.py", "semore/__init__.py"}
    with zipfile.ZipFile(built.wheel) as archive:
        inside = set(archive.namelist())
        metadata = archive.read(next(name for name in inside if name.endswith(".dist-info/METADATA"))).decode()
    assert wanted - inside == set()
    assert {name.partition("/")[0] for name in inside} == {"semore", "semore-0.1.0.dist-info"}
    assert "Provides-Extra: train" in metadata
    with tarfile.open(built.sdist) as archive:
        members = archive.getmembers()
    assert {f"semore-0.1.0/src/{name}" for name in wanted} - {member.name for member in members} == set()
    assert not [member.name for member in members if member.issym() or member.islnk()], "links lead nowhere elsewhere"


def test_the_bare_installation_reads_data_without_torch(built: Built, foreign: Path) -> None:
    interpreter = environment(foreign / ".venv")
    install(interpreter, built.wheel)
    site = foreign / ".venv" / "lib" / "python3.11" / "site-packages"
    here, presets, heavy = run(interpreter, "-c", READ, cwd=foreign).stdout.splitlines()
    assert here == str(site / "semore")
    assert presets.endswith("sac.yaml 0.1.0"), "the revision of the repository that happens to hold the environment"
    assert heavy == "[]"
    installed = run(interpreter, "-m", "pip", "list", "--format", "freeze", cwd=foreign).stdout.lower()
    assert "numpy==" in installed
    assert "torch" not in installed
    command = foreign / ".venv" / "bin" / "semore"
    assert "record rollouts of a scenario" in run(command, "--help", cwd=foreign).stdout
    assert "export" in run(command, "datasets", "--help", cwd=foreign).stdout
    for name, extra in (("train", "train"), ("collect", "collect"), ("annotate", "annotate"), ("report", "report")):
        refused = run(command, name, "--help", cwd=foreign, ok=False)
        assert (refused.returncode, refused.stdout) == (1, "")
        (line,) = refused.stderr.splitlines()
        assert line.startswith("error: ")
        assert line.endswith(f"pip install 'semore[{extra}]'")


def test_beside_hugging_face_s_datasets_and_evaluate(built: Built, foreign: Path, pyright: Path | None) -> None:
    """All three in one process, from a foreign folder; the large packages are those of this environment."""
    interpreter = environment(foreign / ".venv", LIBRARIES)
    site = foreign / ".venv" / "lib" / "python3.11" / "site-packages"
    install(interpreter, "--no-deps", "--ignore-installed", built.wheel)
    install(interpreter, "datasets", "evaluate")
    theirs, others, ours, found = run(interpreter, "-c", BESIDE, cwd=foreign).stdout.splitlines()
    assert [theirs, others, ours] == [str(site / name) for name in ("datasets", "evaluate", "semore")]
    assert found == f"{site / 'semore' / 'presets' / 'debug.yaml'} describe-1"
    command = foreign / ".venv" / "bin" / "semore"
    assert "usage: semore train" in run(command, "train", "--help", cwd=foreign).stdout
    doctor = run(command, "doctor", "--models", "[]", cwd=foreign, ok=False).stdout
    assert "installed as a library, with the extras collect, train, annotate, report, cluster" in doctor
    check_types(interpreter, foreign, pyright)


def test_an_editable_installation(built: Built, foreign: Path, pyright: Path | None) -> None:
    interpreter = environment(foreign / ".venv", LIBRARIES)
    install(interpreter, "--ignore-installed", "setuptools>=77", "wheel")
    install(interpreter, "--no-deps", "--no-build-isolation", "--ignore-installed", "-e", built.checkout)
    done = run(interpreter, "-c", READ, cwd=foreign).stdout.splitlines()
    assert done[0] == str(built.checkout / "src" / "semore")
    assert done[1].endswith("sac.yaml 0.1.0"), "the copy has no revision"
    command = foreign / ".venv" / "bin" / "semore"
    assert "usage: semore train" in run(command, "train", "--help", cwd=foreign).stdout
    check_types(interpreter, foreign, pyright)
