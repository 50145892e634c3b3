"""Annotation of refreshed episodes: at once, or on a cluster with a journal for exact resume (design.md §7.6)."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from semore.annotate.annotator import Annotator, nobody
from semore.annotate.scheduling.chunks import ChunkQueue
from semore.annotate.scheduling.executor import Executor, open_executor
from semore.annotate.scheduling.plan import decision_frames
from semore.annotate.scheduling.priority import frame_order
from semore.annotate.settings import ExecutorSettings
from semore.annotate.summary import Summary
from semore.datasets.atomic_io import fsync, write_text
from semore.datasets.disk_space import room_for
from semore.datasets.rollouts.store import Episode


class Group(NamedTuple):
    """The episodes of one refresh, its number, and the rows of each that are annotated, in the episodes' order."""

    number: int
    episodes: tuple[Episode, ...]
    rows: tuple[NDArray[np.int64], ...]


def grouped(number: int, episodes: Sequence[Episode], frames: int) -> Group:
    """A refresh's episodes with the `frames` rows that are annotated (0: all decisions), those first at which most
    changes: it follows from the pictures alone, whatever is cached."""
    wanted = [decision_frames(episode) for episode in episodes]
    if frames:
        chosen = frame_order(episodes, wanted, frames).by_path()
        wanted = [chosen.get(episode.path, np.empty(0, np.int64)) for episode in episodes]
    return Group(number, tuple(episodes), tuple(wanted))


class AsyncAnnotation:
    """Groups handed in come out, annotated, when they are `due`."""

    def __init__(
        self, make_annotator: Callable[[], Annotator], executor: ExecutorSettings, journal: Path, waits: bool
    ) -> None:
        """`make_annotator`: an annotator with a cache of its own, for it works in another thread. With `waits` a group
        is annotated while it is submitted, and due at once; without, it is due when its annotation is found finished,
        and `journal` keeps at which update that was."""
        self._make_annotator, self._executor_settings, self._journal, self._waits = (
            make_annotator,
            executor,
            journal,
            waits,
        )
        self._annotator: Annotator | None = None
        self._executor: Executor | None = None
        self._stack = ExitStack()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="annotate")
        self._working: dict[int, tuple[Group, Future[None]]] = {}
        self._replayed = _read(journal) if not waits else {}

    def submit(self, group: Group) -> None:
        """Have a group annotated. SemoreError, with `waits`, when that fails."""
        if self._waits:
            # A segmenter that loads its weights draws random numbers, and whether it has to depends on what is cached.
            with torch.random.fork_rng(devices=()):
                self._annotate(group)
            done: Future[None] = Future()
            done.set_result(None)
            self._working[group.number] = group, done
        else:
            self._working[group.number] = group, self._thread.submit(self._annotate, group)

    def due(self, update: int) -> list[Group]:
        """The groups that become visible after this update. SemoreError when their annotation failed."""
        if self._waits:
            numbers = sorted(self._working)
        elif self._replayed and update <= max(self._replayed):  # a killed run has been here before
            numbers = self._replayed.get(update, [])
        else:
            numbers = [number for number, (_, future) in sorted(self._working.items()) if future.done()]
            self._note(update, numbers)
        groups = []
        for number in numbers:
            group, future = self._working.pop(number)
            future.result()
            groups.append(group)
        return groups

    @property
    def pending(self) -> list[int]:
        """Numbers of the groups not yet due."""
        return sorted(self._working)

    def close(self) -> None:
        """Finish what is under way and leave the cluster."""
        self._thread.shutdown()
        self._stack.close()

    def _annotate(self, group: Group) -> None:
        if self._annotator is None or self._executor is None:
            self._annotator = self._make_annotator()
            self._executor = self._stack.enter_context(open_executor(self._executor_settings, print))
        rows = {episode.path: own for episode, own in zip(group.episodes, group.rows, strict=True)}
        plan = self._annotator.plan(group.episodes, lambda episode: rows[episode.path])
        queue = ChunkQueue(plan, self._annotator.batch, self._executor_settings.commit_seconds)
        Summary.of(plan).merge(self._executor.work(self._annotator, queue, nobody)).require_answers()

    def _note(self, update: int, numbers: Sequence[int]) -> None:
        if not numbers:
            return
        with room_for(self._journal), open(self._journal, "a", encoding="utf-8") as handle:
            handle.writelines(f"{update},{number}\n" for number in numbers)
            handle.flush()
            fsync(handle.fileno())


def _read(journal: Path) -> dict[int, list[int]]:
    """Update → groups that became visible after it; a torn last line is cut off, as nothing came of it."""
    found: dict[int, list[int]] = {}
    if journal.exists():
        text = journal.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            write_text(journal, whole)
        for row in csv.reader(whole.splitlines()):
            found.setdefault(int(row[0]), []).append(int(row[1]))
    return found
