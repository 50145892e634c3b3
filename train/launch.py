"""Many training seeds at once: processes of this machine, on its GPUs, or of a Dask cluster's (design.md §7.12)."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import partial
from multiprocessing import forkserver, get_context, parent_process
from threading import Event, Lock, Thread
from typing import Any, Final, NamedTuple

from semore.datasets.atomic_io import missing_folders, remove_empty
from semore.datasets.cores import cores
from semore.datasets.disk_space import room_for
from semore.datasets.errors import SemoreError, Stopped
from semore.extras import require
from semore.train.metrics import LOG
from semore.train.own_process import apart
from semore.train.settings import TrainSettings
from semore.train.stopping import held_back, polite_end

SOCKET_ADDRESS: Final = 108
"""Bytes of a Unix socket's address, the last of them 0."""
PATIENCE: Final = 30.0
"""Seconds for a scheduler to answer."""
Outcome = tuple[TrainSettings, dict[str, Any] | str]
"""A run's settings, and its summary or what went wrong."""
Task = Callable[[TrainSettings, "Share | None"], dict[str, Any] | str]
Then = Callable[[TrainSettings], None]
"""What a run's process does when the run is trained; it travels there as a pickle."""


class Share(NamedTuple):
    """Of a GPU, by its number: that of one of so many runs at once."""

    gpu: int
    runs: int


def runs_of(settings: TrainSettings) -> list[TrainSettings]:
    """One run per seed, called <run>-seed<seed>."""
    folder = settings.folder
    return [
        replace(settings, seeds=(), parallel=0, scheduler="none", seed=seed, run=f"{folder.name}-seed{seed}")
        for seed in settings.seeds
    ]


def train_seeds(settings: TrainSettings) -> Iterator[Outcome]:
    """Train every seed of the settings."""
    yield from train_runs(runs_of(settings), settings.parallel, settings.scheduler)


def train_runs(runs: list[TrainSettings], parallel: int, scheduler: str, then: Then | None = None) -> Iterator[Outcome]:
    """Train at least one run, and do with it what is to be done `then`, in the same process, which does nothing else;
    yields each when it ends.
    What one run meets does not stop the others. Runs that are finished are found finished, begun ones go on.
    `parallel` and `scheduler` as in TrainSettings. Stopped when a signal asked for the end, after every run of this
    machine that was under way has saved."""
    task = _one if then is None else partial(_one, then=then)
    made = [each for run in runs for each in missing_folders(run.folder.parent)]
    try:
        yield from _all(runs, parallel, scheduler, task, then)
    finally:
        remove_empty(dict.fromkeys(made))


