"""The benchmark of the CARLA adapter runs and says what it promises; how fast anything is, is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("carla.libcarla", reason="the carla wheel is not installed: make setup SIM=carla")

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_prints_rates_as_its_last_line() -> None:
    command = [sys.executable, "-m", "perf.carla", "--rounds", "2", "--seconds", "0.1", "--size", "32"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280)
    assert done.returncode == 0, done.stderr
    *told, last = done.stdout.splitlines()
    assert "colour, round 2 of 2" in done.stdout
    assert any("colour: own, ms" in line and "≤ 2" in line for line in told)
    found = json.loads(last)
    assert (found.pop("size"), found.pop("scenario")) == (32, "HighBeam")
    assert found.pop("server") not in ("", "unreal")
    assert list(found) == ["empty", "colour", "three", "all"]
    for name, rates in found.items():
        keys = ["ticks_per_s", "tick_ms", "camera_ms", "own_ms", "own_share", "cpu_ms"]
        assert list(rates) == keys + ["decode_ms"] * (name == "all")
        middle = {key: spread["median"] for key, spread in rates.items()}
        assert all(middle[key] > 0 for key in rates if name != "empty" or key != "camera_ms")
        assert name != "all" or middle["decode_ms"] < middle["own_ms"]
