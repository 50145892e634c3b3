"""Where a recorded frame's processor time goes, part by part: `python -m perf.collect_parts`.

Microseconds of processor time a frame, medians over rounds of an episode each; the parts of the writer's thread are run
alone. As the very last line one JSON object, and what two cores could reach if nothing else ran and nothing waited:

    raw        drawing alone
    driving    the driving thread: physics, drawing, the agent's view, rewards, rows copied for the recorder
    digests    of every frame and state, and of the arrays whole
    zstd       of colours, classes and actors' ids
    files      the rest of an episode's writing: padding, small arrays, page cache, fsync
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import zstd

from perf.clock import Figure, Spread, ending, opening, parser
from perf.collect import ACTION, SKIES, Drive, make_env, redraw
from semore.collect.recording import EpisodeRecorder
from semore.datasets.rollouts.store import CHUNK_FRAMES, Arrays, Rollouts
from semore.datasets.rollouts.zarr_group import LEVEL


def processor(body: Callable[[], Any]) -> float:
    """Processor seconds of one call, in whatever threads."""
    start = time.process_time()
    body()
    return time.process_time() - start


def compress(arrays: Arrays) -> None:
    """The pictures' chunks, as they are written."""
    for name in ("rgb", "semantic", "instance"):
        for start in range(0, len(arrays[name]), CHUNK_FRAMES):
            zstd.compress(arrays[name][start : start + CHUNK_FRAMES], LEVEL)


def measure(size: int, sky: str, rounds: int) -> dict[str, Spread]:
    """µs a frame of each part, and the ratios they allow."""
    case, action = (size, sky), np.array(ACTION, np.float32)
    draw, env = redraw(Drive(case).states(400)), make_env(case)
    env.reset(seed=0)
    recorder = EpisodeRecorder(env.snapshot)

    def drive() -> None:
        env.listener = None
        env.reset(seed=0)
        recorder.begin(env.snapshot)
        env.listener = recorder
        while not any(env.step(action)[2:4]):
            pass

    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        rollouts = Rollouts(Path(folder) / "r.zarr")
        rollouts.create()
        for number in range(rounds + 1):
            driving = processor(drive)
            arrays = recorder.arrays()
            frames = len(arrays["rgb"])
            parts = {
                "raw": processor(lambda: [draw() for _ in range(frames)]),  # noqa: B023
                "driving": driving,
                "digests": processor(recorder.arrays),
                "zstd": processor(lambda: compress(arrays)),  # noqa: B023
            }
            whole = processor(lambda: rollouts.write(f"e{number}", arrays, {}))  # noqa: B023
            parts["files"] = whole - parts["zstd"]
            if number:  # the first touches fresh memory
                writing = parts["digests"] + whole
                slower = max(driving, writing)
                parts = {name: 1e6 * part / frames for name, part in parts.items()}
                parts["recording_over_raw"] = parts["raw"] * frames / 1e6 / slower
                parts["two_workers_over_one"] = 2 * slower / (driving + writing)
                for name, part in parts.items():
                    found.setdefault(name, []).append(part)
    return {name: Spread.of(values) for name, values in found.items()}


def main() -> None:
    options = parser("perf.collect_parts", "Where a recorded frame's processor time goes.", rounds=5)
    options.add_argument("--size", type=int, default=128, help="picture size, px")
    chosen = opening(options, 5, quick={}, full={})
    found = {sky: measure(chosen.size, sky, chosen.rounds) for sky in SKIES}
    rows: list[Figure] = [
        (f"{sky}: {name.replace('_', ' ')}", value, ".2f" if "over" in name else ".0f", "")
        for sky, values in found.items()
        for name, value in values.items()
    ]
    ending(f"µs of processor time a frame, {chosen.size}²", rows, found)


if __name__ == "__main__":
    main()
