"""Refreshes by decisions: how many episodes that is, and that a run which drives so resumes exactly."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_agent import make_agent
from tiny_run import TINY, asked, assert_same_run, crash, interrupted, make_data, run_whole

from semore.datasets.errors import SemoreError
from semore.train.checkpoint import Checkpoint, read_checkpoint
from semore.train.refresh import Refresh, Refreshed
from semore.train.run import train

pytestmark = pytest.mark.usefixtures("short_runs", "no_export")


class Counting:
    """A crew that counts the episodes it is sent out for, and never comes home."""

    waited = 0.0

    def __init__(self) -> None:
        self.sent: list[int] = []

    def hand_in(self, job) -> Future:
        self.sent.append(len(job.seeds))
        return Future()


@pytest.mark.parametrize(
    ("decisions", "lengths", "expected"),
    [
        (0, [10] * 20, 6),
        (200, [50] * 8, 4),
        (200, [250] * 8, 1),
        (200, [10] * 8, 6),
        (200, [900] * 8, 1),
        (200, [5] * 30 + [100] * 8, 2),  # those of long ago do not count
    ],
)
def test_a_refresh_drives_as_many_episodes_as_its_decisions_take(tmp_path, decisions, lengths, expected):
    schedule = replace(TINY.schedule, refresh_decisions=decisions, refresh_episodes=6, delay=5)
    pool = SimpleNamespace(episodes=[(f"e{number}", length + 1) for number, length in enumerate(lengths)])
    crew, driven = Counting(), Refreshed(tmp_path / "refresh.zarr", "JayWalk", schedule, annotates=False)
    refresh: Any = Refresh(make_agent(), SimpleNamespace(pool=pool), None, driven, schedule, crew, lambda _: None)
    assert list(refresh.after(10)) == []
    assert crew.sent == [expected]


@pytest.mark.slow
def test_a_run_that_refreshes_by_decisions_resumes_to_the_same_weights(tmp_path):
    """Refreshes of different sizes, whose annotated frames are chosen among each one's own."""
    data = make_data(tmp_path / "data")
    schedule = replace(TINY.schedule, refresh_decisions=50, refresh_episodes=3, refresh_frames=9)
    whole = run_whole(asked(data, tmp_path / "whole", schedule=schedule))
    sizes = read_checkpoint(whole[0].folder / "last.ckpt", {})["refresh"]["sizes"]
    assert len(sizes) == 3
    assert max(sizes) > 1
    settings = asked(data, tmp_path / "torn", schedule=schedule)
    calls = iter(range(9))
    save = Checkpoint.save
    interrupted(settings, Checkpoint, "save", lambda self, parts: crash() if next(calls) == 3 else save(self, parts))
    assert_same_run(settings, train(settings), whole)


def test_a_negative_number_of_decisions_is_refused():
    with pytest.raises(SemoreError, match=r"schedule\.refresh_decisions is -1; it must be at least 0"):
        replace(TINY, schedule=replace(TINY.schedule, refresh_decisions=-1)).validate()
