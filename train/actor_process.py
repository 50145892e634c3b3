"""An actor in a process of its own, and the pipe between it and the learner.

The learner sends jobs, as bytes: torch would send tensors through shared memory that lives as long as their sender. The
actor answers each with what it found or the exception that it met, and before that with the lines that it prints.
"""

from __future__ import annotations

import io
import pickle
import shutil
import signal
import sys
import traceback
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from threading import Lock
from typing import Final, NamedTuple

import torch

from semore.datasets.errors import SemoreError
from semore.datasets.subprocesses import die_with_parent
from semore.train.actor import Actor, Brief, Ends, Job
from semore.train.stopping import held_back, pass_by

GRACE: Final = 30.0
"""Seconds in which an actor without a job has given back what it holds, servers too."""


class Said(NamedTuple):
    """The message of an actor that it prints something."""

    text: str


class ActorProcess:
    """The learner's end. All but `interrupt` is for one thread, the one that starts it: the actor ends with that."""

    def __init__(self, brief: Brief) -> None:
        self._brief = brief
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._asked = self._busy = self._closing = False

    def start(self) -> None:
        """Have it running."""
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        process = context.Process(target=_live, args=(theirs, self._brief))
        with held_back(signal.SIGINT):
            process.start()
        theirs.close()  # so that its death is the end of the file here
        self._process = process

    def ask(self, job: Job) -> Ends:
        """Have the job done, by a new process if there is none. EOFError or OSError when it dies over it; what the job
        raised else."""
        if self._process is None:
            self.start()
        assert self._pipe is not None
        self._asked = self._busy = True
        if self._closing:
            raise EOFError
        self._pipe.send_bytes(pickle.dumps(job))
        while isinstance(answer := self._pipe.recv(), Said):
            print(answer.text, end="", file=sys.stderr, flush=True)
        self._busy = False
        if isinstance(answer, Exception):
            raise answer
        found: Ends = answer
        return found

    def bury(self) -> int | None:
        """Forget a process that died, and what it was writing; returns its exit code."""
        self._busy = False
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if process is None or pipe is None:
            return None
        pipe.close()
        process.kill()
        process.join()
        for torn in self._brief.rollouts.glob(f".tmp-{process.pid}-*"):
            shutil.rmtree(torn, ignore_errors=True)
        return process.exitcode

    def interrupt(self) -> None:
        """Kill it if it has a job, so that whoever waits for it does no longer. Called by another thread."""
        self._closing = True
        if self._busy and (process := self._process) is not None:
            process.kill()

    def leave(self) -> None:
        """Let it end: it finds nobody to talk to."""
        if self._process is not None and self._pipe is not None:
            self._pipe.close()
            if self._asked:  # else it has opened nothing yet, and may still be importing
                self._process.join(GRACE)
            self._process.kill()
            self._process.join()


class _Voice(io.TextIOBase):
    """What an actor prints, on its way to the learner, which knows where its lines belong."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock, self._line = pipe, Lock(), ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._line = (self._line + text).split("\n")
            if lines:
                self._pipe.send(Said("".join(f"{line}\n" for line in lines)))
        return len(text)

    def answer(self, answer: Ends | Exception) -> None:
        """Send it, with no other thread's line in the middle of it."""
        with self._lock:
            self._pipe.send(answer)


def _live(pipe: Connection, brief: Brief) -> None:
    """An actor's life, at the other end of the pipe."""
    die_with_parent()
    pass_by()
    torch.set_num_threads(1)
    voice = _Voice(pipe)
    with (
        suppress(EOFError, ConnectionError),
        redirect_stdout(voice),
        redirect_stderr(voice),
    ):  # the learner's end is ours
        try:
            actor = Actor(brief)
        except Exception as error:
            pipe.recv_bytes()
            voice.answer(_told(error))
            return
        with closing(actor):
            while True:
                job: Job = pickle.loads(pipe.recv_bytes())
                try:
                    answer: Ends | Exception = actor.work(job)
                except Exception as error:
                    answer = _told(error)
                voice.answer(answer)


def _told(error: Exception) -> Exception:
    """What the learner can be told of it: a fault of ours has been traced here, and can't be there."""
    return error if isinstance(error, SemoreError) else RuntimeError(f"an actor failed:\n{traceback.format_exc()}")
