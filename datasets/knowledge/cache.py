"""The shared knowledge cache of texts, masks and verdicts, and the named knowledge sets that read it.

`KnowledgeCache` is the store (three append-only levels), `KnowledgeSet` the reader for training and evaluation."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from semore.datasets.atomic_io import atomic_file, digest16, read_json, write_json
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.differences import differences
from semore.datasets.knowledge.index import Hits
from semore.datasets.knowledge.level import Level
from semore.datasets.knowledge.merge import MERGES, Merge, pooled
from semore.datasets.knowledge.records import INVALID, Digests, Identity, Phrases, Status, Text, mask_keys, record_keys
from semore.datasets.provenance import code_version
from semore.datasets.rollouts.schema import RECORDING_SIZE

SET_VERSION: Final = 1
OTHER_NAME: Final = (
    "choose another --knowledge name (what has been answered is shared anyway), or the settings it was made with"
)
READ_MASKS: Final = 1024
"""Masks held in memory while H_ka is being read (16 MB at 128x128)."""


class KnowledgeCache:
    """The levels `texts`, `masks`, `verdicts` below `root` (default of the commands: data/knowledge).

    Many processes may read and write at once. A new cache starts empty; nothing is made on disk before a commit.
    Records among `pins` (M, 16) win over all others of their key: the digests in a run's knowledge_used.npy bring back
    the answers it was trained on, whatever was annotated since.
    """

    def __init__(self, root: Path, pins: Digests | None = None) -> None:
        self.root, self._pins = Path(root), pins
        self.texts, self.masks, self.verdicts = (
            Level(self.root, "texts", pins),
            Level(self.root, "masks", pins),
            Level(self.root, "verdicts", pins),
        )

    def __reduce__(self) -> tuple[type[KnowledgeCache], tuple[Path, Digests | None]]:
        """A copy for another process opens the same folder there; what is not committed stays with this one."""
        return type(self), (self.root.resolve(), self._pins)

    @property
    def levels(self) -> tuple[Level, Level, Level]:
        """The three levels in the order of production."""
        return self.texts, self.masks, self.verdicts

    def refresh(self, save: bool = True) -> None:
        """Pick up what other processes have committed, and `save` the index when it has grown."""
        for level in self.levels:
            level.refresh(save)

    def commit(self) -> None:
        """Write all pending records; after this they survive a crash and others see them. The saved index follows with
        the next `refresh`."""
        for level in self.levels:
            level.commit()


@dataclass(frozen=True)
class SetManifest:
    """A named knowledge set: whose answers count (judge None: no verdicts) and how phrase masks become H_ka."""

    describer: Identity
    segmenter: Identity
    judge: Identity | None
    merge: Merge = "max"
    recipe: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Plain settings with which the producers can be made again; {} in a set of version 0.1. Not part of what the set
    is: two recipes that lead to the same identities are one set."""

    @property
    def plain(self) -> dict[str, Any]:
        """What makes it the set it is, as JSON values."""
        identities = {name: getattr(self, name) for name in ("describer", "segmenter", "judge")}
        plain = {name: None if value is None else dict(value) for name, value in identities.items()}
        return {**plain, "merge": self.merge}

    def require_same(self, made: SetManifest, whose: str, remedy: str) -> None:
        """SemoreError naming the keys in which the set `whose`, as it was made, differs from this one."""
        if made != self:
            raise SemoreError(f"{whose} is another: {differences(made.plain, self.plain)}; {remedy}")


