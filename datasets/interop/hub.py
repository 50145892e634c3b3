"""`push` and `pull`: rollouts, their card and the knowledge cache to and from a dataset repository of the hub."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from semore.datasets.atomic_io import atomic_file, read_json, write_json
from semore.datasets.command_line import MANY
from semore.datasets.errors import SemoreError
from semore.datasets.hints import command
from semore.datasets.interop.card import CARD
from semore.datasets.knowledge.admin.needs import CacheCommand
from semore.datasets.knowledge.admin.verify import problem_of
from semore.datasets.knowledge.cache import read_manifest, set_names
from semore.datasets.knowledge.differences import differences
from semore.datasets.knowledge.level import shard_names
from semore.datasets.knowledge.records import LEVELS
from semore.datasets.progress import meter
from semore.datasets.rollouts.inventory import folders
from semore.datasets.rollouts.merge import gather, link_or_copy
from semore.datasets.rollouts.store import Rollouts
from semore.extras import require

KNOWLEDGE: Final = ("knowledge/*/*.h5", "knowledge/sets/*.json")
"""What of the cache is shared: its answers and what the sets are. Indices are made again, pins belong to runs."""
STAGING: Final = "pulled"
"""Folder under <data> that downloads go into, and resume in."""


@dataclass(frozen=True)
class Push(CacheCommand):
    """Upload rollouts and the dataset card to the hub. The client's own settings count: HF_ENDPOINT names another
    server, HF_TOKEN or `hf auth login` say who you are."""

    repository: str
    """OWNER/NAME of the dataset repository; it is made, private, when there is none."""
    rollouts: tuple[str, ...] = field(default=(), metadata=MANY)
    """Names of rollouts folders under <data>/rollouts; default all."""
    knowledge: bool = False
    """Upload the knowledge cache as well."""
    public: bool = False
    """Make a new repository public."""

    def execute(self) -> int:
        """Upload, in one commit."""
        if not (Path(self.data) / CARD).exists():
            made = command("datasets card", {"data": self.data}, *self.rollouts)
            raise SemoreError(f"{self.data}/{CARD} does not exist; `{made}` writes it")
        chosen = folders(self.data, self.rollouts)
        shared = Path(self.data).resolve() / "rollouts"
        stray = [folder for folder in chosen if folder.resolve().parent != shared]
        if stray:
            raise SemoreError(f"{stray[0]} does not lie in {self.data}/rollouts; `merge` it there first")
        require("interop", "huggingface_hub")
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError

        patterns = [CARD, *(f"rollouts/{folder.name}/**" for folder in chosen)]
        patterns += KNOWLEDGE if self.knowledge else ()
        api = HfApi()
        try:
            api.create_repo(self.repository, repo_type="dataset", private=not self.public, exist_ok=True)
            commit = api.upload_folder(
                repo_id=self.repository, repo_type="dataset", folder_path=self.data, allow_patterns=patterns,
                ignore_patterns=["*/.*"], commit_message=f"{len(chosen)} rollouts",
            )  # fmt: skip
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise _failed("push to", self.repository, api.endpoint, error) from None
        names = ", ".join(folder.stem for folder in chosen)
        lines = [
            f"{names}: pushed to {self.repository}, from where other machines have them",
            f"next: {command('datasets pull', {}, self.repository)}",
        ]
        self.show({"repository": self.repository, "commit": str(commit), "rollouts": names}, lines)
        return 0


@dataclass(frozen=True)
class Pull(CacheCommand):
    """Download rollouts from the hub, check every episode against its checksum, and put them beside those that are
    there. Interrupted downloads go on where they stopped."""

    repository: str
    """OWNER/NAME of the dataset repository."""
    rollouts: tuple[str, ...] = field(default=(), metadata=MANY)
    """Names of rollouts folders in it; default all."""
    knowledge: bool = False
    """Download the knowledge cache as well, and join it with the one that is there."""
    revision: str = "main"
    """Branch, tag or commit."""

    def execute(self) -> int:
        """Download and check."""
        require("interop", "huggingface_hub")
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError

        staging = Path(self.data) / STAGING / self.repository.replace("/", "--")
        wanted = [f"rollouts/{name}.zarr/**" for name in self.rollouts] or ["rollouts/**"]
        wanted += KNOWLEDGE if self.knowledge else ()
        try:
            snapshot_download(
                self.repository, repo_type="dataset", revision=self.revision, local_dir=staging,
                allow_patterns=[CARD, *wanted],
            )  # fmt: skip
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise _failed("pull from", self.repository, HfApi().endpoint, error) from None
        found = sorted((staging / "rollouts").glob("*.zarr"))
        if not found:
            raise SemoreError(f"{self.repository} holds no rollouts; it has to be one that `push` wrote")
        report = {folder.stem: self._take(folder) for folder in found}
        lines = [f"{name}: {number} episodes are new, all of them sound" for name, number in report.items()]
        if self.knowledge:
            report["knowledge"] = take_knowledge(staging / "knowledge", Path(self.data) / "knowledge")
            lines.append(f"knowledge: {report['knowledge']} shards are new")
        first = next(iter(report))
        self.show(
            report,
            [
                *lines,
                f"the downloads stay in {staging}",
                f"next: {command('datasets show', {'data': self.data}, first)}",
            ],
        )
        return 0

    def _take(self, folder: Path) -> int:
        """Check a downloaded folder and link its episodes into <data>/rollouts; how many were new."""
        episodes = list(Rollouts(folder).episodes())
        with meter(f"check {folder.name}", len(episodes), "episodes") as progress:
            for episode in episodes:
                try:
                    episode.verify()
                except SemoreError as error:
                    problem = str(error).rpartition("; ")[0]
                    raise SemoreError(
                        f"{problem}; delete this folder and pull again: only it is fetched anew"
                    ) from None
                progress.advance()
        return gather(Path(self.data) / "rollouts" / folder.name, episodes)


def take_knowledge(source: Path, target: Path) -> int:
    """Join a downloaded cache with the one at `target`; returns how many shards were new.

    Shards are named by their content, so equal names are the same answers. SemoreError when a shard is damaged, or
    when a set of the same name is another.
    """
    for name in set_names(source):
        if name not in set_names(target):
            continue
        theirs, ours = read_manifest(source, name), read_manifest(target, name)
        if theirs != ours:
            raise SemoreError(
                f"{source}/sets/{name}.json and {target}/sets/{name}.json are different sets of one name "
                f"({differences(ours.plain, theirs.plain)}); rename one of the files: the answers are shared anyway"
            )
    new = [(level, shard) for level in LEVELS for shard in sorted(shard_names(source / level))]
    new = [(level, shard) for level, shard in new if not (target / level / shard).exists()]
    for level, shard in new:
        if problem := problem_of(source / level / shard):
            raise SemoreError(f"{problem}; delete {source / level / shard} and pull again")
        (target / level).mkdir(parents=True, exist_ok=True)
        with atomic_file(target / level / shard) as temporary:
            link_or_copy(source / level / shard, temporary)
    (target / "sets").mkdir(parents=True, exist_ok=True)
    for name in sorted(set(set_names(source)) - set(set_names(target))):
        write_json(target / "sets" / f"{name}.json", read_json(source / "sets" / f"{name}.json"))
    return len(new)


def _failed(what: str, repository: str, endpoint: str, error: Exception) -> SemoreError:
    reason = " ".join(str(error).split())[:300]
    return SemoreError(
        f"cannot {what} {repository} at {endpoint} ({type(error).__name__}: {reason}); check the name, the network, "
        "HF_ENDPOINT and that `hf auth login` was done"
    )
