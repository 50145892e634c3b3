"""What training asks of annotation: which frames of its episodes are worth an answer, and to have them answered."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from semore.annotate.annotator import nobody
from semore.annotate.pipeline import annotator_for
from semore.annotate.scheduling.chunks import ChunkQueue
from semore.annotate.scheduling.executor import Executor, open_executor
from semore.annotate.scheduling.plan import decision_frames
from semore.annotate.scheduling.priority import frame_order
from semore.annotate.settings import ExecutorSettings
from semore.annotate.summary import Summary
from semore.datasets.knowledge.cache import KnowledgeSet
from semore.datasets.rollouts.store import Episode


def chosen_rows(episodes: Sequence[Episode], frames: int) -> list[NDArray[np.int64]]:
    """The rows of each episode that are annotated: `frames` of all of them (0: every decision), those first at which
    most changes. It follows from the pictures alone, whatever is cached."""
    wanted = [decision_frames(episode) for episode in episodes]
    if not frames:
        return wanted
    chosen = frame_order(episodes, wanted, frames).by_path()
    return [chosen.get(episode.path, np.empty(0, np.int64)) for episode in episodes]


class EpisodeAnnotator:
    """Has episodes answered by the producers that a knowledge set was made with, and says nothing unless asked to.

    The executor is opened when it is first needed, and kept until `close`: a cluster takes seconds to start."""

    def __init__(self, knowledge: KnowledgeSet, executor: ExecutorSettings) -> None:
        """SemoreError when the set's producers cannot be made, or now answer differently."""
        self._annotator, self._settings = annotator_for(knowledge), executor
        self._executor: Executor | None = None
        self._stack = ExitStack()

    def __call__(self, episodes: Sequence[Episode], rows: Sequence[NDArray[np.int64]]) -> Summary:
        """Answer what the cache lacks of these rows of each episode, and commit it. SemoreError when a producer
        answered nothing that it was asked."""
        if self._executor is None:
            self._executor = self._stack.enter_context(open_executor(self._settings, print))
        asked = {episode.path: own for episode, own in zip(episodes, rows, strict=True)}
        plan = self._annotator.plan(episodes, lambda episode: asked[episode.path])
        queue = ChunkQueue(plan, self._annotator.batch, self._settings.commit_seconds)
        summary = Summary.of(plan).merge(self._executor.work(self._annotator, queue, nobody))
        summary.require_answers()
        return summary

    def close(self) -> None:
        """Leave the executor; harmless twice."""
        self._stack.close()
        self._executor = None
