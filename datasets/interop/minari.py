"""Rollouts as a Minari dataset and back: pictures are observations, all other arrays of a frame are infos."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.cache import KnowledgeSet
from semore.datasets.progress import meter
from semore.datasets.rollouts.schema import FRAME_ARRAYS, STEP_ARRAYS
from semore.datasets.rollouts.store import Episode, Rollouts, checksum
from semore.extras import require

STANDARD: Final = {"action": "actions", "reward": "rewards", "terminated": "terminations", "truncated": "truncations"}
"""Our step arrays that Minari has a field of its own for; the others are infos."""
STEP_INFOS: Final = tuple(name for name in STEP_ARRAYS if name not in STANDARD)
FRAME_INFOS: Final = tuple(name for name in FRAME_ARRAYS if name != "rgb")
ATTRIBUTES: Final = "semore_attributes"
"""Episode metadata: the attributes of the recorded episode, as JSON."""
NAME: Final = "semore_name"
UNFINISHED: Final = ".unfinished"
"""Lies in a dataset's folder while it is being written."""


def export_minari(
    episodes: list[Episode], dataset_id: str, description: str, knowledge: KnowledgeSet | None = None
) -> Path:
    """Write the episodes as the Minari dataset `dataset_id`, e.g. semore/jaywalk-v0; returns its folder.

    Observations are the recorded pictures (T+1, H, W, 3) uint8, stored without loss. Infos have T+1 rows, as Minari
    wants them: row t of a step's info (speed, progress, impulse) belongs to the step that led to frame t, row 0 is
    zero. With a knowledge set they include h_ka (T+1, H, W) uint8 and h_ka_valid (T+1,) bool. SemoreError when the
    dataset exists or the disk is too small.
    """
    require("interop", "minari", "gymnasium")
    import minari
    from gymnasium.spaces import Box
    from minari.data_collector import EpisodeBuffer

    camera = int(episodes[0].attributes["camera"])
    spaces = {
        "observation_space": Box(0, 255, (camera, camera, 3), np.uint8),
        "action_space": Box(-1.0, 1.0, (2,), np.float32),
    }
    target = _free_folder(dataset_id, sum(_bytes(each, knowledge) for each in episodes))
    policies = ", ".join(sorted({str(each.attributes["policy"]) for each in episodes}))
    with _quiet(), meter(f"export {dataset_id}", len(episodes), "episodes") as progress:
        dataset = minari.create_dataset_from_buffers(
            dataset_id, [], author="Semore", algorithm_name=policies, description=description, jpeg_encoding=False,
            **spaces,
        )  # fmt: skip
        (target / UNFINISHED).touch()
        for number, episode in enumerate(episodes):
            buffer, metadata = _buffer(EpisodeBuffer, episode, knowledge)
            dataset.storage.update_episodes([buffer])
            dataset.storage.update_episode_metadata([metadata], [number])
            progress.advance()
        (target / UNFINISHED).unlink()
    return target


def import_minari(dataset_id: str, target: Path) -> int:
    """Write a Minari dataset that `export_minari` made into a rollouts folder; returns the number of episodes.

    SemoreError naming what is missing when the dataset came from elsewhere: rollouts hold semantic and instance
    pictures, actor states and digests, which cannot be made from observations and actions.
    """
    require("interop", "minari")
    import minari

    if dataset_id not in minari.list_local_datasets():
        known = ", ".join(sorted(minari.list_local_datasets())) or "none"
        raise SemoreError(f"no local Minari dataset {dataset_id!r}; there is {known}. `minari download` fetches others")
    dataset = minari.load_dataset(dataset_id)
    rollouts = Rollouts(target)
    with rollouts.lock(), meter(f"import {dataset_id}", dataset.total_episodes, "episodes") as progress:
        rollouts.create()
        rollouts.sweep()
        present = set(rollouts.names())
        storage = dataset.storage
        for index in range(dataset.total_episodes):
            (about,) = storage.get_episode_metadata([index])
            (content,) = storage.get_episodes([index])
            name, arrays, attributes = _recorded(dataset_id, about, content)
            if (found := checksum(arrays)) != attributes["checksum"]:
                raise SemoreError(
                    f"{dataset_id}, episode {index} ({name}): checksum {found}, expected {attributes['checksum']}: it "
                    "was changed after the export; export it again"
                )
            if name not in present:
                rollouts.write(name, arrays, attributes)
            elif rollouts.episode(name).attributes["checksum"] != found:
                raise SemoreError(f"{target / name} exists and differs; choose another folder to import into")
            progress.advance()
    return int(dataset.total_episodes)


