"""Metrics on disk: each entry at once, cut back on resume, tolerant of a torn end; and speeds."""

from __future__ import annotations

import math

import pytest

from semore.train import log
from semore.train.log import MetricsFile, Speed
from semore.train.metrics import read_metrics


def test_what_is_logged_is_read_back_to_the_last_bit(tmp_path):
    path, file = tmp_path / "metrics.csv", MetricsFile(tmp_path / "metrics.csv", 0)
    values = {"loss/q": 0.1 + 0.2, "loss/actor": -1e-300, "replay/frames": 12.0, "loss/odd": math.inf}
    file.log_metrics(values, 7)
    assert list(read_metrics(path)) == [(7, name, value) for name, value in values.items()]  # before any closing
    file.log_metrics({"loss/q": float("nan")}, 8)
    *_, (update, name, value) = read_metrics(path)
    assert (update, name, math.isnan(value)) == (8, "loss/q", True)
    assert path.read_text().splitlines()[0] == "update,metric,value"


def test_a_resumed_run_drops_what_it_will_do_again(tmp_path):
    path = tmp_path / "metrics.csv"
    first = MetricsFile(path, 0)
    for update in (10, 20):
        first.log_metrics({"a": update / 3, "b": 1.0}, update)
    size = first.size()
    first.log_metrics({"a": 10.0, "b": 1.0}, 30)
    whole = path.read_text()
    path.write_text(whole + "30,c")  # the line a kill cut short
    MetricsFile(path, size).log_metrics({"a": 10.0, "b": 1.0}, 30)
    assert path.read_text() == whole
    MetricsFile(path, 0)
    assert list(read_metrics(path)) == []


def test_speeds_are_counted_between_two_entries(monkeypatch):
    now = iter([100.0, 104.0, 104.0])
    monkeypatch.setattr(log.time, "monotonic", lambda: next(now))
    speed = Speed()
    first = speed.since_last(50, 1000.0, 2.0)
    assert {name for name in first if "gpu" not in name} == {"speed/memory_gib"}
    assert 0.01 < first["speed/memory_gib"] < 1000
    second = speed.since_last(90, 1020.0, 3.5)
    assert second["speed/updates_per_s"] == pytest.approx(10.0)
    assert second["speed/decisions_per_s"] == pytest.approx(5.0)
    assert second["speed/waited_s"] == pytest.approx(1.5)
    assert math.isfinite(speed.since_last(91, 1020.0, 3.5)["speed/updates_per_s"])  # a clock that stood still
