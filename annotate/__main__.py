"""Name, segment and judge what matters in recorded frames, once, into the shared knowledge cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from annotate.engine import annotate_rollouts
from annotate.producers import make_producers
from datasets.errors import SemoreError
from datasets.knowledge import KnowledgeCache
from datasets.knowledge_merge import Merge
from datasets.rollouts import rollouts_path
from datasets.settings import load_settings, run_command


@dataclass(frozen=True)
class AnnotateSettings:
    """What to annotate, who does it, and where the knowledge goes."""

    preset: str = "laptop"
    """A file of presets/ by name, or a path to a YAML file."""
    scenario: str = "JayWalk"
    """Names the rollouts folder when `rollouts` does not."""
    data: str = "data"
    """Folder of all recorded data; the cache is <data>/knowledge, shared by all experiments."""
    rollouts: str = ""
    """Name of the rollouts folder under <data>/rollouts, or a path ending in .zarr; default <scenario>-<preset>."""
    knowledge: str = "privileged"
    """Name of the knowledge set: what a training run refers to. Another describer, segmenter, judge or merge needs
    another name; what they have in common is still shared."""
    describer: str = "privileged"
    """Names the key objects of a frame: privileged (rules over the simulator's state)."""
    segmenter: str = "privileged"
    """Finds each phrase's pixels: privileged (the simulator's instance image)."""
    judge: str = "privileged"
    """Says whether a recorded action is reasonable: privileged, or none."""
    merge: Merge = "max"
    """How phrase masks become H_ka: max, or mean (the public code's)."""
    batch: int = 256
    """Frames handed to a producer at once."""
    retry_failed: bool = True
    """Try again what failed before."""

    @property
    def folder(self) -> Path:
        """The rollouts folder."""
        return rollouts_path(self.data, self.rollouts, self.scenario, self.preset)


def main() -> None:
    settings = load_settings(AnnotateSettings, "annotate")
    if settings.batch < 1:
        raise SemoreError(f"batch is {settings.batch}; it must be at least 1")
    producers = make_producers(settings.describer, settings.segmenter, settings.judge)
    cache = KnowledgeCache(Path(settings.data) / "knowledge")
    annotate_rollouts(
        [settings.folder],
        cache,
        settings.knowledge,
        producers,
        settings.merge,
        settings.batch,
        settings.retry_failed,
    )
    print("next: make train")


if __name__ == "__main__":
    run_command(main)
