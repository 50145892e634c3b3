"""One cache folder, two annotators, compact, gc, damage and kills in any order: every key has the same one winner for
everybody, nothing committed is lost but by damage, and gc keeps what sets and runs need."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from semore.datasets.knowledge.admin import repack as ledger_repack
from semore.datasets.knowledge.admin.compact import compact_level
from semore.datasets.knowledge.admin.gc import collect
from semore.datasets.knowledge.admin.needs import find_roots
from semore.datasets.knowledge.admin.verify import verify_cache, verify_pins
from semore.datasets.knowledge.cache import KnowledgeCache, SetManifest, ensure_set
from semore.datasets.knowledge.level import Level, shard_names
from semore.datasets.knowledge.records import Status, Text, note, record_digests, record_keys

NAMED, NAMELESS = {"kind": "in a set"}, {"kind": "in no set"}
FRAMES = np.random.default_rng(0).integers(0, 256, (5, 16), np.uint8)
LEVELS = ("texts", "masks")
KEYS = {
    (level, who["kind"]): record_keys(level, who, FRAMES, FRAMES, ["car"] * 5 if level == "masks" else None)
    for level in LEVELS
    for who in (NAMED, NAMELESS)
}
Known = dict[bytes, tuple[int, bytes]]
"""Record digest → status, key."""

two = st.integers(0, 1)
batches = st.lists(
    st.tuples(
        st.sampled_from(LEVELS),
        st.sampled_from([NAMED, NAMED, NAMELESS]),
        st.lists(st.integers(0, 4), min_size=1, max_size=4),
        st.sampled_from(Status),
        st.integers(0, 2),  # which of three answers
    ),
    min_size=2,
    max_size=6,
)


class TwoAnnotators(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.caches = [KnowledgeCache(self.root), KnowledgeCache(self.root)]
        ensure_set(self.caches[0], "s", SetManifest(NAMED, NAMED, None))
        self.alive: dict[str, Known] = {level: {} for level in LEVELS}
        self.pending: list[dict[str, Known]] = [{level: {} for level in LEVELS} for _ in range(2)]
        self.pins: set[bytes] = set()

    def teardown(self) -> None:
        self.everybody_agrees()
        shutil.rmtree(self.root)
        shutil.rmtree(self.root.with_suffix(".runs"), ignore_errors=True)

    @initialize(first=batches, second=batches)
    def both_have_worked(self, first, second):
        for who, work in enumerate((first, second)):
            for batch in work:
                self.annotate(who, [batch], commits=True)

    @rule(who=two, work=batches, commits=st.sampled_from([True, True, False]))
    def annotate(self, who, work, commits):
        for level, producer, rows, status, answer in work:
            self.add(who, level, producer, rows, status, answer)
        if commits:
            self.caches[who].commit()
            for level in LEVELS:
                self.alive[level].update(self.pending[who][level])
                self.pending[who][level].clear()

    def add(self, who, level, producer, rows, status, answer):
        keys, statuses = KEYS[level, producer["kind"]][rows], np.full(len(rows), status, np.uint8)
        if level == "texts":
            notes, values = [Text((f"answer {answer}",), status).encode()] * len(rows), None
        else:
            notes, values = [note(phrase="car", reason="")] * len(rows), np.full((len(rows), 3, 3), answer, np.uint8)
        getattr(self.caches[who], level).add(producer, keys, FRAMES[rows], statuses.tolist(), notes, values)
        digests = record_digests(keys, statuses, [text.encode() for text in notes], values)
        for key, digest in zip(keys, digests, strict=True):
            self.pending[who][level][digest.tobytes()] = (int(status), key.tobytes())

    @rule(who=two)
    def refresh(self, who):
        self.caches[who].refresh()

    @rule(who=two)
    def is_killed(self, who):
        """An annotator dies while it writes: what was not committed is gone, a torn temporary file stays."""
        self.caches[who] = KnowledgeCache(self.root)
        for level in LEVELS:
            self.pending[who][level].clear()
            (self.root / level).mkdir(exist_ok=True)
            torn = self.root / level / f".tmp-{who}-torn.h5"
            torn.write_bytes(b"torn")
            os.utime(torn, (0, 0))

    @rule()
    def compact(self):
        for level in KnowledgeCache(self.root).levels:
            compact_level(level)

    @rule()
    def compact_is_killed(self):
        """After the new shard was written, before the old ones are removed."""
        remove = ledger_repack._remove

        def die(*_):
            raise KeyboardInterrupt

        ledger_repack._remove = die
        try:
            for level in KnowledgeCache(self.root).levels:
                compact_level(level)
        except KeyboardInterrupt:
            pass
        finally:
            ledger_repack._remove = remove

    @rule(data=st.data(), level=st.sampled_from(LEVELS))
    def a_run_pins(self, data, level):
        if self.alive[level]:
            digests = data.draw(st.lists(st.sampled_from(sorted(self.alive[level])), min_size=1, max_size=3))
            self.pins.update(digests)
            folder = self.root.with_suffix(".runs") / f"run-{len(self.pins)}"
            folder.mkdir(parents=True, exist_ok=True)
            stacked = np.frombuffer(b"".join(sorted(self.pins)), np.uint8).reshape(-1, 16)
            np.save(folder / "knowledge_used.npy", stacked)

    @rule()
    def gc(self):
        cache, runs = KnowledgeCache(self.root), [self.root.with_suffix(".runs")]
        collect(cache, runs, before=time.time() + 60)
        for level in LEVELS:
            named = {key.tobytes() for key in KEYS[level, NAMED["kind"]]}
            winners = {digest for key, digest in self.winners(level).items() if key in named}
            known = self.alive[level]
            self.alive[level] = {digest: known[digest] for digest in known if digest in winners | self.pins}
            on_disk = [digest for shard in self.shards(level).values() for digest in shard]
            assert sorted(on_disk) == sorted(self.alive[level])  # all that is needed, once
        assert not list(self.root.rglob(".tmp-*")) + list(self.root.rglob("*.damaged"))
        assert set(find_roots(self.root, runs).sets) == {"s"}
        there = {digest for level in LEVELS for digest in self.alive[level]}
        stacked = np.frombuffer(b"".join(sorted(self.pins)), np.uint8).reshape(-1, 16)
        standing = verify_pins(cache, stacked)
        assert standing.serving + standing.overtaken == len(self.pins & there)

    @rule(data=st.data(), level=st.sampled_from(LEVELS))
    def damage(self, data, level):
        shards = self.shards(level)
        if shards:
            torn = data.draw(st.sampled_from(sorted(shards)))
            elsewhere = {digest for name, digests in shards.items() if name != torn for digest in digests}
            for digest in shards[torn] - elsewhere:
                del self.alive[level][digest]
            path = self.root / level / torn
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    @rule()
    def verify(self):
        verify_cache(self.root)
        assert verify_cache(self.root) == []

    @rule()
    def everybody_agrees(self):
        everybody = [*self.caches, KnowledgeCache(self.root)]
        for level in LEVELS:
            winners = self.winners(level)
            for cache in everybody:
                cache.refresh()
                found: Level = getattr(cache, level)
                for keys in (KEYS[level, who["kind"]] for who in (NAMED, NAMELESS)):
                    digests = [record.tobytes() for record in found.records(keys)]
                    assert digests == [winners[key.tobytes()] for key in keys if key.tobytes() in winners]

    def winners(self, level: str) -> dict[bytes, bytes]:
        """Key → digest of the record that serves it."""
        best: dict[bytes, tuple[int, bytes]] = {}
        for digest, (status, key) in self.alive[level].items():
            best[key] = min(best.get(key, (9, b"")), (status, digest))
        return {key: digest for key, (_, digest) in best.items()}

    def shards(self, level: str) -> dict[str, set[bytes]]:
        """Sound shards on disk and their records, read without the code under test."""
        found = {}
        for name in shard_names(self.root / level):
            try:
                with h5py.File(self.root / level / name, "r") as file:
                    found[name] = {record.tobytes() for record in file["record"][:]}
                    if "value" in file:
                        file["value"][:]
                    file["note"][:]
            except (OSError, KeyError):
                found.pop(name, None)
        return found


class TestBriefly(TwoAnnotators.TestCase):
    settings = settings(max_examples=8, stateful_step_count=15, deadline=None)


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestAtLength(TwoAnnotators.TestCase):
    settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
