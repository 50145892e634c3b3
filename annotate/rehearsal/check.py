"""The checks after a rehearsal, read from the disk anew."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from semore.datasets.knowledge.cache import KnowledgeCache, open_set, set_names
from semore.datasets.knowledge.level import Level
from semore.datasets.knowledge.questions import FrameKeys
from semore.datasets.knowledge.records import LEVELS, Digests, LevelName, Phrases, Status, mask_keys, record_keys
from semore.datasets.rollouts.store import Rollouts


def all_keys(root: Path, name: str, rollouts: Rollouts) -> dict[LevelName, tuple[Digests, list[str]]]:
    """Of each level the keys (N, 16) that must have a record, and the frame (hex) each belongs to; masks for the
    phrases that the frames' texts name."""
    knowledge = open_set(root, name)
    manifest = knowledge.manifest
    episodes = list(rollouts.episodes())
    asked = FrameKeys.of(episodes, [np.arange(episode.steps + 1) for episode in episodes])
    frames, states, acted = asked.frames, asked.states, asked.acted
    phrases = Phrases.of(knowledge.texts(frames, states))
    keys: dict[LevelName, tuple[Digests, list[str]]] = {
        "texts": (record_keys("texts", manifest.describer, frames, states), _hex(frames)),
        "masks": (mask_keys(manifest.segmenter, frames, states, phrases), _hex(frames[phrases.owners])),
    }
    if manifest.judge is not None:
        verdicts = record_keys("verdicts", manifest.judge, frames[acted], states[acted], asked.words)
        keys["verdicts"] = (verdicts, _hex(frames[acted]))
    return keys


def finished(root: Path, name: str, rollouts: Rollouts) -> dict[LevelName, set[str]]:
    """Of each level the frames all of whose records are there and ok."""
    if name not in set_names(root):
        return {level: set() for level in LEVELS}  # the pass was stopped before its first answer
    keys_of = all_keys(root, name, rollouts)  # reads the texts, which puts torn shards aside
    cache = KnowledgeCache(root)
    done: dict[LevelName, set[str]] = {}
    for level, (keys, frames) in keys_of.items():
        ok = _level(cache, level).lookup(keys).status == Status.OK
        missing = {frame for frame, fine in zip(frames, ok.tolist(), strict=True) if not fine}
        done[level] = set(frames) - missing
    return done


def problems(root: Path, name: str, rollouts: Rollouts, poison: Iterable[str]) -> list[str]:
    """What is wrong at the end of a rehearsal; empty if every key has a record, the same one for all who open the
    cache, and exactly the poisoned frames have failed."""
    found = []
    saved = KnowledgeCache(root)
    for index in root.glob("*/index.npz"):
        index.unlink()
    rebuilt = KnowledgeCache(root)
    poisoned = set(poison)
    for level, (keys, frames) in all_keys(root, name, rollouts).items():
        hits = _level(rebuilt, level).lookup(keys)
        if not hits.found.all():
            found.append(f"{level}: {int((~hits.found).sum())} of {len(keys)} keys have no record")
        if not np.array_equal(_level(saved, level).records(keys), _level(rebuilt, level).records(keys)):
            found.append(f"{level}: the winners depend on who opens the cache")
        failed = {frame for frame, status in zip(frames, hits.status.tolist(), strict=True) if status == Status.FAILED}
        expected = poisoned if level == "texts" else failed & poisoned
        if failed != expected:
            found.append(
                f"{level}: {len(failed - poisoned)} healthy frames failed, {len(expected - failed)} poisoned did not"
            )
    return found


def _level(cache: KnowledgeCache, name: LevelName) -> Level:
    return {level.name: level for level in cache.levels}[name]


def _hex(digests: Digests) -> list[str]:
    return [row.tobytes().hex() for row in digests]
