"""What a batch costs on its way out of the replay buffer: `python -m perf.replay` (or `make bench`).

128 windows of 4 frames at 84² with their masks, out of 20,000 frames. Prints a table with the targets of design.md §5,
and as its very last line one JSON object, all measured in turns in one run:

    replay_batches_per_s        SelectiveReplay.sample: draw, indices, gather, masks to float
    index_select_batches_per_s  torch.index_select of the same tensors and bytes into preallocated buffers
    torchrl_batches_per_s       TorchRL's LazyMemmapStorage with SliceSampler, the same tensors; null without it
    replay_over_index_select, replay_over_torchrl   each round's own ratios: median, least and most
    share_of_update             of a batch in perf.train's fp32 update with attention and fusion off, likewise
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import torch

from perf.clock import Body, Figure, Spread, disturbed, ending, opening, parser, seconds, spread, take_turns
from perf.train_stack import Stack, make_agent, make_batches, plain_loop
from semore.annotate.pipeline import annotate_rollouts
from semore.annotate.rehearsal.fake import fake_producers
from semore.annotate.rehearsal.rollouts import random_rollouts
from semore.datasets.frame_pool import FramePool
from semore.datasets.frame_view import View
from semore.datasets.knowledge.cache import KnowledgeCache, open_set
from semore.train.admission import ReplaySettings
from semore.train.agent import Agent
from semore.train.encoder_settings import geometry
from semore.train.replay import SelectiveReplay

EPISODE: Final = 250
"""Frames of an episode."""
WINDOW: Final = 4


def random_replay(size: int, frames: int, folder: Path) -> SelectiveReplay:
    """A full pool of random frames with random masks, read from rollouts and cache; every transition is admitted."""
    rollouts = random_rollouts(folder / "rollouts.zarr", max(frames // EPISODE, 1), EPISODE, side=size)
    cache = KnowledgeCache(folder / "knowledge")
    annotate_rollouts([rollouts.path], cache, "random", fake_producers(0.0), quiet=True)
    pool = FramePool(View(size, geometry(size).grid, 1, "published"), max(frames, EPISODE))
    replay, knowledge = SelectiveReplay(pool, ReplaySettings(admission="off"), seed=0), open_set(cache, "random")
    for episode in rollouts.episodes():
        replay.add(episode, knowledge)
    return replay


def bare(replay: SelectiveReplay, batch: int) -> Callable[[], object]:
    """index_select alone, of everything a batch is gathered from."""
    pool = replay.pool
    # As many draws as reach all of the pool: a few, again and again, would stay in the processor's cache.
    newest = [replay.latest(len(replay))[torch.randperm(len(replay))[:batch]] for _ in range(512)]
    windows = [torch.stack([(n - age).clamp_min(0) for age in (2, 1, 0, -1)], 1) for n in newest]
    given = cycle([(n, w.flatten(), w[:, 2:].flatten()) for n, w in zip(newest, windows, strict=True)])
    sources = (pool.frames, pool.masks, pool.mask_valid, pool.outcome)
    counts = (WINDOW, 2, 2, 1)
    buffers = [torch.empty(n * batch, *s.shape[1:], dtype=s.dtype) for n, s in zip(counts, sources, strict=True)]

    def run() -> None:
        one, four, two = next(given)
        chosen = {WINDOW: four, 2: two, 1: one}
        for count, source, buffer in zip(counts, sources, buffers, strict=True):
            torch.index_select(source, 0, chosen[count], out=buffer)

    return run


def torchrl_buffer(replay: SelectiveReplay, batch: int, folder: Path) -> Callable[[], object] | None:
    """TorchRL's buffer over the same frames on disk (warm), slices of four steps, boundaries cached."""
    if find_spec("torchrl") is None:
        return None
    data: Any = import_module("torchrl.data")
    pool = replay.pool
    buffer = data.TensorDictReplayBuffer(
        storage=data.LazyMemmapStorage(pool.size, scratch_dir=folder),
        sampler=data.SliceSampler(slice_len=WINDOW, traj_key="episode", cache_values=True),
        batch_size=WINDOW * batch,
    )
    rows = import_module("tensordict").TensorDict(
        {
            **{name: getattr(pool, name) for name in ("frames", "masks", "mask_valid", "action", "reward", "not_done")},
            "driver": pool.driver,
            "advice": pool.advice,
            "episode": pool.start // EPISODE,
        },
        batch_size=[pool.size],
    )
    buffer.extend(rows)
    sample: Callable[[], object] = buffer.sample
    return sample


