"""What a run learns from: knowledge, recorded and refreshed episodes in the replay buffer, and what is held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from semore.annotate.annotate_hint import annotate_command, annotated
from semore.datasets.device import torch_device
from semore.datasets.errors import SemoreError
from semore.datasets.frame_pool import FramePool, forecast_bytes, frame_bytes, rows_of
from semore.datasets.knowledge.cache import KnowledgeCache, KnowledgeSet
from semore.datasets.rollouts.remedy import REFRESH
from semore.datasets.rollouts.store import Episode
from semore.train.dagger import expert_actions
from semore.train.gpu import room_for_frames
from semore.train.health import complaints
from semore.train.held_out import HeldOut
from semore.train.pins import Pins, records_used
from semore.train.refresh import Refreshed
from semore.train.replay import Advise, SelectiveReplay
from semore.train.settings import TrainSettings
from semore.train.stopping import Stop


@dataclass(frozen=True)
class Stock:
    """The knowledge set, the cache records that the run rests on, the episodes its policies have driven, the buffer
    that holds recorded and driven ones, and the held-out ones."""

    knowledge: KnowledgeSet
    pins: Pins
    driven: Refreshed
    replay: SelectiveReplay
    held_out: HeldOut


def take_stock(settings: TrainSettings, episodes: Sequence[Episode], found: dict[str, Any] | None, stop: Stop) -> Stock:
    """Read all that the run learns from, as it was at the checkpoint `found`. SemoreError when there is no knowledge of
    it; Stopped when that is asked for meanwhile."""
    folder = settings.folder
    pins = Pins(folder / "knowledge_used.npy", goes_on=found is not None)
    cache = KnowledgeCache(Path(settings.data) / "knowledge", pins.records if found else None)
    knowledge = annotated(settings, cache, settings.knowledge)
    driven = Refreshed(folder / REFRESH, settings.scenario, settings.schedule, settings.uses_knowledge)
    grown = list(driven.restore(found["refresh"] if found else {"recorded": [], "pending": []}))
    training = [(episode, None) for episode in episodes if episode.attributes["split"] == "train"]
    replay = _empty(settings, len(training) + len(grown))
    done = int(found["agent"]["updates"]) if found else 0
    for episode, visible in (*training, *grown):
        stop.check(done, saved=False)
        replay.add(episode, knowledge, visible)
    _inspect(replay, settings, begins=found is None)
    if not len(pins.records):  # a run that goes on has them, and not what others have annotated since
        pins.add([records_used(episode, knowledge, rows_of(episode, settings.frame_skip)) for episode in episodes])
    return Stock(knowledge, pins, driven, replay, HeldOut.of(settings.view, episodes, knowledge))


def _empty(settings: TrainSettings, episodes: int) -> SelectiveReplay:
    """The buffer before so many episodes are read into it."""
    view, capacity = settings.view, settings.replay.pool_frames
    home = room_for_frames(torch_device(settings.device), frame_bytes(view, capacity))
    pool, size = FramePool(view, capacity, home), forecast_bytes(view, capacity) / 2**30
    where = "" if home.type == "cpu" else " on the GPU"
    print(f"train: frame pool of {capacity:,} frames, {size:.2f} GiB{where}; reading {episodes} episodes")
    return SelectiveReplay(pool, settings.replay, settings.seed, adviser(settings))


def adviser(settings: TrainSettings) -> Advise | None:
    """What tells, for an episode, the actions that the run imitates; None when it asks no driver."""
    if not settings.asks_driver:
        return None
    return partial(expert_actions, frame_skip=settings.frame_skip, sight=settings.sight)


def _inspect(replay: SelectiveReplay, settings: TrainSettings, begins: bool) -> None:
    """Say what the buffer holds and, before an update is spent on it, that it starves. SemoreError when no frame of it
    has knowledge."""
    pool = replay.pool
    known = pool.mask_valid[: pool.size].float().mean().item() if pool.size else 0.0
    print(f"train: {len(replay):,} transitions admitted of {replay.offered:,}; {known:.1%} of frames have knowledge")
    if begins:
        print(*(f"train: {complaint}\n" for complaint in complaints(replay.composition(0, 0.0), 0)), sep="", end="")
    if not known:
        made = annotate_command(settings, settings.knowledge)
        raise SemoreError(f"no frame has knowledge in set {settings.knowledge!r}; annotate first: `{made}`")
