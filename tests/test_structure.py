"""The structure that the folders promise: no import circle, data flow one way, and one name for each module."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
STAGES: Final = ("collect", "annotate", "datasets", "train", "evaluate")
MAY_USE: Final = {
    "datasets": (),
    "collect": ("datasets",),
    "annotate": ("datasets", "collect"),
    "train": ("datasets", "collect", "annotate"),
    "evaluate": ("datasets", "collect", "annotate", "train"),
}
"""Stage: the stages it imports; annotate drives the embedded world to train CRIS-tiny."""


def _modules() -> dict[str, Path]:
    """Dotted name: file, of the package's stages, its own modules, and the folders that are not installed."""
    found = {}
    apart = {"study": "study", "perf": "perf", "src/semore": "semore"}
    for folder, prefix in {**{stage: f"semore.{stage}" for stage in STAGES}, **apart}.items():
        top = ROOT / folder
        for file in top.rglob("*.py") if folder != "src/semore" else top.glob("*.py"):
            inside = file.relative_to(top).with_suffix("")
            parts = [part for part in inside.parts if part != "__init__"]
            found[".".join([prefix, *parts])] = file
    return found


MODULES: Final = _modules()


def _imports(module: str) -> set[str]:
    """The modules of ours that a module imports anywhere, in functions and for type checking too."""
    used = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            inner = {f"{node.module}.{name.name}" for name in node.names}
            used |= {name if name in MODULES else node.module for name in inner}
        elif isinstance(node, ast.Import):
            used |= {name.name for name in node.names if name.name in MODULES}
    return used


USES: Final = {module: _imports(module) for module in MODULES}


def test_no_module_imports_itself_by_way_of_others():
    left = dict(USES)
    while free := [module for module, used in left.items() if not used & left.keys()]:
        for module in free:
            del left[module]
    # What is left lies on a circle or above one; without what nobody in it imports, only circles and ways between them.
    while top := [module for module in left if not any(module in used for used in left.values())]:
        for module in top:
            del left[module]
    assert {module: sorted(used & left.keys()) for module, used in left.items()} == {}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_only_those_before_it(stage):
    foreign = {
        f"{module} -> {used}"
        for module, all_used in USES.items() if module.startswith(f"semore.{stage}")
        for used in all_used if used.startswith("semore.") and used.split(".")[1] in STAGES
        and used.split(".")[1] not in (stage, *MAY_USE[stage])
    }  # fmt: skip
    assert foreign == set()


def test_nothing_installed_imports_the_study_or_the_benchmarks():
    apart = ("study", "perf")
    assert {m for m, used in USES.items() if m.startswith("semore") and any(u.startswith(apart) for u in used)} == set()


def test_only_evaluation_and_the_study_load_pandas():
    """It takes half a second and memory that training, which many processes do, has no use for."""
    named = {module for module, file in MODULES.items() if "import pandas" in file.read_text(encoding="utf-8")}
    assert named
    assert {module for module in named if not module.startswith(("semore.evaluate.", "study."))} == set()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_one_name(stage):
    """From the root, its folder could be imported under another name, and every class would exist twice."""
    done = subprocess.run([sys.executable, "-c", f"import {stage}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: this folder is the package semore.{stage}")