def measure(size: int, batch: int, frames: int, rounds: int, calls: int) -> dict[str, Any]:
    """All figures of a run; `calls` batches of each kind a round, a tenth of that of TorchRL's."""
    stack = Stack(size=size, batch=batch)
    update = plain_loop(make_agent(Agent, stack), make_batches(stack, whole=False))
    with tempfile.TemporaryDirectory() as folder:
        replay = random_replay(size, frames, Path(folder))
        rival = torchrl_buffer(replay, batch, Path(folder) / "torchrl")
        held = torch.empty(WINDOW * batch, 3, size, size, dtype=torch.uint8)  # as training does on a CPU
        bodies: dict[str, Body] = {
            "replay": repeated(lambda: replay.sample(batch, held), calls),
            "index_select": repeated(bare(replay, batch), calls),
        }
        if rival is not None:
            bodies["torchrl"] = repeated(rival, max(calls // 10, 1))
        bodies["update"] = repeated(update, 1)
        laps = take_turns(bodies, rounds, told=f"{size}²")
    work = {"replay": calls, "index_select": calls, "torchrl": max(calls // 10, 1), "update": 2}
    found: dict[str, Any] = {
        f"{name}_batches_per_s": round(work[name] / seconds(laps, name), 1) if name in bodies else None
        for name in ("replay", "index_select", "torchrl")
    }

    def times(over: str, under: str) -> Spread | None:
        """How many times as long a piece of `over` takes."""
        return spread(laps, over, under).times(work[under] / work[over]) if over in bodies else None

    found["replay_over_index_select"] = times("index_select", "replay")
    found["replay_over_torchrl"] = times("torchrl", "replay")
    found["update_ms"] = round(1e3 * seconds(laps, "update") / work["update"], 1)
    found["share_of_update"] = times("replay", "update")
    found["disturbed_laps"] = round(disturbed(laps), 2)
    return found


def repeated(body: Callable[[], object], times: int) -> Callable[[], None]:
    """`times` calls in one."""

    def run() -> None:
        for _ in range(times):
            body()

    return run


def figures(found: dict[str, Any]) -> Iterator[Figure]:
    """The figures beside their targets (design.md §5)."""
    for name in ("replay", "index_select", "torchrl"):
        yield f"{name}, batches/s", found[f"{name}_batches_per_s"], ",.0f", ""
    yield "replay / index_select", found["replay_over_index_select"], ".2f", "≥ 0.8"
    yield "replay / TorchRL", found["replay_over_torchrl"], ".1f", "≥ 10"
    yield "share of an update", found["share_of_update"], ".2%", "≤ 1%"


def main() -> None:
    options = parser("perf.replay", "What a batch costs.", rounds=5)
    options.add_argument("--calls", type=int, help="batches a round")
    options.add_argument("--frames", type=int, help="frames of the pool")
    options.add_argument("--size", type=int, default=84, help="picture side, px")
    options.add_argument("--batch", type=int, default=128, help="windows of a batch")
    options.add_argument("--threads", type=int, default=2, help="CPU threads")
    full = {"calls": 500, "frames": 20_000}
    chosen = opening(options, 5, quick={"calls": 200, "frames": 5_000}, full=full)
    torch.set_num_threads(chosen.threads)
    found = measure(chosen.size, chosen.batch, chosen.frames, chosen.rounds, chosen.calls)
    ending("a batch of windows with masks", figures(found), found)


if __name__ == "__main__":
    main()
