"""Episodes annotated on request, as training does with what it drove: which rows, and by whom."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import know, make_data

from semore.annotate.episodes import EpisodeAnnotator, chosen_rows
from semore.annotate.settings import ExecutorSettings
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.cache import KnowledgeCache, ensure_set, open_set
from semore.datasets.rollouts.store import Rollouts


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def test_the_chosen_rows_follow_from_the_pictures_alone(data):
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
    chosen = chosen_rows(watched, 7)
    assert asked_for == {"rgb"}
    assert sum(map(len, chosen)) == 7
    for episode, rows in zip(episodes, chosen, strict=True):
        assert set(rows) <= set(episode.decision_rows)
        assert len(set(rows)) == len(rows) >= 2  # spread over the episodes
    everything = chosen_rows(episodes, 0)
    assert all(np.array_equal(rows, each.decision_rows) for rows, each in zip(everything, episodes, strict=True))
    more = chosen_rows(episodes, 12)
    assert all(set(few) <= set(many) for few, many in zip(chosen, more, strict=True))
    know(data, data / "rollouts" / "tiny.zarr", off_decisions=True)
    again = chosen_rows(episodes, 7)
    assert all(np.array_equal(one, two) for one, two in zip(chosen, again, strict=True))


def test_the_producers_of_a_set_answer_the_rows_asked_for_and_no_others(data, tmp_path):
    episodes = list(Rollouts(data / "rollouts" / "tiny.zarr").episodes())[:2]
    known = open_set(data / "knowledge", "privileged").manifest
    knowledge = ensure_set(KnowledgeCache(tmp_path), "k", known)
    rows = [np.array([0, 2, 4]), np.array([6])]
    with closing(EpisodeAnnotator(knowledge, ExecutorSettings())) as annotate:
        assert annotate(episodes, rows).done == 4
        assert annotate(episodes, rows).done == 0  # all is known
    for episode, own in zip(episodes, rows, strict=True):
        arrays = episode.read("digest", "state_digest")
        found = knowledge.valid(arrays["digest"], arrays["state_digest"])
        assert set(own) <= set(np.flatnonzero(found))


def test_producers_that_now_answer_differently_are_refused_before_anything_is_asked(data, tmp_path):
    known = open_set(data / "knowledge", "privileged").manifest
    other = replace(known, describer={**known.describer, "version": "of old"})
    with pytest.raises(SemoreError, match="of old"):
        EpisodeAnnotator(ensure_set(KnowledgeCache(tmp_path), "k", other), ExecutorSettings())
