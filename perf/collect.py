"""How fast pictures are drawn, driven and recorded: `python -m perf.collect` (or `make bench`).

Prints a table with the targets of design.md §5, and as its very last line one JSON object: for every size and for day
(JayWalk, hard_high_light) and night (HighBeam, midnight), frames per second and their ratios, each as median, least and
most over interleaved rounds, so that whatever else the machine does falls on all alike:

    prototype              a prototype ray-caster (--prototype), with as many road users; missing without one
    raw_render             drawing the states of a recorded episode again, no physics
    env                    DrivingEnv under a constant action
    env_with_recording     the same through the recorder: digests, compression and writing on a second thread
    two_workers            two processes recording at once, both rates added
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count, product
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np

from perf.clock import Body, Figure, Round, Spread, ending, opening, parser, rate, spread, take_turns
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

RATIOS: Final = {
    "raw_over_prototype": ("prototype", "raw_render", "≥ 1"),
    "recording_over_raw": ("raw_render", "env_with_recording", "≥ 0.8"),
    "two_workers_over_one": ("env_with_recording", "two_workers", "≥ 1.7"),
}
"""Name → whose seconds over whose, and the target."""

Case = tuple[int, str]


def timed(body: Callable[[], int], seconds: float) -> float:
    """Calls `body`, which says how many frames it made, for at least `seconds`; seconds a frame."""
    frames, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds or frames == 0:
        frames += body()
    return passed / frames


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
    """Answers (case, seconds) with the seconds a recorded step takes, until the pipe is closed.

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
                    each = timed(episode, seconds)
            pipe.send(each)


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
    """Seconds a step of these processes together, recording at once."""
    for pipe in pipes:
        pipe.send((case, seconds))
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send(None)
    return 1.0 / sum(1.0 / float(pipe.recv()) for pipe in pipes)


def measure(case: Case, rounds: int, seconds: float, pipes: Sequence[Connection], rival: Path | None) -> list[Round]:
    """Rounds in which every kind is measured."""
    drive = Drive(case)
    shots = drive.states(1000)
    frames: dict[str, Callable[[], int]] = {"raw_render": redraw(shots), "env": drive}
    if rival:
        frames = {"prototype": prototype(rival, case, shots[0]), **frames}
    for warm_up in frames.values():
        timed(warm_up, 0.2)
    bodies: dict[str, Body] = {name: partial(timed, body, seconds) for name, body in frames.items()}
    bodies["env_with_recording"] = partial(recording, pipes[:1], case, seconds)
    bodies["two_workers"] = partial(recording, pipes[:2], case, seconds)
    return take_turns(bodies, rounds, told=f"{case[0]}² {case[1]}")


def results(laps: Sequence[Round]) -> dict[str, Spread]:
    """Frames per second of each kind, and the ratios."""
    found = {f"{name}_fps": rate(laps, name) for name in laps[0]}
    return found | {name: spread(laps, *pair) for name, (*pair, _) in RATIOS.items() if pair[0] in laps[0]}


def figures(found: dict[Case, dict[str, Spread]]) -> Iterator[Figure]:
    """How they stand against design.md §5; its targets are for 128²."""
    for (size, sky), values in found.items():
        for name, value in values.items():
            target = RATIOS[name][2] if name in RATIOS else ""
            yield f"{size}² {sky}: {name.replace('_', ' ')}", value, ".0f" if name.endswith("fps") else ".2f", target
        yield f"{size}² {sky}: env / MuJoCo", values["env_fps"].median / MUJOCO_FPS, ".1f", "≥ 5"


def main() -> None:
    options = parser("perf.collect", "Speeds of drawing and recording.", rounds=5)
    options.add_argument("--seconds", type=float, help="length of each measurement in a round")
    options.add_argument("--sizes", type=int, nargs="+", help="picture sizes, px")
    options.add_argument("--prototype", type=Path, help="a file with `scene`, `bufs`, `draw` to compare with")
    chosen = opening(options, 5, quick={"seconds": 0.5, "sizes": [128]}, full={"seconds": 1.2, "sizes": [84, 128]})
    with recorders(2) as pipes:
        cases = product(chosen.sizes, SKIES)
        found = {case: results(measure(case, chosen.rounds, chosen.seconds, pipes, chosen.prototype)) for case in cases}
    told: dict[str, dict[str, dict[str, Spread]]] = {}
    for (size, sky), values in found.items():
        told.setdefault(str(size), {})[sky] = values
    ending("drawing, driving, recording", figures(found), told)


if __name__ == "__main__":
    main()