def _buffer(make: Any, episode: Episode, knowledge: KnowledgeSet | None) -> tuple[Any, dict[str, str]]:
    arrays = episode.read(*FRAME_ARRAYS, *STEP_ARRAYS)
    infos: dict[str, NDArray[Any]] = {name: arrays[name] for name in FRAME_INFOS}
    infos |= {name: np.concatenate([np.zeros(1, arrays[name].dtype), arrays[name]]) for name in STEP_INFOS}
    if knowledge is not None:
        side = arrays["rgb"].shape[1:3]
        infos["h_ka"], infos["h_ka_valid"] = knowledge.h_ka(arrays["digest"], arrays["state_digest"], size=side)
    standard = {theirs: arrays[ours] for ours, theirs in STANDARD.items()}
    seed = int(episode.attributes["seed"])
    metadata = {ATTRIBUTES: json.dumps(dict(episode.attributes)), NAME: episode.name}
    return make(seed=seed, observations=arrays["rgb"], infos=infos, **standard), metadata


def _recorded(
    dataset_id: str, about: Mapping[str, Any], content: Mapping[str, Any]
) -> tuple[str, dict[str, NDArray[Any]], dict[str, Any]]:
    """Name, arrays and attributes of an episode as Minari holds it."""
    infos = content["infos"] or {}
    missing = [f"infos/{name}" for name in (*FRAME_INFOS, *STEP_INFOS) if name not in infos]
    missing += [f"episode metadata {key}" for key in (ATTRIBUTES, NAME) if key not in about]
    if missing:
        raise SemoreError(
            f"{dataset_id} was not exported from rollouts; it has no {', '.join(missing)}, which cannot be made from "
            "observations and actions. Record with `semore collect` instead"
        )
    arrays = {"rgb": content["observations"]} | {name: infos[name] for name in FRAME_INFOS}
    arrays |= {ours: content[theirs] for ours, theirs in STANDARD.items()}
    arrays |= {name: infos[name][1:] for name in STEP_INFOS}
    return str(about[NAME]), arrays, json.loads(about[ATTRIBUTES])


def _free_folder(dataset_id: str, needed: int) -> Path:
    """Where Minari will put the dataset; SemoreError when the name is none, is taken or the disk is too small."""
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.storage import get_dataset_path

    try:
        parse_dataset_id(dataset_id)
    except (ValueError, TypeError):  # TypeError: it has no version
        raise SemoreError(f"{dataset_id!r} is no Minari name: expected e.g. semore/jaywalk-v0") from None
    target = Path(get_dataset_path(dataset_id))
    if (target / UNFINISHED).exists():
        shutil.rmtree(target)
    if target.exists():
        raise SemoreError(f"{target} exists; choose another --to")
    existing = next(parent for parent in target.parents if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed > 0.95 * free:
        raise SemoreError(
            f"{existing}: Minari stores without compression and needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} are "
            "free; set MINARI_DATASETS_PATH to another disk or export a part (`split --by fraction`)"
        )
    return target


def _bytes(episode: Episode, knowledge: KnowledgeSet | None) -> int:
    sizes = [int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in episode.layout().values()]
    camera = int(episode.attributes["camera"])
    return sum(sizes) + (0 if knowledge is None else (episode.steps + 1) * camera**2)


@contextmanager
def _quiet() -> Iterator[None]:
    """Minari warns of every field left empty; those are ours to decide."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
