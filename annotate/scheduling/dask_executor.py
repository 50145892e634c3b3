"""The executor on a Dask cluster: one model per worker, few chunks in flight, and recovery from lost workers.

Dask runs a task at least once. Nothing committed is done again all the same, because a worker looks a frame up in the
cache before it asks a model (design.md §7.10)."""

from __future__ import annotations

import json
import logging
import tempfile
import threading
import time
from asyncio import CancelledError as AsyncCancelled
from asyncio import TimeoutError as AsyncTimeout
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import dask
from distributed import Client, Future, LocalCluster, Worker, WorkerPlugin, get_worker, performance_report, wait
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker
from psutil import Process

from semore.annotate.annotator import Annotator
from semore.annotate.interfaces import Producers
from semore.annotate.scheduling.chunks import DEATHS, ChunkQueue, WorkChunk
from semore.annotate.settings import ExecutorSettings
from semore.annotate.summary import Summary
from semore.datasets.atomic_io import digest_json
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.cache import KnowledgeCache, SetManifest, claim_set
from semore.datasets.lock_files import has_locks

AHEAD: Final = 2
"""Chunks in flight per worker: one being worked on, one waiting."""
LOOK_UP: Final = 2.0
"""Seconds between looks at whether scheduler and workers are still there."""
SETTLING: Final = 1.0
"""Age in seconds of a worker before its first chunk: Dask's nanny restarts none that dies while it is being started."""
ALL_GONE: Final = 30.0
"""Seconds without any worker after which a local cluster is started anew."""
GPU: Final = "GPU"
"""The resource that GPU workers announce (`--resources "GPU=1"`); where any does, only those work."""


class AnnotatorPlugin(WorkerPlugin):
    """Keeps one annotator, with its weights, on each worker.

    The plugin is made on the client without weights. The first chunk loads them in a task's thread, so that the worker
    keeps answering the scheduler meanwhile."""

    def __init__(self, annotator: Annotator) -> None:
        self.root = annotator.knowledge.cache.root.resolve()
        self.set_name, self.manifest = annotator.knowledge.name, annotator.knowledge.manifest
        self.producers: Producers = annotator.producers
        self.batch, self.retry_failed = annotator.batch, annotator.retry_failed
        self.name = f"semore-{digest_json([str(self.root), self.set_name, self.batch, self.retry_failed]).hex()}"

    def setup(self, worker: Worker) -> None:
        """Called by Dask on each worker, also on those that come later."""
        self.worker = worker.address
        self._lock = threading.Lock()  # an annotator is for one thread
        self._annotator: Annotator | None = None

    def work(self, chunk: WorkChunk) -> Summary:
        """Annotate a chunk and commit it."""
        with self._lock:
            if self._annotator is None:
                time.sleep(max(SETTLING - (time.time() - Process().create_time()), 0.0))
                # Refused when the producers are others here than on the client, e.g. another checkpoint on this disk.
                here: SetManifest = self.producers.manifest(self.manifest.merge)
                whose = f"what worker {self.worker} would fill knowledge set {self.set_name!r} with"
                here.require_same(self.manifest, whose, "give it the files and packages that the client has")
                knowledge = claim_set(KnowledgeCache(self.root), self.set_name, self.manifest)
                self._annotator = Annotator(knowledge, self.producers, self.batch, self.retry_failed)
                self._annotator.producers.load()
            # Another worker may have done some of it meanwhile. The client saves the index, once, at the end.
            self._annotator.knowledge.cache.refresh(save=False)
            return self._annotator.work(chunk)


def _work(plugin: str, chunk: WorkChunk) -> Summary:
    """The task: only counts go back to the client."""
    own = get_worker().plugins[plugin]
    assert isinstance(own, AnnotatorPlugin)
    return own.work(chunk)


class ChunkFailed(Exception):
    """A chunk failed for a reason that is neither a frame nor a setting: a defect of the code."""


