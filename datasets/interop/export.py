"""`export` and `import`: rollouts in the formats other people's tools read, and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from semore.datasets.errors import SemoreError
from semore.datasets.hints import command
from semore.datasets.knowledge.admin.needs import CacheCommand
from semore.datasets.knowledge.cache import KnowledgeSet
from semore.datasets.names import rollouts_path
from semore.datasets.rollouts.inventory import choose_set, folders
from semore.datasets.rollouts.store import Episode, Rollouts


@dataclass(frozen=True)
class Export(CacheCommand):
    """Write rollouts for other tools. minari: every array without loss, so that `import` gives the same rollouts back.
    lerobot: version 3 of its format. rerun: one episode as a recording for the rerun viewer. The last two need the
    extra `export`: pip install 'semore[export]'."""

    rollouts: str
    """Name of the rollouts folder under <data>/rollouts, or a path ending in .zarr."""
    format: Literal["minari", "lerobot", "rerun"] = "minari"
    """What to write."""
    to: str = ""
    """Minari: the dataset's name, default semore/<rollouts>-v0 (it lies where MINARI_DATASETS_PATH says). Otherwise a
    folder or file, default under <data>/exports."""
    episode: str = ""
    """Only this episode; default all, for rerun the first."""
    knowledge: str = ""
    """Knowledge set whose masks go along, `none` for none; default, of those with masks of these frames, the one that
    `annotate` makes by default, else the only one."""

    def execute(self) -> int:
        """Write it."""
        (folder,) = folders(self.data, [self.rollouts])
        rollouts = Rollouts(folder)
        episodes = [rollouts.episode(self.episode)] if self.episode else list(rollouts.episodes())
        if not episodes:
            made = command("collect", {"rollouts": folder})
            raise SemoreError(f"{folder} has no episode; `{made}` records some, with the scenario and preset meant")
        knowledge = choose_set(self.data, self.knowledge, episodes)
        written, hint = self._write(folder, episodes, knowledge)
        masks = "without masks, as asked" if self.knowledge == "none" else "without masks: no knowledge set covers them"
        masks = f"with the masks of knowledge set {knowledge.name}" if knowledge else masks
        lines = [f"{folder}: {len(episodes)} episodes written to {written}, {masks}", f"next: {hint}"]
        taken = knowledge.name if knowledge else None
        self.show({"written": str(written), "episodes": len(episodes), "knowledge": taken}, lines)
        return 0

    def _write(self, folder: Path, episodes: list[Episode], knowledge: KnowledgeSet | None) -> tuple[Path, str]:
        exports = Path(self.data) / "exports"
        if self.format == "minari":
            from semore.datasets.interop.minari import export_minari

            name = self.to or f"semore/{folder.stem.lower()}-v0"
            about = f"Driving rollouts {folder.stem}, fingerprint {Rollouts(folder).fingerprint()}, recorded by Semore"
            return export_minari(episodes, name, about, knowledge), f'minari.load_dataset("{name}") in Python'
        if self.format == "lerobot":
            from semore.datasets.interop.lerobot import export_lerobot

            target = Path(self.to) if self.to else exports / f"{folder.stem}-lerobot"
            export_lerobot(episodes, target, knowledge)
            return target, f'LeRobotDataset("semore/{folder.stem}", root="{target}") where lerobot is installed'
        from semore.datasets.interop.rerun import export_rerun

        target = Path(self.to) if self.to else exports / f"{episodes[0].name}.rrd"
        export_rerun(episodes[0], target, knowledge)
        return target, f"`rerun {target}` shows it"


@dataclass(frozen=True)
class Import(CacheCommand):
    """Make a rollouts folder of a Minari dataset that `export` wrote, byte for byte. Other datasets are refused with
    what they lack: semantic and instance pictures, actor states and digests cannot be made from observations."""

    dataset: str
    """Name of the local Minari dataset, e.g. semore/jaywalk-laptop-v0."""
    rollouts: str
    """Name of the rollouts folder to write under <data>/rollouts, or a path ending in .zarr."""

    def execute(self) -> int:
        """Read it."""
        from semore.datasets.interop.minari import import_minari

        target = rollouts_path(self.data, self.rollouts)
        number = import_minari(self.dataset, target)
        lines = [
            f"{target}: {number} episodes of {self.dataset}",
            f"next: {command('annotate', {'data': self.data, 'rollouts': target})}",
        ]
        self.show({"written": str(target), "episodes": number}, lines)
        return 0
