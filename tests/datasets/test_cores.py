"""Cores are those that this process may run on."""

from __future__ import annotations

import os
from pathlib import Path

from semore.datasets.cores import cores
from semore.datasets.provenance import environment
from semore.doctor import processor

ROOT = Path(__file__).resolve().parents[2]


def test_a_process_held_on_one_core_counts_one():
    ours = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(ours)})
        assert cores() == 1
        assert environment()["machine"].endswith(" 1 cores")
        assert processor().found.startswith("1 of " if (os.cpu_count() or 1) > 1 else "1 cores")
    finally:
        os.sched_setaffinity(0, ours)
    assert cores() == len(ours)


def test_nobody_else_counts_the_machine_s():
    """But the doctor, who tells both."""
    packages = ("collect", "annotate", "datasets", "train", "evaluate", "src")
    sources = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    assert [path.name for path in sources if "cpu_count(" in path.read_text(encoding="utf-8")] == ["doctor.py"]
