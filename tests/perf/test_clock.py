"""What all benchmarks rest on: which laps count, and how ratios spread."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from perf.clock import Lap, Spread, disturbed, lap, rate, ratio, seconds, spread, take_turns

ROUNDS = [
    {"a": Lap(1.0, 0.0), "b": Lap(2.0, 0.05)},
    {"a": Lap(9.0, 0.9), "b": Lap(3.0, 0.0)},
    {"a": Lap(8.0, 0.5), "b": Lap(9.0, 0.2)},
]


def test_only_quiet_laps_count_where_there_are_any():
    assert seconds(ROUNDS, "a") == 1.0
    assert seconds(ROUNDS, "b") == 2.5
    assert ratio(ROUNDS, "b", "a") == 2.0
    assert ratio(ROUNDS[2:], "b", "a") == 9.0 / 8.0
    assert disturbed(ROUNDS) == 0.5
    assert rate(ROUNDS, "b") == Spread(0.4167, 0.3333, 0.5)


def test_a_ratio_tells_its_least_and_most():
    laps = [{"a": Lap(1.0, 0.0), "b": Lap(share, 0.0)} for share in (3.0, 1.0, 2.5)]
    assert spread(laps, "b", "a") == Spread(2.5, 1.0, 3.0)
    assert spread(laps, "b", "a").times(2.0) == Spread(5.0, 2.0, 6.0)
    assert f"{spread(laps, 'b', 'a'):.1f}" == "2.5 (1.0–3.0)"


def test_bodies_take_turns_and_may_time_themselves(capsys):
    calls = []
    laps = take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b") or 7.0}, 2, units=4, told="case")
    assert calls == ["a", "b", "a", "b"]
    assert [each["b"].seconds for each in laps] == [7.0, 7.0]
    assert all(each["a"].seconds < 0.1 for each in laps)
    assert "case, round 2 of 2: a " in capsys.readouterr().out


def test_what_our_own_children_compute_is_not_others():
    """Whether they have ended by then or not."""
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    told = lap(lambda: subprocess.run([sys.executable, "-c", busy], check=True) and None)
    child = subprocess.Popen([sys.executable, "-c", busy.replace("0.3", "60")])
    try:
        running = lap(lambda: time.sleep(0.4))
    finally:
        child.kill()
        child.wait()
    ours = lap(lambda: time.sleep(0.4)).others
    assert told.others < 0.3 + ours
    assert running.others < 0.3 + ours


@pytest.mark.parametrize("module", ["collect", "annotate", "replay", "carla"])
def test_every_benchmark_has_a_quick_form(module):
    pytest.importorskip("carla.libcarla" if module == "carla" else "numba")
    done = subprocess.run([sys.executable, "-m", f"perf.{module}", "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout
    assert "--rounds" in done.stdout
