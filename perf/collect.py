"""How fast pictures are drawn, driven and recorded: `python -m perf.collect` (or `make bench`).

Prints a table with the targets of the design, and as its very last line one JSON object: for every size and for day
(JayWalk, hard_high_light) and night (HighBeam, midnight), frames per second as medians over interleaved rounds, so that
whatever else the machine does falls on all alike:

    prototype_fps           a prototype ray-caster (--prototype), with as many road users; null without one
    raw_render_fps          drawing the states of a recorded episode again, no physics
    env_fps                 DrivingEnv under a constant action
    env_with_recording_fps  the same through the recorder: digests, compression and writing on a second thread
    two_workers_fps         two processes recording at once, both rates added
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count, product
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from semore.collect.env import WARM_UP_STEPS, DrivingEnv
from semore.collect.policies import Constant, PerSlot
from semore.collect.recorder import record_into
from semore.collect.simulator import Snapshot
from semore.collect.writer import EpisodeWriter
from semore.datasets.rollouts.schema import ACTOR_COLUMN, KIND_INDEX
from semore.datasets.rollouts.store import Rollouts

SKIES: Final = {"day": ("JayWalk", "hard_high_light"), "night": ("HighBeam", "midnight")}
ACTION: Final = (0.0, 0.1)
"""About 12 m/s straight ahead: episodes last nearly to their limit, and the driver itself costs nothing."""
MUJOCO_FPS: Final = 142.0
"""The most that MuJoCo's software renderer reached at 128² on the design's machine; not installed here."""

Rates = dict[str, float | None]
Case = tuple[int, str]


def timed(body: Callable[[], int], seconds: float) -> float:
    """Calls `body`, which says how many frames it made, for at least `seconds`; frames per second."""
    frames, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds or frames == 0:
        frames += body()
    return frames / passed


def make_env(case: Case) -> DrivingEnv:
    size, sky = case
    scenario, weather = SKIES[sky]
    return DrivingEnv(scenario, weather, size=size, camera=size)


class Drive:
    """DrivingEnv under the constant action, one step a call; a new episode begins where one ends."""

    def __init__(self, case: Case) -> None:
        self.env, self._seeds, self._ended = make_env(case), count(), True
        self._action = np.array(ACTION, np.float32)

    def __call__(self) -> int:
        if self._ended:
            self.env.reset(seed=next(self._seeds))
        _, _, terminated, truncated, _ = self.env.step(self._action)
        self._ended = terminated or truncated
        return 1

    def states(self, steps: int) -> list[Snapshot]:
        """The snapshots of that many steps."""
        return [self.env.snapshot for _ in range(steps) if self()]


def redraw(shots: Sequence[Snapshot]) -> Callable[[], int]:
    """Draws the next of `shots` again on every call."""
    turn = count()

    def draw() -> int:
        shots[next(turn) % len(shots)].draw()
        return 1

    return draw


def prototype(path: Path, case: Case, shot: Snapshot) -> Callable[[], int]:
    """The prototype's ray-caster on its own scene, cut down to the road users of `shot`; by night six headlights."""
    sys.path.append(str(path.parent))  # numba's cached code asks for the module by its own name
    module: Any = importlib.import_module(path.stem)
    size, sky = case
    scene, buffers, turn = module.scene(sky == "night"), module.bufs(size), count()
    walkers = int((shot.actors[:, ACTOR_COLUMN["kind"]] == KIND_INDEX["pedestrian"]).sum())
    _keep(scene, vehicles=len(shot.actors) - walkers, walkers=walkers)

    def draw() -> int:
        scene["cam"][0] = next(turn) % 600 * 0.02
        module.draw(scene, buffers)
        return 1

    return draw


def _keep(scene: dict[str, Any], vehicles: int, walkers: int) -> None:
    """Leave that many vehicles and walkers in the prototype's scene, and everything that stands still."""
    number = scene["boxid"][: scene["nbox"], 0]  # vehicles count from 10, walkers from 40, the rest is 0
    kept = (number == 0) | ((number >= 10) & (number < 10 + vehicles)) | ((number >= 40) & (number < 40 + walkers))
    for name in ("box", "boxc", "boxid"):
        rows = scene[name][: scene["nbox"]][kept]
        scene[name][: len(rows)] = rows
    scene["nbox"] = int(kept.sum())


def record_episode(writer: EpisodeWriter, env: DrivingEnv, seeds: Iterator[int]) -> int:
    """Drives the next episode into `writer`; its steps."""
    record_into(writer, [env], PerSlot(lambda _: Constant(ACTION)), [next(seeds)], {})
    return env.snapshot.tick - WARM_UP_STEPS


