"""The executors of a pass: this process, or a Dask cluster (semore.annotate.scheduling.dask_executor)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from semore.annotate.annotator import Annotator
from semore.annotate.scheduling.chunks import ChunkQueue
from semore.annotate.settings import ExecutorSettings
from semore.annotate.summary import Summary
from semore.extras import require


class Executor(Protocol):
    """Works off the chunks of a queue until none is left."""

    @property
    def workers(self) -> int:
        """Number of chunks that are worked on at once."""

    def work(self, annotator: Annotator, queue: ChunkQueue, advance: Callable[[int], None]) -> Summary:
        """Annotate everything in the queue, calling `advance(frames)` on the way. The summary's `seconds` are the sum
        over workers. SemoreError for what the user must mend; what was committed before stays."""


class SerialExecutor:
    """Annotates in this process, one chunk after another."""

    workers = 1

    def work(self, annotator: Annotator, queue: ChunkQueue, advance: Callable[[int], None]) -> Summary:
        """See Executor.work."""
        summary = Summary()
        while (chunk := queue.next()) is not None:
            done = annotator.work(chunk, advance)
            queue.learn(done.done, done.seconds)
            summary.merge(done)
        return summary


@contextmanager
def open_executor(settings: ExecutorSettings, say: Callable[[str], None]) -> Iterator[Executor]:
    """The executor that the settings name, closed at the end of the block. `say` gets lines such as the dashboard's
    address. SemoreError when the scheduler cannot be reached."""
    if settings.scheduler in ("", "none"):
        yield SerialExecutor()
        return
    require("cluster")
    from semore.annotate.scheduling.dask_executor import DaskExecutor

    with DaskExecutor(settings, say) as executor:
        yield executor