class KnowledgeSet:
    """Reader of a named set. All methods take frames and states (N, 16) uint8: the `digest` and `state_digest` rows."""

    def __init__(self, cache: KnowledgeCache, name: str, manifest: SetManifest) -> None:
        self.cache, self.name, self.manifest = cache, name, manifest

    def keep(self) -> None:
        """Have others find the set by its name, unless they do; SemoreError when another has taken it meanwhile."""
        path = _manifest_path(self.cache.root, self.name)
        if path.is_file():
            claim_set(self.cache, self.name, self.manifest)
            return
        about: dict[str, Any] = {"created": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "code": code_version()}
        about |= {"format": "semore-knowledge-set", "version": SET_VERSION, "recipe": dict(self.manifest.recipe)}
        write_json(path, about | self.manifest.plain)

    def texts(self, frames: Digests, states: Digests) -> list[Text | None]:
        """The describer's answer for each frame, None where there is none."""
        keys = record_keys("texts", self.manifest.describer, frames, states)
        return [None if stored is None else _decode(stored) for stored in self.cache.texts.notes(keys)]

    def valid(self, frames: Digests, states: Digests) -> NDArray[np.bool_]:
        """(N,) bool as of `h_ka`, without reading a mask."""
        return self._masks(frames, states)[3]

    def h_ka(
        self, frames: Digests, states: Digests, grid: int | None = None, size: tuple[int, int] | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """H_ka of each frame, (N, H, W) or, with `grid`, max-pooled to (N, grid, grid), uint8 0–255 for [0, 1]; and
        (N,) bool valid.

        Valid is False, and the mask zero, where the text is missing, empty or failed or a phrase's mask is missing
        or failed (method.md §8: out of the semantic loss). A text with status ok and no phrases is a known empty
        scene: zeros, valid. Without `grid`, `size` (default the recording size) is the mask's (H, W).
        """
        height, width = (grid, grid) if grid is not None else size or (RECORDING_SIZE, RECORDING_SIZE)
        masks = np.zeros((len(frames), height, width), np.uint8)
        valid = np.zeros(len(frames), np.bool_)
        for rows, values, known in self.iter_h_ka(frames, states, grid):
            if values.shape[1:] != (height, width) and values.size:
                raise SemoreError(
                    f"knowledge set {self.name}: masks are {values.shape[1:]}, expected {(height, width)}; frames and "
                    "masks must come from the same camera size"
                )
            valid[rows] = known
            if values.size:
                masks[rows] = values
        return masks, valid

    def iter_h_ka(
        self, frames: Digests, states: Digests, grid: int | None = None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.bool_]]]:
        """`h_ka` in pieces of about READ_MASKS masks, in the order they lie on disk: (rows (B,), masks (B, …), valid
        (B,)). Each row comes once; the piece of rows without any mask has masks of shape (B, 0, 0), standing for zeros.
        """
        counts, keys, hits, valid = self._masks(frames, states)
        ends = np.cumsum(counts)
        starts = ends - counts
        (plain,) = np.nonzero(~valid | (counts == 0))
        yield plain, np.zeros((len(plain), 0, 0), np.uint8), valid[plain]
        (shown,) = np.nonzero(valid & (counts > 0))
        shown = shown[np.lexsort((hits.row[starts[shown]], hits.shard[starts[shown]]))]
        bounds = np.flatnonzero(np.diff(np.cumsum(counts[shown]) // READ_MASKS)) + 1
        for rows in np.split(shown, bounds) if len(shown) else []:
            within = np.concatenate([np.arange(starts[row], ends[row]) for row in rows])
            masks, present = self.cache.masks.masks(keys[within])
            first = np.cumsum(counts[rows]) - counts[rows]
            known = np.logical_and.reduceat(present, first)
            if not masks.size:  # every shard of this piece turned out damaged
                yield rows, masks[: len(rows)], known
                continue
            merged = pooled(masks, first, self.manifest.merge, grid)
            merged[~known] = 0
            yield rows, merged, known

    def verdicts(self, frames: Digests, states: Digests, action_words: Sequence[str]) -> NDArray[np.uint8]:
        """(N,) uint8: the judge's 1 (reasonable) or 0 on each frame's action in words, 255 where unknown."""
        if self.manifest.judge is None:
            return np.full(len(frames), INVALID, np.uint8)
        return self.cache.verdicts.verdicts(record_keys("verdicts", self.manifest.judge, frames, states, action_words))

    def record_digests_used(
        self, frames: Digests, states: Digests, action_words: Sequence[str] | None = None
    ) -> Digests:
        """(M, 16) digests, sorted and unique, of the records that serve these frames now (verdicts when words are
        given): what a run pins, and what `gc` must keep for it."""
        phrases = Phrases.of(self.texts(frames, states))
        found = [
            self.cache.texts.records(record_keys("texts", self.manifest.describer, frames, states)),
            self.cache.masks.records(mask_keys(self.manifest.segmenter, frames, states, phrases)),
        ]
        if action_words is not None and self.manifest.judge is not None:
            keys = record_keys("verdicts", self.manifest.judge, frames, states, action_words)
            found.append(self.cache.verdicts.records(keys))
        return np.unique(np.concatenate(found), axis=0)

    def fingerprint(self, frames: Digests, states: Digests, action_words: Sequence[str] | None = None) -> str:
        """Hex digest over `record_digests_used`: equal exactly when the same records serve the frames."""
        return digest16(self.record_digests_used(frames, states, action_words).tobytes()).hex()

    def pin(self, records: Digests) -> None:
        """Have `gc` keep these records (M, 16) as long as the set exists, whichever wins, besides what is pinned
        already: for runs whose folder `gc` does not see."""
        path = pins_path(self.cache.root, self.name)
        pinned = np.concatenate([read_pins(path), records]) if path.exists() else records
        with atomic_file(path) as temporary, open(temporary, "wb") as handle:
            np.save(handle, np.unique(pinned, axis=0))

    def _masks(self, frames: Digests, states: Digests) -> tuple[NDArray[np.int64], Digests, Hits, NDArray[np.bool_]]:
        """counts (N,) phrases per frame, the keys (M, 16) and records of their masks, and valid (N,) as of `h_ka`."""
        phrases = Phrases.of(self.texts(frames, states))
        keys = mask_keys(self.manifest.segmenter, frames, states, phrases)
        hits, valid = self.cache.masks.lookup(keys), phrases.usable
        np.logical_and.at(valid, phrases.owners, hits.status == Status.OK)
        return phrases.counts, keys, hits, valid


def open_set(root: Path | KnowledgeCache, name: str) -> KnowledgeSet:
    """The knowledge set `name` of a cache (a folder, or one already open, perhaps with pins); SemoreError naming the
    sets that exist."""
    cache = root if isinstance(root, KnowledgeCache) else KnowledgeCache(root)
    return KnowledgeSet(cache, name, read_manifest(cache.root, name))


def claim_set(cache: KnowledgeCache, name: str, manifest: SetManifest) -> KnowledgeSet:
    """The set `name`, as it stands on disk (recipe included) or as it will once it is `keep`t: a pass that ends before
    its first answer leaves no name taken. SemoreError naming the differing keys when another set is called so."""
    path = _manifest_path(cache.root, name)
    if not path.is_file():
        return KnowledgeSet(cache, name, manifest)
    existing = read_manifest(cache.root, name)
    manifest.require_same(existing, f"{path}: knowledge set {name!r}", OTHER_NAME)
    return KnowledgeSet(cache, name, existing)


def ensure_set(cache: KnowledgeCache, name: str, manifest: SetManifest) -> KnowledgeSet:
    """`claim_set`, and keep it at once."""
    knowledge = claim_set(cache, name, manifest)
    knowledge.keep()
    return knowledge


def set_names(root: Path) -> list[str]:
    """Names of the knowledge sets of a cache folder, sorted."""
    return sorted(path.stem for path in (root / "sets").glob("*.json") if not path.name.startswith("."))


def pins_path(root: Path, name: str) -> Path:
    """Where a set pins records."""
    return _manifest_path(root, name).with_suffix(".pins.npy")


def read_pins(path: Path) -> Digests:
    """(M, 16) record digests of a pins file (a set's, or a run's knowledge_used.npy); SemoreError when it is torn."""
    try:
        pins: Digests = np.load(path)
        if pins.dtype != np.uint8 or pins.shape[1:] != (16,):
            raise ValueError(f"{pins.dtype} {pins.shape} instead of uint8 (M, 16)")
    except (OSError, ValueError, EOFError) as error:
        raise SemoreError(
            f"{path} holds no record digests ({error}); restore it from a copy, or move it away if the records it "
            "pinned are no longer needed"
        ) from None
    return pins


def _manifest_path(root: Path, name: str) -> Path:
    if not name or name.startswith(".") or "/" in name:
        raise SemoreError(f"{name!r} is no name for a knowledge set; use letters, digits, - and _")
    return root / "sets" / f"{name}.json"


def read_manifest(root: Path, name: str) -> SetManifest:
    """What the knowledge set `name` is; SemoreError naming the sets that exist."""
    path = _manifest_path(root, name)
    if not path.is_file():
        known = ", ".join(set_names(root)) or "none yet"
        made = f"annotating with --data {root.parent} --knowledge {name} makes it"
        raise SemoreError(f"{path}: no knowledge set {name!r}; there is {known}; {made}")
    value = read_json(path)
    try:
        if value["version"] != SET_VERSION:
            raise SemoreError(f"{path} has version {value['version']}, this code reads {SET_VERSION}")
        if value["merge"] not in MERGES:
            raise SemoreError(f"{path}: merge is {value['merge']!r}, expected one of {', '.join(MERGES)}")
        return SetManifest(
            value["describer"], value["segmenter"], value["judge"], value["merge"], value.get("recipe", {})
        )
    except (KeyError, TypeError, AttributeError):
        raise SemoreError(
            f"{path} is no knowledge set; move it away, and annotate again with --knowledge {name}"
        ) from None


@lru_cache(maxsize=4096)
def _decode(stored: str) -> Text:
    return Text.decode(stored)
