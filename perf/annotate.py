"""What annotating costs beside the models: `python -m perf.annotate` (or `make bench`).

Prints a table with the targets of design.md §5, and as its very last line one JSON object, all measured in one run;
all but look-ups and the kill over rounds, with median, least and most:

    engine_overhead         (wall − time in the model) / time in the model, in this process, and the same on one Dask
                            worker; the fake model burns 50 ms of processor time a batch, shares last ≥ 1 s
    two_workers_over_one    speed of two one-thread Dask workers over that of one; the clusters run before the clock
    cluster_start_s         seconds until a cluster of two such workers has its first answer
    cached_lookups_per_s    keys looked up per second while planning a fully cached pass, and its model calls (0)
    kill_and_resume         model time of a pass killed at half plus its resumption, over one undisturbed pass
    cris_over_naive         CRIS (random weights, 416 px) with 1, 4, 8 phrases a frame over calling it phrase by
                            phrase
    cris_images_per_s       its speed
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import dask
import numpy as np
import torch
from distributed import LocalCluster
from numpy.typing import NDArray

from perf.clock import Figure, Spread, ending, opening, parser, rate, spread, take_turns
from semore.annotate.interfaces import FrameBatch, Producers
from semore.annotate.pipeline import annotate_rollouts, make_annotator
from semore.annotate.rehearsal.fake import FakeProducer, fake_producers
from semore.annotate.rehearsal.faults import NO_FAULTS, Faults
from semore.annotate.rehearsal.rollouts import random_rollouts
from semore.annotate.segment.cris import CRIS
from semore.annotate.segment.cris.phrases import tokenize
from semore.annotate.segment.cris.picture import prepare, restore, soft_mask
from semore.annotate.segment.cris.segmenter import CrisSegmenter
from semore.annotate.settings import CrisSettings, ExecutorSettings
from semore.annotate.summary import Summary
from semore.datasets.knowledge.cache import KnowledgeCache
from semore.datasets.rollouts.store import Rollouts

BURN: Final = 0.05
"""Seconds of processor time a batch costs the fake model."""
BATCH: Final = 8
"""Frames of a batch: as many as Qwen2-VL gets at once by default."""
SIDE: Final = 128
PHRASES: Final = ("car", "person", "truck", "bus", "cyclist", "traffic light", "road sign", "pedestrian crossing")
CHILD: Final = "import sys; from perf.annotate import child; child(sys.argv[1], sys.argv[2])"


@dataclass
class Clock:
    """Wraps a producer and adds up the time spent in it."""

    producer: FakeProducer
    seconds: list[float] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.producer, name)
        if name not in ("describe", "segment", "judge"):
            return method

        def timed(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*arguments)
            finally:
                self.seconds.append(time.perf_counter() - start)

        return timed


def describing(seconds: float, faults: Faults = NO_FAULTS) -> Producers:
    """Only the describer thinks; the segmenter answers at once, and nobody judges."""
    whole = fake_producers(seconds, faults)
    assert isinstance(whole.segmenter, FakeProducer)
    return Producers(whole.describer, replace(whole.segmenter, seconds=0.0), None)


def overhead_alone(rollouts: Rollouts, root: Path) -> float:
    """The engine's own share in this process."""
    made = describing(BURN)
    assert isinstance(made.describer, FakeProducer)
    assert isinstance(made.segmenter, FakeProducer)
    describer, segmenter = Clock(made.describer), Clock(made.segmenter)
    clocked = Producers(describer, segmenter, None)
    summary = annotate_rollouts([rollouts.path], KnowledgeCache(root), "k", clocked, batch=BATCH, quiet=True)
    model = sum(describer.seconds) + sum(segmenter.seconds)
    return summary.wall / model - 1


