"""`why`: which records serve a frame, which have lost to them, or why there are none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from semore.datasets.errors import SemoreError
from semore.datasets.hints import command, recordings
from semore.datasets.knowledge.admin.needs import CacheCommand, changes, producer_of, summary
from semore.datasets.knowledge.cache import KnowledgeCache, KnowledgeSet, open_set, set_names
from semore.datasets.knowledge.level import Level
from semore.datasets.knowledge.questions import FrameKeys
from semore.datasets.knowledge.records import Digests, Identity, LevelName, Status, record_keys
from semore.datasets.knowledge.shards import Batch, producer_json, read_batch, read_records
from semore.datasets.names import rollouts_path
from semore.datasets.rollouts.recorded import recorded
from semore.datasets.rollouts.store import Episode, Rollouts

OK: Final = "ok"


@dataclass(frozen=True)
class Why(CacheCommand):
    """Tell which records of the knowledge cache serve a frame, which have lost to them, or why none does."""

    frame: str
    """EPISODE:FRAME, e.g. JayWalk-000123:57; the episode may be a path, <rollouts>.zarr/<episode>."""
    rollouts: str = ""
    """Name of the rollouts folder under <data>/rollouts, or a path ending in .zarr; default <scenario>-<preset>."""
    scenario: str = "JayWalk"
    """Names the rollouts folder when `rollouts` does not."""
    preset: str = "laptop"
    """As scenario."""
    simulator: str = "embedded"
    """The world of the recordings, as in `collect`: part of the folder's default name."""
    knowledge: str = ""
    """Name of a knowledge set; default every set of the cache."""

    def execute(self) -> int:
        """Print it."""
        if "/" not in self.frame:
            recorded(self)
        folder = rollouts_path(self.data, self.rollouts, self.scenario, self.preset, self.simulator)
        episode, index = find_frame(self.frame, folder)
        cache = KnowledgeCache(self.root)
        names = [self.knowledge] if self.knowledge else set_names(self.root)
        if not names:
            raise SemoreError(
                f"{self.root} has no knowledge set; annotate first: `{command('annotate', recordings(self))}`"
            )
        found = [explain(open_set(cache, name), episode, index) for name in names]
        self.show([asdict(each) for each in found], [line for each in found for line in _lines(each)])
        return 0


@dataclass(frozen=True)
class Record:
    """A record of the cache: its place, its status, and its content."""

    status: str
    shard: str
    row: int
    digest: str
    phrases: tuple[str, ...] = ()
    reason: str = ""
    coverage: float | None = None
    """Mean of a mask, in [0, 1]."""
    verdict: int | None = None


@dataclass(frozen=True)
class Answer:
    """One question to one producer: the record that serves it, the records that lost, or why there is none."""

    level: LevelName
    asked: str
    """The phrase of a mask, the action of a verdict, "" for a text."""
    producer: str
    winner: Record | None
    losers: tuple[Record, ...] = ()
    others: tuple[str, ...] = ()
    """Producers that have answered the question, when this one has not, and in what they differ from it."""


@dataclass(frozen=True)
class Explanation:
    """Everything about one frame in one knowledge set; `why` says in a sentence why H_ka is valid or not."""

    set: str
    episode: str
    frame: int
    valid: bool
    why: str
    answers: tuple[Answer, ...]


def find_frame(name: str, folder: Path) -> tuple[Episode, int]:
    """The episode and frame number behind EPISODE:FRAME; SemoreError saying what there is."""
    episode_name, _, number = name.rpartition(":")
    if not episode_name or not number.isdecimal():
        raise SemoreError(f"{name!r} is not EPISODE:FRAME, e.g. JayWalk-000123:57")
    if "/" in episode_name:
        folder, episode_name = Path(episode_name).parent, Path(episode_name).name
    rollouts = Rollouts(folder)
    rollouts.episodes()  # SemoreError when the folder is missing or none of rollouts
    episode = rollouts.episode(episode_name)
    if int(number) > episode.steps:
        raise SemoreError(f"{episode.path} has frames 0 to {episode.steps}, not {number}")
    return episode, int(number)


def explain(knowledge: KnowledgeSet, episode: Episode, index: int) -> Explanation:
    """Why frame `index` of the episode has, or has not, a valid H_ka in the set, and its verdict."""
    frame_keys = FrameKeys.of([episode], [np.array([index])])
    ask = _Question(knowledge, frame_keys.frames, frame_keys.states)
    text = ask("texts")
    answers, valid, why = [text], False, f"no text by {text.producer}: run annotate"
    if index not in episode.decision_rows:
        why += " --off_decisions, for it lies between two decisions"
    if text.winner is not None and text.winner.status != OK:
        why = f"the text is {text.winner.status}: {text.winner.reason or 'no reason given'}"
    elif text.winner is not None:
        masks = [ask("masks", phrase) for phrase in text.winner.phrases]
        bad = [mask for mask in masks if mask.winner is None or mask.winner.status != OK]
        valid, answers = not bad, [*answers, *masks]
        why = f"{knowledge.manifest.merge} of {len(masks)} masks" if masks else "a known empty scene: all zeros"
        if bad:
            states = [f"{mask.asked!r} {mask.winner.status if mask.winner else 'missing'}" for mask in bad]
            why = f"{len(bad)} of {len(masks)} masks cannot be used: {', '.join(states)}"
    if frame_keys.words and knowledge.manifest.judge is not None:
        answers.append(ask("verdicts", frame_keys.words[0]))
    return Explanation(knowledge.name, str(episode.path), index, valid, why, tuple(answers))


