"""The hints of the pipeline, each run as it was printed, from nothing to the report."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from stub_checkout import ROOT, make_checkout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # each command is a process of its own


class Shell:
    """Runs command lines in a checkout of its own, which calls this code."""

    def __init__(self, folder: Path) -> None:
        program = f'#!/bin/bash\nPYTHONPATH={ROOT}/src:{ROOT} exec {sys.executable} -m semore.cli "$@"\n'
        self.folder = make_checkout(folder, program)
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("SEMORE_")}
        self._environment["PATH"] = f"{folder}/.venv/bin:{self._environment['PATH']}"

    def _run(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", line], cwd=self.folder, env=self._environment, text=True, capture_output=True, check=False
        )

    def follow(self, line: str) -> str:
        """What the command says is next."""
        done = self._run(line)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        last = done.stdout.strip().splitlines()[-1]
        assert last.startswith("next: ")
        return last.removeprefix("next: ")

    def remedy(self, line: str) -> str:
        """The command that a refusal names."""
        done = self._run(line)
        assert done.returncode != 0
        (found,) = re.findall("`(.*)`", done.stderr)
        return str(found)

    def only(self, folder: str) -> str:
        """The name of the only thing in a folder, locks apart."""
        (path,) = (self.folder / folder).glob("[!.]*")
        return path.name


def test_semore_is_answered_with_semore(tmp_path):
    shell, names = Shell(tmp_path), "--preset debug --scenario HighBeam --rollouts x"
    train = f"semore train {names} --knowledge privileged"
    step = shell.follow(shell.remedy(f"semore audit {names} --knowledge privileged"))  # it collects
    assert step == f"semore annotate {names}"
    step = shell.follow(shell.remedy(f"{train} --run z"))  # it annotates
    assert shell.follow(f"semore audit {names} --knowledge privileged") == step == train
    assert shell.remedy("semore evaluate --run z").startswith("semore train")
    step = shell.follow(f"{train} --run z")
    evaluate = "semore evaluate --preset debug --scenario HighBeam --run z"
    assert shell.remedy("semore compare --runs z") == shell.remedy("semore report --run z") == step == evaluate
    step = shell.follow(step)
    assert step == shell.follow("semore compare --runs z") == "semore report --runs runs/z"
    shell.follow(step)
    assert (shell.only("runs"), shell.only("data/rollouts")) == ("z", "x.zarr")
    assert (tmp_path / "runs" / "z" / "report.html").exists()
    other = shell.follow("semore collect --preset debug --scenario HighBeam --rollouts w --first_seed 50")
    shell.follow(other)
    merged = shell.follow("semore datasets merge z x w")  # a run is called so already
    assert merged.endswith("--run z-2")
    annotate, train = merged.split(" && ")
    shell.follow(annotate)
    assert shell.follow(f"{train} --preset debug --data data").endswith("--run z-2")


def test_make_is_answered_with_make(tmp_path):
    shell, names = Shell(tmp_path), "PRESET=debug SCENARIO=HighBeam RUN=z ROLLOUTS=x KNOWLEDGE=y"
    step = shell.follow(f"make collect {names}")
    assert step == f"make annotate {names}"
    step = shell.follow(f"{step} SAMPLE=8")
    assert "SAMPLE=32" in step  # too few to tell
    while " annotate " in step:
        step = shell.follow(step)
    assert set(step.split()) == {"make", "train", *names.split()}
    step = shell.follow(step)
    assert set(step.split()) == {"make", "evaluate", *names.split()}
    step = shell.follow(step)
    assert step == "make report RUNS=runs/z"
    shell.follow(step)
    assert (shell.only("runs"), shell.only("data/rollouts"), shell.only("data/knowledge/sets")) == (
        *("z", "x.zarr"), "y.json",
    )  # fmt: skip
