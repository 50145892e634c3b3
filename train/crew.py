"""The actors of a run: this process, which then learns and drives in turns, or processes beside it (design.md §7.6)."""

from __future__ import annotations

import time
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, Protocol

from semore.datasets.errors import SemoreError
from semore.train.actor import Actor, Brief, Ends, Job
from semore.train.actor_process import ActorProcess

DEATHS: Final = 3
"""Actors that may die over one job before the run ends."""


class Crew(Protocol):
    """Does jobs. `waited` are the seconds for which the learner has stood still for it."""

    waited: float

    def hand_in(self, job: Job) -> Future[Ends]:
        """Have the job done; what it raises is the future's exception."""

    def fetch(self, done: Future[Ends]) -> Ends:
        """Wait for what was handed in."""

    def close(self) -> None:
        """End it, also in the middle of jobs."""


class LoneCrew:
    """One actor in this process: a job is done while it is handed in."""

    def __init__(self, actor: Actor) -> None:
        self._actor, self.waited = actor, 0.0

    def hand_in(self, job: Job) -> Future[Ends]:
        done: Future[Ends] = Future()
        start = time.monotonic()
        try:
            done.set_result(self._actor.work(job))
        except Exception as error:
            done.set_exception(error)
        self.waited += time.monotonic() - start
        return done

    def fetch(self, done: Future[Ends]) -> Ends:
        return done.result()

    def close(self) -> None:
        self._actor.close()


class ProcessCrew:
    """Actors in processes of their own, each served by a thread of this one. They last as long as the run; one that
    dies is replaced, and its job handed in again."""

    def __init__(self, brief: Brief, count: int) -> None:
        self._waiting: SimpleQueue[tuple[Job, Future[Ends]] | None] = SimpleQueue()
        self._actors = [ActorProcess(brief) for _ in range(count)]
        self._closing = False
        self.waited = 0.0
        # The kernel ends an actor with the thread that started it: that thread is to be there as long as the actor.
        self._threads = [Thread(target=self._serve, args=(actor,), daemon=True) for actor in self._actors]
        for thread in self._threads:
            thread.start()

    def hand_in(self, job: Job) -> Future[Ends]:
        done: Future[Ends] = Future()
        self._waiting.put((job, done))
        return done

    def fetch(self, done: Future[Ends]) -> Ends:
        start = time.monotonic()
        try:
            return done.result()
        finally:
            self.waited += time.monotonic() - start

    def close(self) -> None:
        self._closing = True
        while True:  # nobody waits for what has not been begun
            try:
                self._waiting.get_nowait()
            except Empty:
                break
        for actor in self._actors:
            actor.interrupt()
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self, actor: ActorProcess) -> None:
        """A thread's life: hand jobs to its actor."""
        with suppress(OSError):  # it is tried again, and told of, when there is a job
            actor.start()
        while (asked := self._waiting.get()) is not None:
            job, done = asked
            try:
                done.set_result(self._done(job, actor))
            except Exception as error:
                done.set_exception(error)
        actor.leave()

    def _done(self, job: Job, actor: ActorProcess) -> Ends:
        for _ in range(DEATHS):
            try:
                return actor.ask(job)
            except (EOFError, OSError):  # it died
                code = actor.bury()
                if self._closing:
                    raise SemoreError("the run has ended") from None
                print(f"train: an actor has died (exit code {code}); another takes its place", flush=True)
        raise SemoreError(
            f"{DEATHS} actors died over the episodes with seeds {job.seeds[0]} … {job.seeds[-1]} (the last one with "
            f"exit code {code}; −9: killed, or out of memory); the same command goes on, with --actors 0 in one process"
        )