def on_dask(rollouts: Rollouts, root: Path, workers: int) -> tuple[float, Summary]:
    """Seconds until a new cluster has done a first short pass, and a whole pass on it."""
    start = time.perf_counter()
    plain = dask.config.set(
        {"distributed.worker.profile.enabled": False}
    )  # as annotate.scheduling.dask_executor starts them
    with plain, LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as cluster:

        def annotate(recorded: Rollouts) -> Summary:
            cache, executor = KnowledgeCache(root / "k"), ExecutorSettings(cluster.scheduler_address)
            return annotate_rollouts(
                [recorded.path], cache, "k", describing(BURN), batch=BATCH, quiet=True, executor=executor
            )

        annotate(random_rollouts(root / "short.zarr", 1, 4 * BATCH * workers, side=SIDE, seed=2))
        started = time.perf_counter() - start
        return started, annotate(rollouts)


def cached(root: Path, frames: int) -> dict[str, float]:
    """Look-ups per second of planning a pass over `frames` frames that are all known."""
    rollouts = random_rollouts(root / "many.zarr", max(frames // 500, 1), 500, side=32, seed=1)
    producers = fake_producers(0.0)
    annotate_rollouts([rollouts.path], KnowledgeCache(root / "k"), "k", producers, quiet=True)
    cache = KnowledgeCache(root / "k")
    annotator = make_annotator(cache, "k", producers)
    episodes = list(rollouts.episodes())
    start = time.perf_counter()
    summary = annotator(episodes)
    seconds = time.perf_counter() - start
    keys = sum(map(len, cache.levels))
    return {"lookups_per_s": keys / seconds, "keys": keys, "model_calls": sum(summary.calls.values())}


def child(rollouts: str, root: str) -> None:
    """The process that is killed: a pass whose model logs what it is asked."""
    faults = Faults(Path(root) / "log", None, {})
    cache = KnowledgeCache(Path(root) / "k")
    annotate_rollouts([Path(rollouts)], cache, "k", describing(BURN, faults), batch=BATCH, quiet=True)


def kill_and_resume(rollouts: Rollouts, root: Path) -> float:
    """Frames the model was asked about in a pass that is killed at half and resumed, over all frames."""
    (root / "log").mkdir(parents=True)
    frames = sum(episode.steps + 1 for episode in rollouts.episodes())
    asked = Faults(root / "log", None, {}).asked
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(rollouts.path), str(root)])
    while len(asked("texts")) < frames / 2:
        time.sleep(0.01)
        if process.poll() is not None:
            raise RuntimeError("the pass ended before it could be killed")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run([sys.executable, "-c", CHILD, str(rollouts.path), str(root)], check=True)
    counted = Counter(asked("texts"))
    assert len(counted) == frames
    return counted.total() / frames


def cris(frames: int, counts: Sequence[int], rounds: int) -> dict[str, dict[str, Spread]]:
    """The segmenter's images per second by phrases a frame, and its speed over that of one call per phrase."""
    torch.manual_seed(0)
    network = CRIS()
    segmenter = CrisSegmenter.of(network, CrisSettings())
    batch = pictures(frames)
    over, rates = {}, {}
    for count in counts:
        phrases = [PHRASES[:count]] * frames
        segmenter.segment(batch, phrases)
        bodies = {
            "ours": lambda: nothing(segmenter.segment(batch, phrases)),  # noqa: B023
            "naive": lambda: one_by_one(network, batch, phrases),  # noqa: B023
        }
        laps = take_turns(bodies, rounds, units=frames, told=f"CRIS, {count} phrases")
        over[str(count)], rates[str(count)] = spread(laps, "naive", "ours"), rate(laps, "ours")
    return {"cris_over_naive": over, "cris_images_per_s": rates}


def nothing(_: object) -> None:
    """A body's answer is seconds; what ours returns is none."""


@torch.inference_mode()
def one_by_one(network: CRIS, batch: FrameBatch, phrases: Sequence[Sequence[str]]) -> None:
    """As the public code does: the whole network for each frame and phrase."""
    for rgb, named in zip(batch.rgb, phrases, strict=True):
        for phrase in named:
            image = prepare(rgb[None], torch.device("cpu"))
            soft_mask(restore(network(image, tokenize([phrase], network.word_len)), *rgb.shape[:2]))