def _all(runs: list[TrainSettings], parallel: int, scheduler: str, task: Task, then: Then | None) -> Iterator[Outcome]:
    import torch  # many settings are refused before it is needed

    gpus = torch.cuda.device_count() if any(run.device != "cpu" for run in runs) else 0
    per_core = max(cores() // max(run.threads + run.actors for run in runs), 1)
    at_once = min(parallel or gpus or per_core, len(runs))
    if scheduler != "none":
        yield from _on_cluster(runs, scheduler, task, at_once, gpus)
        return
    processes, dealt = _Processes(then), _Gpus(gpus, at_once)
    with polite_end(processes.ask_to_end) as stop, ThreadPoolExecutor(at_once) as pool:
        asked = {pool.submit(processes.run, task, run, dealt): run for run in runs}
        left = 0
        for future in as_completed(asked):
            outcome = _ending(future.result, future.exception())
            if stop.asked and isinstance(outcome, str):
                left += 1
                print(f"{asked[future].folder}: {outcome}", flush=True)
            else:
                yield asked[future], outcome
        if left:
            raise Stopped(f"stopped with {left} of {len(runs)} runs unfinished; the same command goes on with them")


def _on_cluster(runs: list[TrainSettings], scheduler: str, task: Task, at_once: int, gpus: int) -> Iterator[Outcome]:
    """`at_once` and `gpus` are those of this machine, for the scheduler `local`; other workers have the GPUs that they
    were started with."""
    require("cluster")
    import dask
    from distributed import Client
    from distributed import as_completed as as_finished

    from semore.annotate.scheduling.dask_executor import LOST, local_options, scheduler_at

    local = scheduler == "local"
    here = {"n_workers": at_once, "threads_per_worker": 1}
    try:
        with dask.config.set(local_options()):
            client = Client(timeout=PATIENCE, **(here if local else scheduler_at(scheduler)))
    except (ValueError, OSError, *LOST) as error:
        raise SemoreError(
            f"scheduler {scheduler} cannot be reached ({error}); start `dask scheduler` and `dask worker`, or choose "
            "--scheduler local, or none"
        ) from None
    with client:
        print(f"Dask: dashboard at {client.dashboard_link}")
        asked = {
            client.submit(apart, task, run, _share(number, gpus, at_once) if local else None, pure=False): run
            for number, run in enumerate(runs)
        }
        for future in as_finished(list(asked)):
            run = asked.pop(future)
            try:
                ending = _ending(future.result, future.exception())
            except LOST:
                ending = f"scheduler {scheduler} is gone; start it, and the same command goes on"
            yield run, ending


def _ending(result: Callable[[], dict[str, Any] | str], error: BaseException | None) -> dict[str, Any] | str:
    return result() if error is None else f"{type(error).__name__}: {error}"


class _Processes:
    """Runs in processes of their own: the death of one, too, is no other's affair. They are forked from a process that
    has imported everything and done nothing else, hence holds no locks and no threads of ours."""

    def __init__(self, then: Then | None) -> None:
        self._context = get_context("forkserver" if _sockets_fit() else "spawn")
        self._context.set_forkserver_preload(["semore.train.run", *([then.__module__] if then else [])])
        self._working: set[int] = set()
        self._ending = Event()
        if self._context.get_start_method() == "forkserver":
            with held_back():  # SLURM's signals reach that process as well, and it has no handlers
                forkserver.ensure_running()

    def run(self, task: Task, settings: TrainSettings, gpus: _Gpus) -> dict[str, Any] | str:
        """Do the task in a process and wait for it; not when the end has been asked for."""
        if self._ending.is_set():
            return "not begun"
        with gpus.one() as share, ProcessPoolExecutor(1, mp_context=self._context) as pool:
            process = pool.submit(os.getpid).result()
            self._working.add(process)
            try:
                if self._ending.is_set():
                    os.kill(process, signal.SIGUSR1)
                return pool.submit(_while_asked, task, settings, share).result()
            finally:
                self._working.discard(process)

    def ask_to_end(self) -> None:
        """Have every process save and end, and no other start."""
        self._ending.set()
        for process in list(self._working):
            os.kill(process, signal.SIGUSR1)


class _Gpus:
    """Hands out the GPUs: to a run that begins the one on which fewest are under way."""

    def __init__(self, count: int, at_once: int) -> None:
        self._busy, self._at_once, self._lock = [0] * count, at_once, Lock()

    @contextmanager
    def one(self) -> Iterator[Share | None]:
        """While a run is under way; None where there are no GPUs."""
        if not self._busy:
            yield None
            return
        with self._lock:
            gpu = self._busy.index(min(self._busy))
            self._busy[gpu] += 1
        try:
            yield _share(gpu, len(self._busy), self._at_once)
        finally:
            with self._lock:
                self._busy[gpu] -= 1


def _share(number: int, gpus: int, at_once: int) -> Share | None:
    """What run number `number` has when so many are dealt over the GPUs in turn."""
    return Share(number % gpus, -(-at_once // gpus)) if gpus else None


def _sockets_fit() -> bool:
    """Whether the fork server's socket, <temporary folder>/pymp-…/listener-…, has an address that the kernel takes.
    Without a fork server every run imports everything itself, which only takes its time."""
    return len(os.fsencode(tempfile.gettempdir())) + len("/pymp-12345678/listener-12345678") < SOCKET_ADDRESS


def _while_asked(task: Task, settings: TrainSettings, share: Share | None) -> dict[str, Any] | str:
    """Run the task, and end with the process that asked for it: were that killed, a training that nobody waits for
    would lock its folder against the same command's next start."""
    asked_by = parent_process()
    assert asked_by is not None

    def follow() -> None:
        asked_by.join()
        os._exit(1)

    Thread(target=follow, daemon=True).start()
    return task(settings, share)


def _name_of(gpu: int) -> str:
    """The name of the GPU that is number `gpu` to torch: where the user lets us see some of them only, one of theirs,
    which may be numbers or UUIDs."""
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return visible[gpu] if visible else str(gpu)


def _one(settings: TrainSettings, share: Share | None, then: Then | None = None) -> dict[str, Any] | str:
    """Train one run, and what is `then`; their output goes to <run>/train.log."""
    from semore.train.gpu import share_memory
    from semore.train.run import train

    if share is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = _name_of(share.gpu)
        if settings.device != "cpu":
            share_memory(share.runs)
    path, made = settings.folder / LOG, missing_folders(settings.folder)
    settings.folder.mkdir(parents=True, exist_ok=True)
    log = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115
    with room_for(path), log, redirect_stdout(log), redirect_stderr(log):
        try:
            summary = train(settings)
            if then is not None:
                then(settings)
            return summary
        except SemoreError as error:
            print(f"error: {error}", file=sys.stderr)
            if made and [each.name for each in settings.folder.iterdir()] == [LOG]:
                path.unlink()  # refused before anything came of it, and the outcome says why
                remove_empty(made)
            return str(error)
        except Exception:
            traceback.print_exc()  # into the log
            raise
