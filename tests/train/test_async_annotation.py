"""Refreshes annotated at once or meanwhile: what is due when, the journal, and resume with it."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_run import TINY, asked, know, make_data, metrics, short_envs

from semore.annotate.settings import ExecutorSettings
from semore.datasets.atomic_io import read_json
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.store import Rollouts
from semore.train import online
from semore.train import run as run_module
from semore.train.agent import Agent
from semore.train.async_annotation import AsyncAnnotation, Group, grouped
from semore.train.checkpoint import read_checkpoint
from semore.train.metrics import read_metrics
from semore.train.run import train

pytestmark = pytest.mark.filterwarnings("ignore:No complete tensor", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


class Gated(AsyncAnnotation):
    """A backlog whose annotation of group n takes until `gates[n]` opens, and says nothing of a cache."""

    def __init__(self, journal: Path, waits: bool = False) -> None:
        super().__init__(lambda: pytest.fail("no annotator wanted"), ExecutorSettings(), journal, waits)
        self.gates = {number: threading.Event() for number in range(5)}
        self.fails: set[int] = set()

    def _annotate(self, group: Group) -> None:
        torch.rand(5)
        assert self._waits or self.gates[group.number].wait(30)
        if group.number in self.fails:
            raise SemoreError("the disk is full")

    def finish(self, number: int) -> None:
        self.gates[number].set()
        self._working[number][1].exception(30)

    def numbers(self, update: int) -> list[int]:
        return [group.number for group in self.due(update)]


def group(number: int) -> Group:
    return Group(number, (), ())


def test_a_refresh_s_frames_follow_from_its_pictures_alone(data):
    episodes = list(Rollouts(data / "rollouts" / "tiny.zarr").episodes())[:3]
    asked_for: set[str] = set()

    class Watched:
        def __init__(self, episode: Any) -> None:
            self.episode = episode

        def read(self, *names: str) -> Any:
            asked_for.update(names)
            return self.episode.read(*names)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.episode, name)

    watched: Any = [Watched(episode) for episode in episodes]
    chosen = grouped(4, watched, 7)
    assert asked_for == {"rgb"}
    assert (chosen.number, sum(map(len, chosen.rows))) == (4, 7)
    for episode, rows in zip(episodes, chosen.rows, strict=True):
        assert set(rows) <= set(episode.decision_rows)
        assert len(set(rows)) == len(rows) >= 2  # spread over the episodes
    everything = grouped(4, episodes, 0)
    assert all(np.array_equal(rows, each.decision_rows) for rows, each in zip(everything.rows, episodes, strict=True))
    more = grouped(4, episodes, 12)
    assert all(set(few) <= set(many) for few, many in zip(chosen.rows, more.rows, strict=True))
    know(data, data / "rollouts" / "tiny.zarr", off_decisions=True)
    again = grouped(4, episodes, 7)
    assert all(np.array_equal(one, two) for one, two in zip(chosen.rows, again.rows, strict=True))


def test_a_group_that_is_waited_for_is_due_at_once_and_draws_none_of_the_run_s_random_numbers(tmp_path):
    backlog = Gated(tmp_path / "visible.csv", waits=True)
    before = torch.get_rng_state()
    backlog.submit(group(0))
    assert torch.equal(torch.get_rng_state(), before)
    assert backlog.numbers(10) == [0]
    assert backlog.pending == []
    assert backlog.numbers(11) == []
    assert not (tmp_path / "visible.csv").exists()
    backlog.fails.add(1)
    with pytest.raises(SemoreError, match="disk is full"):
        backlog.submit(group(1))
    backlog.close()


def test_a_group_becomes_visible_when_it_is_finished_and_the_journal_says_when(tmp_path):
    journal = tmp_path / "visible.csv"
    backlog = Gated(journal)
    for number in range(3):
        backlog.submit(group(number))
    assert backlog.numbers(1) == []
    assert backlog.pending == [0, 1, 2]
    backlog.finish(0)
    assert backlog.numbers(2) == [0]
    backlog.finish(1)
    backlog.finish(2)
    assert backlog.numbers(3) == [1, 2]
    assert journal.read_text() == "2,0\n3,1\n3,2\n"
    backlog.close()


def test_a_journal_is_followed_to_its_end_then_the_run_is_live_again(tmp_path):
    journal = tmp_path / "visible.csv"
    journal.write_text("2,0\n4,1\n31")  # killed in the middle of a line: nothing came of it
    backlog = Gated(journal)
    assert journal.read_text() == "2,0\n4,1\n"
    for number in range(4):
        backlog.submit(group(number))
        backlog.finish(number)  # earlier than it was the first time
    assert backlog.numbers(1) == []
    assert backlog.numbers(2) == [0]
    assert backlog.numbers(3) == []
    assert backlog.numbers(4) == [1]
    assert backlog.numbers(5) == [2, 3]
    assert journal.read_text() == "2,0\n4,1\n5,2\n5,3\n"
    backlog.close()


def test_a_group_the_journal_names_is_waited_for_when_it_takes_longer_than_the_first_time(tmp_path):
    (tmp_path / "visible.csv").write_text("2,0\n")
    backlog = Gated(tmp_path / "visible.csv")
    backlog.submit(group(0))
    threading.Timer(0.2, backlog.gates[0].set).start()
    assert backlog.numbers(2) == [0]
    assert backlog.gates[0].is_set()
    backlog.close()


def test_a_failed_annotation_ends_the_run_when_it_is_due(tmp_path):
    backlog = Gated(tmp_path / "visible.csv")
    backlog.fails.add(0)
    backlog.submit(group(0))
    backlog.finish(0)
    with pytest.raises(SemoreError, match="disk is full"):
        backlog.due(1)
    backlog.close()


VISIBLE = {13: 0, 27: 1, 34: 2}
"""Update → group, in the run below: each some updates after its refresh."""


def paced(patch: pytest.MonkeyPatch) -> None:
    """Annotation ends when VISIBLE says."""
    annotate, due = AsyncAnnotation._annotate, AsyncAnnotation.due
    gates = [threading.Event() for _ in VISIBLE]

    def gated(self: AsyncAnnotation, group: Group) -> None:
        assert gates[group.number].wait(60)
        annotate(self, group)

    def late(self: AsyncAnnotation, update: int) -> list[Group]:
        if (number := VISIBLE.get(update)) is not None:
            gates[number].set()
            self._working[number][1].result(60)
        return due(self, update)

    patch.setattr(AsyncAnnotation, "_annotate", gated)
    patch.setattr(AsyncAnnotation, "due", late)


def meanwhile(data: Path, runs: Path, patch: pytest.MonkeyPatch) -> Any:
    patch.setattr(online, "make_envs", short_envs)
    patch.setattr(run_module, "export_policy", lambda agent, path, view: path.touch())
    schedule = replace(TINY.schedule, refresh_waits=False, refresh_frames=9)
    replay = replace(TINY.replay, filter_steps=400)
    return asked(data, runs, scheduler="local", schedule=schedule, replay=replay)


def check_resume(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with its refreshes annotated meanwhile, and the same killed at its end with a checkpoint half-way."""
    copied = Path(shutil.copytree(data, tmp_path / "data"))
    settings = meanwhile(copied, tmp_path / "runs", monkeypatch)
    update = Agent.update

    def snapshot(self: Agent, *args: Any, **kwargs: Any) -> Any:
        if self.updates == 22:
            shutil.copytree(settings.folder, tmp_path / "killed" / "run")
        return update(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        paced(patch)
        patch.setattr(Agent, "update", snapshot)
        summary = train(settings)
    journal = (settings.folder / "visible.csv").read_text()
    assert journal == "".join(f"{update},{number}\n" for update, number in VISIBLE.items())
    rows = {(update, name): value for update, name, value in read_metrics(settings.folder / "metrics.csv")}
    assert rows[24, "replay/known_share"] < rows[28, "replay/known_share"]  # group 1 became visible between
    assert rows[24, "replay/unjudged_share"] > rows[28, "replay/unjudged_share"]

    resumed = replace(settings, runs=str(tmp_path / "killed"))
    state = read_checkpoint(resumed.folder / "last.ckpt", {})
    assert state["refreshed"]["pending"] == [1]
    assert len(state["refreshed"]["recorded"]) == 2
    (resumed.folder / "visible.csv").write_text(journal + "3")
    know(copied, settings.folder / "refresh.zarr", off_decisions=True)  # all is known at once this time
    again = train(resumed)
    assert again["weights_sha256"] == summary["weights_sha256"]
    assert {**again, "seconds": 0} == {**summary, "seconds": 0} == {**read_json(_summary(resumed)), "seconds": 0}
    assert metrics(resumed) == metrics(settings)
    assert (resumed.folder / "visible.csv").read_text() == journal


def _summary(settings: Any) -> Path:
    return settings.folder / "summary.json"


def test_a_run_with_a_journal_resumes_to_the_same_weights(data, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "ExecutorSettings", lambda scheduler: ExecutorSettings())  # no cluster
    check_resume(data, tmp_path, monkeypatch)


@pytest.mark.slow
def test_a_run_with_a_journal_and_a_local_cluster_resumes_to_the_same_weights(data, tmp_path, monkeypatch):
    check_resume(data, tmp_path, monkeypatch)