def pictures(count: int) -> FrameBatch:
    """Random frames, without anything privileged."""
    rgb = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
    empty: NDArray[Any] = np.zeros((count, 16), np.uint8)
    return FrameBatch(
        rgb, empty, empty, rgb[..., 0], rgb[..., 0].astype(np.uint16), *[np.zeros((count, 0), np.float32)] * 2
    )


def main() -> None:
    options = parser("perf.annotate", "What annotating costs.", rounds=3)
    options.add_argument("--frames", type=int, help="frames of a pass (8 a batch of 50 ms)")
    options.add_argument("--cached", type=int, help="frames of the cached pass")
    options.add_argument("--cris_frames", type=int, help="frames given to CRIS at once; 0 leaves it out")
    options.add_argument("--cris_phrases", type=int, nargs="+", help="phrases a frame")
    chosen = opening(
        options,
        3,
        quick={"frames": 500, "cached": 5_000, "cris_frames": 1, "cris_phrases": [2]},
        full={"frames": 1_500, "cached": 30_000, "cris_frames": 1, "cris_phrases": [1, 4, 8]},
    )
    with tempfile.TemporaryDirectory() as folder:
        found = engine(Path(folder), chosen.frames, chosen.rounds)
        known = cached(Path(folder) / "cached", chosen.cached)
        found["cached_lookups_per_s"] = round(known["lookups_per_s"])
        found["cached_model_calls"] = int(known["model_calls"])
    if chosen.cris_frames:
        found |= cris(chosen.cris_frames, chosen.cris_phrases, 2)
    ending("annotate", figures(found), found)


def engine(root: Path, frames: int, rounds: int) -> dict[str, Any]:
    """What the engine adds, alone and on Dask, and what a kill costs."""
    length = min(frames, 500)
    rollouts = random_rollouts(root / "r.zarr", frames // length, length, side=SIDE)
    # A kill costs what is under way, a second or so: it is measured on a pass of twice the length.
    twice = random_rollouts(root / "twice.zarr", 2 * frames // length, length, side=SIDE)
    model = BURN * sum(episode.steps + 1 for episode in rollouts.episodes()) / BATCH
    alone, dask, scaling, starting = list[float](), list[float](), list[float](), list[float]()
    for number in range(rounds):
        alone.append(overhead_alone(rollouts, root / f"alone{number}"))
        _, one = on_dask(rollouts, root / f"one{number}", 1)
        started, two = on_dask(rollouts, root / f"two{number}", 2)
        starting.append(started)
        dask.append(one.wall / model - 1)
        scaling.append(one.wall / two.wall)
        print(
            f"round {number + 1} of {rounds}: overhead {alone[-1]:.1%} alone, {dask[-1]:.1%} on a worker; two workers "
            f"{scaling[-1]:.2f} x one ({one.wall:.1f} s, {two.wall:.1f} s)",
            flush=True,
        )
    return {
        "engine_overhead": {"alone": Spread.of(alone), "dask": Spread.of(dask)},
        "two_workers_over_one": Spread.of(scaling),
        "cluster_start_s": Spread.of(starting),
        "kill_and_resume": round(kill_and_resume(twice, root / "killed"), 4),
    }


def figures(found: dict[str, Any]) -> Iterator[Figure]:
    """The figures beside their targets (design.md §5)."""
    yield "engine overhead, in this process", found["engine_overhead"]["alone"], ".1%", "≤ 5%"
    yield "engine overhead, one Dask worker", found["engine_overhead"]["dask"], ".1%", "≤ 5%"
    yield "two workers / one", found["two_workers_over_one"], ".2f", "≥ 1.8"
    yield "cached look-ups per second", found["cached_lookups_per_s"], ",", "≥ 50,000"
    yield "model calls of a cached pass", found["cached_model_calls"], "", "0"
    yield "kill at half + resume / one pass", found["kill_and_resume"], ".3f", "≤ 1.05"
    for count, over in found.get("cris_over_naive", {}).items():
        yield f"CRIS over phrase by phrase, {count} phrases", over, ".2f", "> 1"
        yield f"CRIS images per second, {count} phrases", found["cris_images_per_s"][count], ".2f", ""


if __name__ == "__main__":
    main()
