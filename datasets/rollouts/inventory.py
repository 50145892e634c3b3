"""The contents of rollouts folders: episodes, sizes, rewards, and how far knowledge sets cover them."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.cache import KnowledgeCache, KnowledgeSet, open_set, set_names
from semore.datasets.knowledge.questions import FrameKeys
from semore.datasets.knowledge.records import INVALID
from semore.datasets.names import default_knowledge, rollouts_path
from semore.datasets.rollouts.store import Episode, Rollouts


@dataclass(frozen=True)
class Coverage:
    """How far a knowledge set covers `frames` decision frames: the fraction with a valid H_ka, and the fraction of
    their actions with a verdict (None when the set has no judge)."""

    frames: int
    masks: float
    verdicts: float | None


@dataclass(frozen=True)
class Inventory:
    """One rollouts folder. Counts map a value to its number of episodes; `reward` is mean, standard deviation, least
    and most of the episodes' total; `unreadable` names the episodes left out of everything else."""

    name: str
    path: str
    episodes: int
    steps: int
    bytes: int
    fingerprint: str
    scenarios: dict[str, int]
    weathers: dict[str, int]
    policies: dict[str, int]
    splits: dict[str, int]
    endings: dict[str, int]
    simulators: dict[str, int]
    recorders: dict[str, int]
    cameras: dict[str, int]
    reward: tuple[float, float, float, float] | None
    unreadable: list[str]
    coverage: dict[str, Coverage]


def folders(data: str, names: Sequence[str] = ()) -> list[Path]:
    """The named rollouts folders (as for the stages: a name under <data>/rollouts, or a path ending in .zarr), default
    all under <data>/rollouts; SemoreError when one is missing or there is none."""
    found = [rollouts_path(data, name) for name in names] or sorted((Path(data) / "rollouts").glob("*.zarr"))
    if not found:
        raise SemoreError(
            f"{data}/rollouts has no rollouts: nothing is recorded there yet; name another folder by --data"
        )
    missing = [folder for folder in found if not folder.is_dir()]
    if missing:
        known = ", ".join(sorted(path.stem for path in (Path(data) / "rollouts").glob("*.zarr"))) or "none"
        raise SemoreError(f"{missing[0]} does not exist; under {data}/rollouts there is: {known}")
    return found


def knowledge_sets(data: str) -> list[KnowledgeSet]:
    """Every knowledge set of <data>/knowledge, by name; none where there is no cache."""
    root = Path(data) / "knowledge"
    names = set_names(root)
    cache = KnowledgeCache(root) if names else None
    return [open_set(cache, name) for name in names] if cache else []


def choose_set(data: str, name: str, episodes: Sequence[Episode], preset: str = "laptop") -> KnowledgeSet | None:
    """The knowledge set `name`; "none": None. "": of those with masks of any of the episodes' decision frames the one
    that `annotate` makes by default under the preset, else the only one, None when there is none. SemoreError naming
    the choices when there are several and no default, or for a name that no set has."""
    if name == "none":
        return None
    if name:
        return open_set(Path(data) / "knowledge", name)
    sets = knowledge_sets(data)
    frame_keys = [FrameKeys.of(episodes)] if sets else []
    covering = {each.name: each for each in sets if coverage(each, frame_keys).masks > 0}
    default = default_knowledge(preset)
    if len(covering) > 1 and default not in covering:
        raise SemoreError(
            f"{data}/knowledge: several knowledge sets cover these episodes: {', '.join(covering)}; none of them is "
            f"the default ({default}); choose one with --knowledge, or none with --knowledge none"
        )
    return covering.get(default) or next(iter(covering.values()), None)


def take_inventory(folder: Path, sets: Sequence[KnowledgeSet] = ()) -> Inventory:
    """Look through a rollouts folder; damaged episodes are named, not raised. SemoreError when it is none at all."""
    rollouts = Rollouts(folder)
    rollouts.episodes()  # SemoreError when the folder is foreign or of another version
    episodes: list[Episode] = []
    frame_keys: list[FrameKeys] = []
    unreadable = []
    for name in rollouts.names():
        try:
            episode = rollouts.episode(name)
            frame_keys += [FrameKeys.of([episode])] if sets else []
            episodes.append(episode)
        except SemoreError:
            unreadable.append(name)
    rewards = [float(each.attributes["total_reward"]) for each in episodes if "total_reward" in each.attributes]

    def count(*keys: str) -> dict[str, int]:
        values = (" ".join(str(each.attributes.get(key, "unknown")) for key in keys) for each in episodes)
        return dict(Counter(values).most_common())

    spread = (statistics.fmean(rewards), statistics.pstdev(rewards), min(rewards), max(rewards)) if rewards else None
    return Inventory(
        folder.stem,
        str(folder),
        len(episodes),
        sum(each.steps for each in episodes),
        folder_bytes(folder),
        rollouts.fingerprint([each.name for each in episodes]),
        count("scenario"),
        count("weather"),
        count("policy"),
        count("split"),
        count("ending"),
        count("simulator", "simulator_version"),
        count("code_version"),
        count("camera"),
        spread,
        unreadable,
        {each.name: coverage(each, frame_keys) for each in sets},
    )


def coverage(knowledge: KnowledgeSet, frame_keys: Sequence[FrameKeys]) -> Coverage:
    """The coverage of the frames by a knowledge set."""
    asked = FrameKeys.joined(frame_keys)
    frames, states, acted = asked.frames, asked.states, asked.acted
    masks = float(knowledge.valid(frames, states).mean()) if len(frames) else 0.0
    verdicts = None
    if knowledge.manifest.judge is not None:
        said = knowledge.verdicts(frames[acted], states[acted], asked.words)
        verdicts = float((said != INVALID).mean()) if len(said) else 0.0
    return Coverage(len(frames), masks, verdicts)


def folder_bytes(folder: Path) -> int:
    """Size of the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