@dataclass(frozen=True)
class _Question:
    """Asks a set's producers about one frame (digests (1, 16))."""

    knowledge: KnowledgeSet
    frame: Digests
    state: Digests

    def __call__(self, level_name: LevelName, word: str = "") -> Answer:
        identity = producer_of(self.knowledge.manifest, level_name)
        level: Level = getattr(self.knowledge.cache, level_name)
        if identity is None:
            raise ValueError(f"the set has no producer of {level_name}")
        records = self._records(level, identity, word)
        others = () if records else tuple(self._others(level, identity, word))
        return Answer(level_name, word, summary(identity), records[0] if records else None, tuple(records[1:]), others)

    def _key(self, level: Level, identity: Identity, word: str) -> Digests:
        return record_keys(level.name, identity, self.frame, self.state, [word] if level.name != "texts" else None)

    def _records(self, level: Level, identity: Identity, word: str) -> list[Record]:
        """Every record under the question's key, the winner first."""
        found = level.index.table().of_key(self._key(level, identity, word))
        records = []
        for number, row in zip(found.shard.tolist(), found.row.tolist(), strict=True):
            shard, rows = level.index.shards[number], np.array([row])
            found_there = level.sound(shard, _read, rows)
            if found_there is not None:
                batch, digest = found_there
                records.append(_record(level.folder / shard, row, batch, digest))
        return records

    def _others(self, level: Level, identity: Identity, word: str) -> Iterator[str]:
        for producer in sorted(set(level.index.producers) - {producer_json(identity)}):
            other = json.loads(producer)
            (status,) = level.lookup(self._key(level, other, word)).status.tolist()
            if status in set(Status):
                differences = "; ".join(changes(identity, other))
                yield f"{Status(status).name.lower()} by {summary(other)}, which differs in {differences}"


def _read(path: Path, rows: NDArray[np.int64]) -> tuple[Batch, bytes]:
    """A shard's record and its digest."""
    return read_batch(path, rows)[1], read_records(path, rows)[0].tobytes()


def _record(path: Path, row: int, batch: Batch, digest: bytes) -> Record:
    said: dict[str, Any] = json.loads(batch.notes[0])
    value = None if batch.values is None else batch.values[0]
    return Record(
        Status(int(batch.statuses[0])).name.lower(),
        str(path),
        row,
        digest.hex(),
        tuple(said.get("phrases", ())),
        str(said.get("reason", "")),
        round(float(value.mean()) / 255, 4) if value is not None and value.ndim else None,
        int(value) if value is not None and not value.ndim else None,
    )


def _lines(found: Explanation) -> Iterator[str | Table]:
    yield f"{found.episode}, frame {found.frame}, knowledge set {found.set}"
    yield f"H_ka is {'valid' if found.valid else 'not valid'}: {found.why}"
    table = Table("level", "asked", "status", "says", "record", "shard, row", box=box.SIMPLE)
    for answer in found.answers:
        if answer.winner is None:
            table.add_row(answer.level, answer.asked, "none", f"nothing by {answer.producer}", "", "")
        else:
            table.add_row(answer.level, answer.asked, *_cells(answer.winner))
        for loser in answer.losers:
            table.add_row("", "", f"lost: {loser.status}", *_cells(loser)[1:])
            table.add_row("", "", "", _why_lost(answer.winner, loser), "", "")
        for other in answer.others:
            table.add_row("", "", "", other, "", "")
    yield table
    for level in dict.fromkeys(answer.level for answer in found.answers):
        yield f"{level} by {next(answer.producer for answer in found.answers if answer.level == level)}"


def _cells(record: Record) -> list[str]:
    if record.coverage is not None:
        says = f"covers {record.coverage:.1%}"
    elif record.verdict is not None:
        says = {0: "not reasonable", 1: "reasonable"}.get(record.verdict, "no usable answer")
    else:
        says = ", ".join(record.phrases) or "no phrase"
    reason = f" ({record.reason})" if record.reason else ""
    return [record.status, says + reason, record.digest[:12], f"{Path(record.shard).name[:12]}, {record.row}"]


def _why_lost(winner: Record | None, loser: Record) -> str:
    if winner is None or winner.digest == loser.digest:
        return "the same record once more"
    if winner.status != loser.status:
        return f"{winner.status} wins over {loser.status}"
    return f"of two {loser.status} the lower digest wins"
