"""Who does the work of a pass: this process, or the workers of a Dask cluster (annotate.scheduling.dask_executor)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from semore.annotate.annotator import Annotator
from semore.annotate.scheduling.chunks import ChunkQueue
from semore.annotate.settings import ExecutorSettings
from semore.annotate.summary import Summary


class Executor(Protocol):
    """Works off shares until none is left."""

    @property
    def workers(self) -> int:
        """Shares that are worked on at once."""

    def work(self, annotator: Annotator, deal: ChunkQueue, advance: Callable[[int], None]) -> Summary:
        """Annotate everything that is dealt, calling `advance(frames)` on the way. `seconds` of the summary are the
        workers' own. SemoreError for what the user must mend; what was committed before stays."""


class SerialExecutor:
    """This process."""

    workers = 1

    def work(self, annotator: Annotator, deal: ChunkQueue, advance: Callable[[int], None]) -> Summary:
        """As Crew.work."""
        summary = Summary()
        while (share := deal.next()) is not None:
            done = annotator.work(share, advance)
            deal.learn(done.done, done.seconds)
            summary.merge(done)
        return summary


@contextmanager
def open_executor(settings: ExecutorSettings, say: Callable[[str], None]) -> Iterator[Executor]:
    """The crew of the settings, ended at the end; `say` gets lines such as a dashboard's address. SemoreError when the
    scheduler cannot be reached."""
    if settings.scheduler in ("", "none"):
        yield SerialExecutor()
        return
    from semore.annotate.scheduling.dask_executor import DaskExecutor

    with DaskExecutor(settings, say) as crew:
        yield crew
