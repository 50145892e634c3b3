"""What a run learnt from, for measurements of it: its recordings, its own drives and the knowledge it has pinned."""

from __future__ import annotations

from pathlib import Path

from semore.datasets.errors import SemoreError
from semore.datasets.frame_pool import FramePool, frames_of
from semore.datasets.knowledge.cache import KnowledgeCache, KnowledgeSet, open_set, read_pins
from semore.datasets.names import rollouts_path
from semore.datasets.rollouts.remedy import REFRESH
from semore.datasets.rollouts.store import Episode, Rollouts
from semore.train.replay import SelectiveReplay
from semore.train.settings import TrainSettings
from semore.train.stock import adviser


def knowledge_of(run: Path, settings: TrainSettings) -> KnowledgeSet:
    """The run's knowledge set as it was answered to the run, whatever has been annotated since; SemoreError when there
    is no such set, or the run has pinned nothing yet."""
    pins = run / "knowledge_used.npy"
    if not pins.exists():
        raise SemoreError(f"{run} has no {pins.name}: it has not begun to learn; wait for its first checkpoint")
    return open_set(KnowledgeCache(Path(settings.data) / "knowledge", read_pins(pins)), settings.knowledge)


def episodes_of(settings: TrainSettings, split: str, rollouts: str = "") -> list[Episode]:
    """The recorded episodes of one split, in order; `rollouts` (name or path) stands for those of the settings where it
    is given. SemoreError when there are none."""
    name = rollouts or settings.rollouts
    folder = rollouts_path(settings.data, name, settings.scenario, settings.preset, settings.simulator)
    found = [episode for episode in Rollouts(folder).episodes() if episode.attributes["split"] == split]
    if not found:
        raise SemoreError(f"{folder} has no episode of the {split} split; name other rollouts with --rollouts PATH")
    return found


def replay_of(run: Path, settings: TrainSettings, rollouts: str = "") -> SelectiveReplay:
    """The run's buffer as it would be with all that was recorded for it and all that it has driven itself: the same
    filter and sampler, but with the sampler's draws from the start, and every driven frame judged by what is known by
    now."""
    knowledge = knowledge_of(run, settings)
    driven = Rollouts(run / REFRESH)
    own = list(driven.episodes()) if driven.names() else []  # by name, which is by seed: as they were driven
    episodes = [*episodes_of(settings, "train", rollouts), *own]
    frames = sum(frames_of(episode, settings.frame_skip) for episode in episodes)
    pool = FramePool(settings.view, min(frames, settings.replay.pool_frames))
    replay = SelectiveReplay(pool, settings.replay, settings.seed, adviser(settings))
    for episode in episodes:
        replay.add(episode, knowledge)
    return replay
