"""How soon commands answer: help and mistakes are told before torch and what else takes seconds is imported.

Every case runs in a fork of one process that has imported every command's module and, so far, nothing heavy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from typing import Final

import pytest

from semore.cli import COMMANDS
from semore.datasets.rollouts.store import Rollouts

HEAVY: Final = (
    "torch", "pytorch_lightning", "lightning_fabric", "transformers", "matplotlib", "scipy", "numba", "dask", "imageio",
)  # fmt: skip
REFUSED: Final = (
    "train --method nope",
    "train --scenario nope",
    "train --preset nope",
    "train --simulator nope --rollouts there.zarr",
    "train --rollouts nope",
    "train --rollouts there.zarr",  # it lacks the knowledge set
    "evaluate --run nope",
    "evaluate --policies nope",
    "collect --scenario nope",
    "annotate --describer nope",
    "annotate --segmenter nope",
    "annotate --rollouts nope",
    "audit --knowledge nope",
    "report --runs nope",
    "compare --runs nope",
    "view --rollouts nope",
    "counterfactual --run nope",
    "sweep --vary agent.nope=1",
    "demo --scenarios nope",
    "opendrive",
    "cris-tiny --batch 3",
    "datasets show nope",
)
FORKS: Final = """
import json, os, sys
from importlib import import_module
from semore import cli
heavy, cases = json.loads(sys.argv[1])
for command in cli.COMMANDS.values():  # once for all cases
    import_module(f"semore.{command.module}")
    early = [name for name in heavy if name in sys.modules]
    assert not early, f"{command.module} imports {early}"
for case in cases:
    child = os.fork()
    if not child:
        null = os.open(os.devnull, os.O_RDWR)
        told = os.dup(1)
        for number in (0, 1, 2):
            os.dup2(null, number)
        sys.argv = ["semore", *case.split()]
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        found = sorted(name for name in heavy if name in sys.modules)
        os.write(told, (json.dumps([case, code, found]) + "\\n").encode())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, case
"""


@cache
def answered(folder: str) -> dict[str, tuple[int, list[str]]]:
    """What every case ended with, and which heavy modules it had imported by then."""
    cases = [*(f"{name} --help" for name in COMMANDS), *REFUSED]
    words = [sys.executable, "-c", FORKS, json.dumps([HEAVY, cases])]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SEMORE_")}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {case: (code, found) for case, code, found in map(json.loads, done.stdout.splitlines())}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    place = tmp_path_factory.mktemp("startup")
    Rollouts(place / "there.zarr").create()
    return str(place)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(folder, command):
    assert answered(folder)[f"{command} --help"] == (0, [])


@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_is_told_before_anything_heavy_is_imported(folder, case):
    code, found = answered(folder)[case]
    assert code in (1, 2)
    assert found == []