def recording_worker(pipe: Connection) -> None:
    """Answers (case, seconds) with the rate of recording, in steps per second, until the pipe is closed.

    Steady state: an episode's writing is under way when the clock starts, and one is when it stops."""
    envs: dict[Case, DrivingEnv] = {}
    with suppress(EOFError):
        while True:
            case, seconds = pipe.recv()
            env = envs.setdefault(case, make_env(case))
            with tempfile.TemporaryDirectory() as folder:
                rollouts = Rollouts(Path(folder) / "r.zarr")
                rollouts.create()
                with EpisodeWriter(rollouts, lambda name, steps: None) as writer:
                    episode = partial(record_episode, writer, env, count())
                    episode()
                    pipe.send(None)
                    pipe.recv()  # the other one is ready too
                    rate = timed(episode, seconds)
            pipe.send(rate)


@contextmanager
def recorders(number: int) -> Iterator[list[Connection]]:
    """Pipes to that many recording processes."""
    context = get_context("spawn")
    pipes = [context.Pipe() for _ in range(number)]
    processes = [context.Process(target=recording_worker, args=(theirs,)) for _, theirs in pipes]
    for process in processes:
        process.start()
    try:
        yield [ours for ours, _ in pipes]
    finally:
        for (ours, _), process in zip(pipes, processes, strict=True):
            ours.close()
            process.join()


def recording(pipes: Sequence[Connection], case: Case, seconds: float) -> float:
    """Steps per second of these processes together, recording at once."""
    for pipe in pipes:
        pipe.send((case, seconds))
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send(None)
    return float(sum(pipe.recv() for pipe in pipes))


def measure(case: Case, rounds: int, seconds: float, pipes: Sequence[Connection], rival: Path | None) -> list[Rates]:
    """One row of rates per round, every kind measured in each."""
    drive = Drive(case)
    shots = drive.states(1000)
    old, new = prototype(rival, case, shots[0]) if rival else None, redraw(shots)
    for warm_up in (old or new, new, drive):
        timed(warm_up, 0.2)
    found: list[Rates] = []
    for number in range(rounds):
        rates: Rates = {
            "prototype_fps": None if old is None else timed(old, seconds),
            "raw_render_fps": timed(new, seconds),
            "env_fps": timed(drive, seconds),
            "env_with_recording_fps": recording(pipes[:1], case, seconds),
            "two_workers_fps": recording(pipes[:2], case, seconds),
        }
        found.append(rates)
        told = ", ".join(f"{name.removesuffix('_fps')} {rate:.0f}" for name, rate in rates.items() if rate is not None)
        print(f"{case[0]}² {case[1]}, round {number + 1} of {rounds}: {told}", flush=True)
    return found


def middle(values: Iterable[float | None]) -> float | None:
    """The median of what is known."""
    known = [value for value in values if value is not None]
    return round(median(known), 3) if known else None


def ratio(rows: Sequence[Rates], over: str, under: str) -> float | None:
    """Median of the rounds' own ratios: a slow moment slows both."""
    pairs = ((row[over], row[under]) for row in rows)
    return middle(above / below for above, below in pairs if above is not None and below is not None)


def report(found: dict[Case, list[Rates]]) -> Table:
    """Rates, and how they stand against design.md §5; its targets are for 128²."""
    kinds = list(next(iter(found.values()))[0])
    against = ["raw / prototype ≥ 1", "recording / raw ≥ 0.8", "two / one ≥ 1.7", "env / MuJoCo ≥ 5"]
    table = Table("", *(kind.replace("_", " ") for kind in kinds), *against, title="medians")
    for (size, sky), rows in found.items():
        ratios = [
            ratio(rows, "raw_render_fps", "prototype_fps"),
            ratio(rows, "env_with_recording_fps", "raw_render_fps"),
            ratio(rows, "two_workers_fps", "env_with_recording_fps"),
            (middle(row["env_fps"] for row in rows) or math.nan) / MUJOCO_FPS,
        ]
        cells = [f"{middle(row[kind] for row in rows) or math.nan:.0f}" for kind in kinds]
        table.add_row(f"{size}² {sky}", *cells, *(f"{value or math.nan:.2f}" for value in ratios))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.collect", description="Speeds of drawing and recording.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds whose median counts")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each measurement in a round")
    parser.add_argument("--sizes", type=int, nargs="+", default=[84, 128], help="picture sizes, px")
    parser.add_argument("--prototype", type=Path, help="a file with `scene`, `bufs` and `draw` to compare drawing with")
    chosen = parser.parse_args()
    print(f"load of this machine before we begin: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    with recorders(2) as pipes:
        cases = product(chosen.sizes, SKIES)
        found = {case: measure(case, chosen.rounds, chosen.seconds, pipes, chosen.prototype) for case in cases}
    Console(width=200).print(report(found))
    result: dict[str, dict[str, Rates]] = {}
    for (size, sky), rows in found.items():
        result.setdefault(str(size), {})[sky] = {kind: middle([row[kind] for row in rows]) for kind in rows[0]}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
