"""The commands around a knowledge set: `annotate`, which fills it or goes on with it, and `train`, which reads it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any, Protocol

from semore.annotate.registry import DESCRIBERS, SEGMENTERS
from semore.annotate.settings import AnnotateSettings
from semore.collect.scenarios import SCENARIOS
from semore.datasets.errors import SemoreError
from semore.datasets.hints import carried, command, recordings
from semore.datasets.knowledge.cache import KnowledgeCache, KnowledgeSet, SetManifest, read_manifest, set_names
from semore.datasets.names import knowledge_name
from semore.datasets.presets import flat
from semore.datasets.rollouts.store import Episode
from semore.datasets.settings import as_dict, from_dict

PRODUCERS = ("describer", "segmenter", "judge")


class ReadsKnowledge(Protocol):
    """The settings of a command that reads knowledge of recordings."""

    @property
    def preset(self) -> str: ...
    @property
    def data(self) -> str: ...


def annotate_command(settings: ReadsKnowledge, knowledge: str) -> str:
    """The command that annotates the recordings which the settings name into the set `knowledge`: with the producers it
    was made with, or, where there is none of that name yet, those that the name stands for."""
    root = Path(settings.data) / "knowledge"
    plain = dict(flat(as_dict(from_dict(AnnotateSettings, {"preset": settings.preset}))))
    if knowledge in set_names(root):
        manifest = read_manifest(root, knowledge)
        wanted = {**dict(flat(manifest.recipe)), "merge": manifest.merge}
    else:
        given = carried()
        wanted = producers_named(knowledge) | {role: given[role] for role in PRODUCERS if role in given}
    own = {name: value for name, value in wanted.items() if value != plain.get(name)}
    return command("annotate", recordings(settings) | {"knowledge": knowledge} | own)


def known_set(settings: ReadsKnowledge, root: Path, knowledge: str) -> SetManifest:
    """What the knowledge set of that name is, by its manifest alone; SemoreError with the command that makes it, and as
    for `read_manifest`."""
    known = set_names(root)
    if knowledge and knowledge not in known:
        there = f"there is {', '.join(known)}" if known else "there is none yet"
        remedy = f"`{annotate_command(settings, knowledge)}` makes it"
        raise SemoreError(f"{root} has no knowledge set {knowledge!r}: {there}; {remedy}")
    return read_manifest(root, knowledge)


def annotated(settings: ReadsKnowledge, cache: KnowledgeCache, knowledge: str) -> KnowledgeSet:
    """The knowledge set of that name in an open cache; errors as of `known_set`."""
    return KnowledgeSet(cache, knowledge, known_set(settings, cache.root, knowledge))


def train_after(settings: ReadsKnowledge, knowledge: str, episodes: Iterable[Episode] = ()) -> str:
    """The command that trains on the recordings which the settings name, and on that knowledge of them: in the scenario
    and weather of the `episodes`, for those of a folder that was named by its path are nobody's setting here."""
    names = carried() | recordings(settings) | {"knowledge": knowledge}
    first = next(iter(episodes), None)
    scenario = first.attributes.get("scenario") if first else None
    if first and scenario in SCENARIOS:
        own = SCENARIOS[scenario].weather
        weather = first.attributes.get("weather", own)
        names |= {"scenario": scenario, "weather": "" if weather == own else weather}
    return command("train", names)


def producers_named(knowledge: str) -> dict[str, Any]:
    """The describer and segmenter that a set is called after, as `knowledge_name` does; none for another name."""
    for describer, segmenter in product(DESCRIBERS, SEGMENTERS):
        if knowledge_name(describer, segmenter) == knowledge:
            return {"describer": describer, "segmenter": segmenter}
    return {}
