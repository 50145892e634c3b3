"""`semore cris-tiny`: the whole way on a minuscule configuration, with a kill -9 in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SMALL = (
    "--frames",
    "18",
    "--test_frames",
    "18",
    "--steps",
    "40",
    "--batch",
    "2",
    "--save_every",
    "5",
    "--workers",
    "1",
)


def command(folder: Path, *more: str) -> list[str]:
    paths = ("--data", str(folder / "data"), "--weights", str(folder / "weights.safetensors"))
    return [sys.executable, "-m", "semore.annotate.segment.cris_tiny", *SMALL, *paths, *more]


def run(folder: Path, *more: str) -> str:
    return subprocess.run(command(folder, *more), check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_killed_half_way_it_ends_with_the_same_bytes(tmp_path):
    said = run(tmp_path / "whole")
    assert "mean IoU, all phrases" in said
    assert said.rstrip().splitlines()[-1].startswith("next: ")
    killed = subprocess.Popen(command(tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list((tmp_path / "killed" / "data").glob("checkpoint-*.pt")):
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "weights.safetensors").exists()
    run(tmp_path / "killed")
    whole, resumed = (tmp_path / name / "weights.safetensors" for name in ("whole", "killed"))
    assert whole.read_bytes() == resumed.read_bytes()
    assert "| ambulance ahead |" in run(tmp_path / "whole", "--evaluate_only", "true")


def test_settings_out_of_range_are_named(tmp_path):
    wrong = subprocess.run(command(tmp_path, "--batch", "3"), capture_output=True, text=True)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: batch 3 must be even")