class _SchedulerLost(Exception):
    """The connection to the scheduler is gone."""


LOST: Final = (CommClosedError, CancelledError, AsyncCancelled, TimeoutError, AsyncTimeout)
"""What a client raises when its scheduler is gone, depending on when it notices."""


def scheduler_at(scheduler: str) -> dict[str, Any]:
    """What a Client is told of an address or a scheduler file; OSError when there is no such file, or not all of it."""
    if "://" in scheduler:
        return {"address": scheduler}
    if not Path(scheduler).is_file():
        raise OSError("there is no such scheduler file")
    try:  # Dask's own reading of it ends in a traceback when it is torn
        return {"address": json.loads(Path(scheduler).read_text(encoding="utf-8"))["address"]}
    except (ValueError, KeyError, TypeError):
        raise OSError("the scheduler file names no address") from None


def local_options() -> dict[str, Any]:
    """Dask's settings for workers on this machine: they lock their folders where that can be done, else each of them
    would begin with a traceback."""
    folder = dask.config.get("temporary-directory", None) or tempfile.gettempdir()
    return {"distributed.worker.use-file-locking": has_locks(Path(folder))}


class DaskExecutor(AbstractContextManager["DaskExecutor"]):
    """Annotates on the workers of a Dask cluster."""

    def __init__(self, settings: ExecutorSettings, say: Callable[[str], None]) -> None:
        self._settings, self._say = settings, say
        self._stack = ExitStack()
        self._local: LocalCluster | None = None
        self._client: Client | None = None

    def __enter__(self) -> DaskExecutor:
        # Zero failures allowed: chunks of a dead worker come back at once, to be halved here.
        # No sampling profiler: a hundred times a second it stops the thread that does the work.
        options = {"distributed.scheduler.allowed-failures": 0, "distributed.worker.profile.enabled": False}
        self._stack.enter_context(dask.config.set(options | local_options()))
        self._stack.callback(self._disconnect)
        self._connect()
        self._say(f"Dask: {self.workers} workers, dashboard at {self._connected.dashboard_link}")
        if self._settings.performance_report:
            self._stack.enter_context(performance_report(filename=self._settings.performance_report))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def workers(self) -> int:
        """Number of chunks that can be worked on at once: GPUs where workers announce any, else threads."""
        workers = self._workers()
        gpus = sum(int(worker["resources"].get(GPU, 0)) for worker in workers)
        return gpus or sum(int(worker["nthreads"]) for worker in workers)

    def work(self, annotator: Annotator, queue: ChunkQueue, advance: Callable[[int], None]) -> Summary:
        """See Executor.work. A chunk whose worker died is halved and handed out again until the deadly frames stand
        alone; those are recorded as failed. A lost scheduler is waited for."""
        summary = Summary()
        while True:
            try:
                self._work(annotator, queue, advance, summary)
                return summary
            except _SchedulerLost:
                self._say(f"the cluster is gone; waiting up to {self._settings.patience:.0f} s for it to come back")
                self._disconnect()
                self._connect()
                self._say(f"the cluster is back with {self.workers} workers; going on")

    def _work(self, annotator: Annotator, queue: ChunkQueue, advance: Callable[[int], None], summary: Summary) -> None:
        flying: dict[Future[Summary], WorkChunk] = {}
        try:
            plugin = AnnotatorPlugin(annotator)
            self._connected.register_plugin(plugin, name=plugin.name)
            resources = {GPU: 1} if any(GPU in worker["resources"] for worker in self._workers()) else None
            while True:
                while len(flying) < AHEAD * max(self.workers, 1) and (chunk := queue.next()) is not None:
                    future = self._connected.submit(_work, plugin.name, chunk, pure=False, resources=resources)
                    flying[future] = chunk
                if not flying:
                    return
                for future in self._finished(list(flying)):
                    chunk = flying[future]
                    self._settle(future, chunk, annotator, queue, advance, summary)
                    del flying[future]
        except (_SchedulerLost, RuntimeError, OSError, *LOST) as error:
            if self._connected.status == "running" and not isinstance(error, (_SchedulerLost, *LOST)):
                raise  # not the connection's fault
            queue.give_back(*flying.values())
            raise _SchedulerLost from error

    def _settle(
        self,
        future: Future[Summary],
        chunk: WorkChunk,
        annotator: Annotator,
        queue: ChunkQueue,
        advance: Callable[[int], None],
        summary: Summary,
    ) -> None:
        error = future.exception() if future.status == "error" else None
        if error is None:
            done: Summary = future.result()  # raises when the scheduler was lost meanwhile
            queue.learn(done.done, done.seconds)
        elif isinstance(error, KilledWorker):
            summary.deaths += 1
            chunk = replace(chunk, deaths=chunk.deaths + 1)
            if len(chunk) > 1:
                queue.give_back(*chunk.halves())
                return
            if chunk.deaths < DEATHS:
                queue.give_back(chunk)
                return
            annotator.knowledge.cache.refresh()
            done = annotator.give_up(chunk, f"{chunk.deaths} workers died over this frame")
        elif isinstance(error, SemoreError):
            raise error
        else:
            raise ChunkFailed(f"a chunk of {len(chunk)} frames failed on its worker") from error
        summary.merge(done)
        advance(done.done)

    def _finished(self, flying: list[Future[Summary]]) -> list[Future[Summary]]:
        """Those of the futures that have ended, at least one; _SchedulerLost or SemoreError when none ever will."""
        last_worker = time.monotonic()
        while True:
            try:
                return list(wait(flying, timeout=LOOK_UP, return_when="FIRST_COMPLETED").done)
            except TimeoutError:
                if self._connected.status != "running":
                    raise _SchedulerLost from None
                if self._workers():
                    last_worker = time.monotonic()
                elif self._local and time.monotonic() - last_worker > ALL_GONE:
                    raise _SchedulerLost from None
                elif time.monotonic() - last_worker > self._settings.patience:
                    raise SemoreError(
                        f"scheduler {self._settings.scheduler}: no worker since {self._settings.patience:.0f} s; start "
                        "some and run the same command again: what was finished is kept"
                    ) from None

    @property
    def _connected(self) -> Client:
        assert self._client is not None
        return self._client

    def _workers(self) -> list[dict[str, Any]]:
        return list(self._connected.scheduler_info(n_workers=-1)["workers"].values())

    def _connect(self) -> None:
        """A client of the scheduler once it answers and has a worker; SemoreError when patience ends."""
        settings, deadline = self._settings, time.monotonic() + self._settings.patience
        if settings.scheduler == "local":
            self._local = LocalCluster(
                n_workers=settings.workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=":0",
                silence_logs=logging.CRITICAL,
            )
        while True:
            try:
                self._client = Client(**self._where(), timeout=max(min(deadline - time.monotonic(), 10.0), 1.0))
                self._client.wait_for_workers(1, timeout=max(deadline - time.monotonic(), 1.0))
                return
            except (ValueError, OSError, *LOST) as error:
                if time.monotonic() >= deadline:
                    raise SemoreError(
                        f"scheduler {settings.scheduler}: no answer or no worker within {settings.patience:.0f} s "
                        f"({error}); start `dask scheduler` and `dask worker`, or choose SCHEDULER=local. What was "
                        "finished is kept"
                    ) from None
                time.sleep(1.0)

    def _where(self) -> dict[str, Any]:
        return scheduler_at(self._settings.scheduler) if self._local is None else {"address": self._local}

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.close(timeout=1)
        if self._local is not None:
            with suppress(TimeoutError, AsyncTimeout):  # workers that do not listen are ended with this process
                self._local.close(timeout=30)
        self._client = self._local = None
