"""Small rollouts that are valid in every respect, and a knowledge set for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from semore.datasets.action_text import action_words
from semore.datasets.knowledge.cache import KnowledgeCache, KnowledgeSet, SetManifest, ensure_set
from semore.datasets.knowledge.records import Status, Text, note, record_keys
from semore.datasets.rollouts.schema import ACTOR_FIELDS, EGO_FIELDS, FRAME_ARRAYS, STEP_ARRAYS, split_of
from semore.datasets.rollouts.store import Rollouts, row_digests

SIDE = 16
WHO, JUDGE = {"kind": "tiny"}, {"kind": "tiny judge"}


def tiny_arrays(seed: int, steps: int, side: int = SIDE, actors: int = 2) -> dict[str, np.ndarray]:
    """An episode's arrays, random but consistent."""
    rng = np.random.default_rng(seed)
    frames = steps + 1
    arrays = {
        "rgb": rng.integers(0, 256, (frames, side, side, 3), np.uint8),
        "semantic": rng.integers(0, 14, (frames, side, side), np.uint8),
        "instance": rng.integers(0, 999, (frames, side, side), np.uint16),
        "actors": rng.normal(size=(frames, actors, len(ACTOR_FIELDS))),
        "ego": rng.normal(size=(frames, len(EGO_FIELDS))),
        "action": rng.uniform(-1, 1, (steps, 2)),
        "reward": rng.normal(size=steps),
        "speed": rng.uniform(0, 9, steps),
        "progress": rng.uniform(0, 1, steps),
        "impulse": np.where(np.arange(steps) == steps - 1, 250.0, 0.0),
        "terminated": np.arange(steps) == steps - 1,
        "truncated": np.zeros(steps, bool),
    }
    dtypes = FRAME_ARRAYS | STEP_ARRAYS
    arrays = {name: value.astype(dtypes[name]) for name, value in arrays.items()}
    states = row_digests(*(arrays[name] for name in ("ego", "actors", "semantic", "instance")))
    return arrays | {"digest": row_digests(arrays["rgb"]), "state_digest": states}


def tiny_episode(rollouts: Rollouts, seed: int, steps: int = 6, **attributes: Any) -> str:
    """Write one; returns its name."""
    side = int(attributes.get("camera", SIDE))
    arrays = tiny_arrays(seed, steps, side, attributes.pop("actors", 2))
    scenario = str(attributes.get("scenario", "JayWalk"))
    name = f"{scenario.lower()}-{seed:07d}"
    about = {
        "scenario": scenario, "weather": "hard_high_light", "seed": seed, "split": split_of(seed), "simulator": "tiny",
        "simulator_version": "1", "code_version": "0", "policy": "random", "action_repeat": 2, "reward": "published",
        "camera": side, "ending": "collisions", "total_reward": float(arrays["reward"].sum(dtype=np.float64)),
    }  # fmt: skip
    rollouts.write(name, arrays, about | attributes)
    return name


def tiny_rollouts(path: Path, *seeds: int, **attributes: Any) -> Rollouts:
    """A folder with an episode per seed."""
    rollouts = Rollouts(path)
    rollouts.create()
    for seed in seeds:
        tiny_episode(rollouts, seed, **attributes)
    return rollouts


def tiny_knowledge(root: Path, rollouts: Rollouts, name: str = "tiny") -> KnowledgeSet:
    """A set that knows two phrases and their masks of every decision frame, and a verdict on every action."""
    cache = KnowledgeCache(root)
    for episode in rollouts.episodes():
        rows = episode.decision_rows
        arrays = episode.read("digest", "state_digest", "action")
        frames, states, count = arrays["digest"][rows], arrays["state_digest"][rows], len(rows)
        keys = record_keys("texts", WHO, frames, states)
        cache.texts.add(WHO, keys, frames, [Status.OK] * count, [Text(("car", "<b>dog</b>")).encode()] * count)
        for place, phrase in enumerate(("car", "<b>dog</b>")):
            keys = record_keys("masks", WHO, frames, states, [phrase] * count)
            masks = np.zeros((count, SIDE, SIDE), np.uint8)
            masks[:, place] = 255
            cache.masks.add(WHO, keys, frames, [Status.OK] * count, [note()] * count, masks)
        words, acted = action_words(arrays["action"][rows[:-1]]), slice(count - 1)
        keys = record_keys("verdicts", JUDGE, frames[acted], states[acted], words)
        verdicts = (np.arange(count - 1) % 2).astype(np.uint8)
        cache.verdicts.add(JUDGE, keys, frames[acted], [Status.OK] * (count - 1), [note()] * (count - 1), verdicts)
    cache.commit()
    return ensure_set(cache, name, SetManifest(WHO, WHO, JUDGE))


def tiny_data(root: Path) -> Path:
    """A data folder: rollouts `a` of two training seeds and a test seed, and a knowledge set of them."""
    tiny_knowledge(root / "knowledge", tiny_rollouts(root / "rollouts" / "a.zarr", 0, 1, 2_000_000))
    return root
