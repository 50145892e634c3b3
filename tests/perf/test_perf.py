"""The benchmark runs and says what it promises; how fast anything is, is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KINDS = ["raw_render_fps", "env_fps", "env_with_recording_fps", "two_workers_fps"]
RATIOS = ["recording_over_raw", "two_workers_over_one"]


@pytest.mark.slow
def test_collect_prints_rates_as_its_last_line():
    command = [sys.executable, "-m", "perf.collect", "--rounds", "2", "--seconds", "0.05", "--sizes", "16", "24"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280)
    assert done.returncode == 0, done.stderr
    *told, last = done.stdout.splitlines()
    assert "24² night, round 2 of 2" in done.stdout
    assert any("recording over raw" in line for line in told)
    rates = json.loads(last)
    assert list(rates) == ["16", "24"]
    for skies in rates.values():
        assert list(skies) == ["day", "night"]
        for row in skies.values():
            assert list(row) == KINDS + RATIOS
            for spread in row.values():
                assert list(spread) == ["median", "least", "most"]
                assert 0 < spread["least"] <= spread["median"] <= spread["most"]


@pytest.mark.slow
def test_overlap_does_the_same_work_in_turns_and_beside():
    command = [sys.executable, "-m", "perf.overlap", "--quick", "--updates", "211"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["same_weights"]
    assert found["overlapped_over_in_turns"]["least"] > 0
    assert found["overlapped_decisions_per_s"]["least"] > 0
