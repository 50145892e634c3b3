"""SIGTERM and SIGUSR1 ask a training to save and end; a second one ends it at once, and nothing that was saved is lost.

SLURM sends them to every process of a job's step: a warning (`--signal=USR1@60`), or the end (`scancel`, a time limit).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from types import FrameType
from typing import Final

from semore.datasets.errors import Stopped

ASKING: Final = (signal.SIGTERM, signal.SIGUSR1)


class Stop:
    """Whether somebody has asked for the end."""

    def __init__(self, then: Callable[[], None] | None = None) -> None:
        """`then` is called, once, when somebody does."""
        self.asked = False
        self._then = then
        self._child = parent_process() is not None

    def listen(self) -> None:
        """Be the one whom the signals reach. Called again when Lightning has put its own handler over ours."""
        if threading.current_thread() is threading.main_thread():
            for number in ASKING:
                signal.signal(number, self._note)

    def check(self, update: int, saved: bool) -> None:
        """Stopped when the end was asked for."""
        if self.asked:
            what = "saved at" if saved else "stopped, with nothing new to save, at"
            raise Stopped(f"{what} update {update}; the same command goes on")

    def _note(self, number: int, _: FrameType | None) -> None:
        if not self.asked:
            self.asked = True
            if self._then is not None:
                self._then()
        elif not self._child:  # a child is asked by its parent and by SLURM, and ends with its parent
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


@contextmanager
def polite_end(then: Callable[[], None] | None = None) -> Iterator[Stop]:
    """Listen for the signals meanwhile. In another thread than the main one, such as a task on a Dask worker, none
    arrive, and the worker's own way of ending holds."""
    stop = Stop(then)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in ASKING}
    stop.listen()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKING)
    try:
        yield stop
    finally:
        answered = stop.asked and parent_process() is not None  # the second of the two that ask is still to come
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if answered else handler)


def pass_by() -> None:
    """Have the signals that ask for an end, Ctrl-C too, pass this process by: whoever has started it is asked as well,
    and ends it. They are not ignored, as its own children would then be born deaf."""
    for number in (*ASKING, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*ASKING, signal.SIGINT))


@contextmanager
def held_back(*more: signal.Signals) -> Iterator[None]:
    """Processes that are started meanwhile are born with the signals held back, and `more`, until they are in a
    `polite_end` or let them `pass_by`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*ASKING, *more))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def only_task_trains() -> None:
    """End this process, politely and with exit code 0, when `srun` started the command several times and this is not
    the first: one process trains a run, and an error of the others could make SLURM end that one too."""
    task, tasks = os.environ.get("SLURM_PROCID", "0"), os.environ.get("SLURM_NTASKS", "1")
    if task.isdigit() and tasks.isdigit() and 0 < int(task) < int(tasks):
        print(
            f"this is task {task} of the {tasks} (0 to {int(tasks) - 1}) that srun started, and has nothing to do: one "
            "process trains, and that is task 0; start it with srun --ntasks=1",
            file=sys.stderr,
        )
        raise SystemExit(0)
