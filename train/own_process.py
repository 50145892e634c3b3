"""A call in an interpreter of its own, for a Dask worker: tasks that share one share torch's random state, the standard
output and the environment, and as a daemonic process it may start no children by multiprocessing."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any, cast

from semore.datasets.subprocesses import die_with_parent


def apart(call: Callable[..., Any], *arguments: Any) -> Any:
    """What `call(*arguments)` returns in a process of its own, or in words what it raised or how the process died. The
    process ends with the thread that waits here."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from semore.train.own_process import answer; answer()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    said, _ = process.communicate(pickle.dumps((call, arguments)))
    if process.returncode or not said:
        return f"its process died (exit code {process.returncode}; −9: killed, or out of memory)"
    return pickle.loads(said)


def answer() -> None:
    """The process's whole life: asked on standard input, it answers on standard output, where nobody else prints."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is that thread's business
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        call, arguments = cast(tuple[Callable[..., Any], tuple[Any, ...]], pickle.load(sys.stdin.buffer))
        try:
            said = call(*arguments)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        answers.write(pickle.dumps(said))
