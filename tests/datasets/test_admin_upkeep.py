"""gc and compact: what they keep, what they free, and what a crash or a concurrent annotator does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from semore.datasets.atomic_io import exclusive_lock
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge import level as knowledge_level
from semore.datasets.knowledge.admin import repack as ledger_repack
from semore.datasets.knowledge.admin.compact import Compact, compact_level
from semore.datasets.knowledge.admin.gc import Gc, collect, find_waste
from semore.datasets.knowledge.admin.needs import find_roots
from semore.datasets.knowledge.admin.verify import verify_cache, verify_pins
from semore.datasets.knowledge.cache import KnowledgeCache, SetManifest, ensure_set, open_set, pins_path
from semore.datasets.knowledge.level import Level, shard_names
from semore.datasets.knowledge.records import Status, Text, record_keys

WHO, NAMELESS = {"kind": "a"}, {"kind": "b"}
LATER = 1e12
"""A time after which nothing was written: no grace."""


def digests(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16), np.uint8)


def add_texts(
    level: Level, frames: np.ndarray, phrase: str = "car", status: Status = Status.OK, who: dict[str, str] = WHO
) -> np.ndarray:
    """Commit a shard of texts; returns its keys."""
    keys = record_keys("texts", who, frames, frames)
    level.add(who, keys, frames, [status] * len(keys), [Text((phrase,), status).encode()] * len(keys))
    level.commit()
    return keys


def add_masks(level: Level, frames: np.ndarray, size: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    keys = record_keys("masks", WHO, frames, frames, ["car"] * len(frames))
    masks = np.random.default_rng(seed).integers(0, 256, (len(frames), size, size), np.uint8)
    level.add(WHO, keys, frames, [0] * len(keys), ["{}"] * len(keys), masks)
    level.commit()
    return keys, masks


def with_set(root: Path) -> KnowledgeCache:
    cache = KnowledgeCache(root)
    ensure_set(cache, "s", SetManifest(WHO, WHO, None))
    return cache


def pin(runs: Path, records: np.ndarray, name: str = "run") -> Path:
    (runs / name).mkdir(parents=True, exist_ok=True)
    np.save(runs / name / "knowledge_used.npy", records)
    return runs / name


def phrases(level: Level, keys: np.ndarray) -> list[str | None]:
    return [None if stored is None else Text.decode(stored).phrases[0] for stored in level.notes(keys)]


# gc


def test_gc_keeps_a_sets_winners_and_drops_the_rest(tmp_path):
    cache = with_set(tmp_path)
    frames = digests(30)
    keys = add_texts(cache.texts, frames, status=Status.FAILED)
    add_texts(cache.texts, frames[:20], "bus")
    nameless = add_texts(cache.texts, frames, who=NAMELESS)
    torn, damaged = tmp_path / "texts" / ".tmp-1-x.h5", tmp_path / "texts" / "x.h5.damaged"
    torn.write_bytes(b"")
    os.utime(torn, (0, 0))
    being_written = tmp_path / "texts" / ".tmp-2-y.h5"
    being_written.write_bytes(b"")
    damaged.write_bytes(b"")
    (tmp_path / "passes").mkdir()
    record = tmp_path / "passes" / "1.json"
    record.write_text("{}")
    waste = collect(KnowledgeCache(tmp_path), [tmp_path / "runs"], LATER)
    assert waste.records["texts"] == 20 + 30
    again = KnowledgeCache(tmp_path).texts
    assert phrases(again, keys) == ["bus"] * 20 + ["car"] * 10
    assert again.lookup(keys).status.tolist() == [0] * 20 + [Status.FAILED] * 10
    assert not again.lookup(nameless).found.any()
    assert len(again) == 30
    assert not torn.exists()
    assert being_written.exists()
    assert not damaged.exists()
    assert record.exists()
    assert collect(KnowledgeCache(tmp_path), [], LATER).records == {"texts": 0, "masks": 0, "verdicts": 0}


def test_gc_says_what_it_would_do_and_needs_a_yes(tmp_path, capsys):
    cache = with_set(tmp_path / "knowledge")
    add_texts(cache.texts, digests(30), who=NAMELESS)
    before = shard_names(cache.texts.folder)
    common = {"data": str(tmp_path), "runs": [str(tmp_path / "runs")]}
    with pytest.raises(SemoreError, match="no such folder of runs"):
        Gc(**common).execute()
    (tmp_path / "runs").mkdir()
    assert Gc(grace=0, **common).execute() == 0
    assert "to free 30 records" in capsys.readouterr().out
    assert shard_names(cache.texts.folder) == before
    assert Gc(yes=True, **common).execute() == 0  # written just now: the grace of an hour holds
    assert shard_names(cache.texts.folder) == before
    assert Gc(yes=True, grace=0, **common).execute() == 0
    assert "freed 30 records" in capsys.readouterr().out
    assert not shard_names(cache.texts.folder)
    with pytest.raises(SemoreError, match="grace"):
        Gc(grace=-1, **common).execute()


def test_what_runs_and_sets_pin_stays_and_can_be_read_as_it_was(tmp_path):
    cache = with_set(tmp_path)
    frames = digests(10)
    keys = add_texts(cache.texts, frames, "car")
    used = cache.texts.records(keys)
    nameless = add_texts(cache.texts, frames, "dog", who=NAMELESS)
    pinned = cache.texts.records(nameless)[:2]
    runs = [tmp_path / "runs"]
    for number, phrase in enumerate(("bus", "van", "tram")):  # three rivals: somewhere the old answer loses
        add_texts(cache.texts, frames, phrase)
        pin(runs[0], used, f"run-{number}")
    open_set(cache, "s").pin(pinned[:1])
    open_set(cache, "s").pin(pinned[1:])
    assert verify_pins(cache, used).overtaken > 0
    assert verify_pins(cache, used).missing == 0
    collect(KnowledgeCache(tmp_path), runs, LATER)
    assert phrases(KnowledgeCache(tmp_path, used).texts, keys) == ["car"] * 10
    pinned_set = open_set(KnowledgeCache(tmp_path, used), "s")
    assert [text.phrases for text in pinned_set.texts(frames, frames) if text] == [("car",)] * 10
    assert KnowledgeCache(tmp_path).texts.lookup(nameless).found.tolist() == [True] * 2 + [False] * 8
    (runs[0] / "run-0" / "knowledge_used.npy").unlink()
    (runs[0] / "run-1" / "knowledge_used.npy").unlink()
    pins_path(tmp_path, "s").unlink()
    collect(KnowledgeCache(tmp_path), runs, LATER)
    assert verify_pins(KnowledgeCache(tmp_path), used).missing == 0  # the third run still pins them
    assert not KnowledgeCache(tmp_path).texts.lookup(nameless).found.any()


def test_gc_stops_at_roots_it_cannot_read(tmp_path):
    cache = with_set(tmp_path)
    add_texts(cache.texts, digests(3))
    folder = pin(tmp_path / "runs", digests(3))
    (folder / "knowledge_used.npy").write_bytes(b"torn")
    with pytest.raises(SemoreError, match="knowledge_used"):
        find_roots(tmp_path, [tmp_path / "runs"])
    (tmp_path / "sets" / "s.json").write_text("{")
    with pytest.raises(SemoreError, match=r"s\.json"):
        find_roots(tmp_path, [])


def test_one_gc_or_compact_at_a_time(tmp_path):
    with_set(tmp_path / "knowledge")
    with exclusive_lock(tmp_path / "knowledge" / ".ledger.lock", "gc"):
        for command in (Gc(data=str(tmp_path), yes=True), Compact(data=str(tmp_path))):
            with pytest.raises(SemoreError, match="already running"):
                command.execute()


def test_a_planned_gc_spares_what_a_new_set_names(tmp_path):
    cache = with_set(tmp_path)
    add_texts(cache.texts, digests(3), who=NAMELESS)
    assert find_waste(cache, find_roots(tmp_path, []), LATER).records["texts"] == 3
    ensure_set(cache, "other", SetManifest(NAMELESS, WHO, None))
    assert find_waste(cache, find_roots(tmp_path, []), LATER).records["texts"] == 0


# compact


def test_compact_joins_small_shards_and_changes_no_answer(tmp_path):
    cache = with_set(tmp_path)
    frames = digests(120)
    parts = [add_masks(cache.masks, part, seed=seed) for seed, part in enumerate(np.split(frames, 6))]
    keys, masks = (np.concatenate([part[column] for part in parts]) for column in (0, 1))
    wide, other = add_masks(cache.masks, frames[:5], size=4)  # another camera under the same keys: a rival
    add_masks(cache.masks, digests(5, 9), size=4)
    before = cache.masks.records(keys)
    reader = KnowledgeCache(tmp_path)
    compact_level(KnowledgeCache(tmp_path).masks)
    assert len(shard_names(cache.masks.folder)) == 2  # one per mask size
    for each in (reader, KnowledgeCache(tmp_path)):
        assert (each.masks.records(keys) == before).all()
        assert (each.masks.masks(keys[5:])[0] == masks[5:]).all()
    assert len(KnowledgeCache(tmp_path).masks) == 130  # losers stay: a run may pin them
    assert verify_cache(tmp_path) == []
    names = shard_names(cache.masks.folder)
    compact_level(KnowledgeCache(tmp_path).masks)
    assert shard_names(cache.masks.folder) == names
    assert len(wide) == len(other)


def test_compact_makes_big_shards_and_leaves_them_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(knowledge_level, "COMMIT_RECORDS", 1 << 30)
    monkeypatch.setattr(ledger_repack, "COMMIT_RECORDS", 600)
    cache = with_set(tmp_path)
    for seed in range(14):
        add_texts(cache.texts, digests(100, seed))
    done = compact_level(cache.texts)
    assert (done.removed, done.written) == (14, 3)  # 600, 600, 200
    big = {name for name in shard_names(cache.texts.folder) if len(read_keys(cache.texts.folder / name)) >= 512}
    add_texts(cache.texts, digests(100, 20))
    compact_level(cache.texts)
    assert big < shard_names(cache.texts.folder)
    assert len(KnowledgeCache(tmp_path).texts) == 1500


def read_keys(path: Path) -> np.ndarray:
    with h5py.File(path, "r") as file:
        return np.asarray(file["key"][:])


class Killed(BaseException):
    """The process is gone at this point."""


@pytest.mark.parametrize("step", range(1, 12))
def test_a_crash_at_any_step_loses_nothing(tmp_path, monkeypatch, step):
    cache = with_set(tmp_path)
    frames = digests(60)
    keys = np.concatenate([add_texts(cache.texts, part) for part in np.split(frames, 3)])
    add_texts(cache.texts, frames[:10], "bus", Status.FAILED)
    before = cache.texts.records(keys)
    left = step

    def dying(real):
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if not left:
                raise Killed
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying(os.replace))
        patch.setattr(os, "fsync", dying(os.fsync))
        patch.setattr(Path, "unlink", dying(Path.unlink))
        try:
            compact_level(KnowledgeCache(tmp_path).texts)
            collect(KnowledgeCache(tmp_path), [], LATER)
        except Killed:
            pass
    for reader in (cache, KnowledgeCache(tmp_path)):
        reader.refresh()
        assert (reader.texts.records(keys) == before).all()
    compact_level(KnowledgeCache(tmp_path).texts)
    collect(KnowledgeCache(tmp_path), [], LATER)
    after = KnowledgeCache(tmp_path).texts
    assert (after.records(keys) == before).all()
    assert len(after) == 60
    assert len(shard_names(after.folder)) == 1


ANNOTATOR = """
import sys
from pathlib import Path
sys.path[:0] = {tests!r}
from test_admin_upkeep import add_texts, digests, phrases, np, KnowledgeCache
cache = KnowledgeCache(Path(sys.argv[1]))
mine = int(sys.argv[2])
done = []
for step in range(15):
    frames = digests(7, 1000 * mine + step)
    done.append(add_texts(cache.texts, frames, f"phrase {{step}}"))
    keys = np.concatenate(done)
    assert phrases(cache.texts, keys) == [f"phrase {{at}}" for at in range(step + 1) for _ in range(7)], step
    assert not cache.texts.missing(keys).any(), step
    if step % 5 == 4:
        fresh = KnowledgeCache(Path(sys.argv[1]))
        assert not fresh.texts.missing(keys).any(), step
"""
KEEPER = """
import sys
from pathlib import Path
sys.path[:0] = {tests!r}
from test_admin_upkeep import LATER, KnowledgeCache, collect, compact_level
print("ready", flush=True)
while True:
    compact_level(KnowledgeCache(Path(sys.argv[1])).texts)
    collect(KnowledgeCache(Path(sys.argv[1])), [], LATER)
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    code = code.format(tests=[str(Path(__file__).parent), str(Path(__file__).parents[1])])
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)


def test_two_annotators_work_while_another_process_joins_and_clears_and_is_killed(tmp_path):
    with_set(tmp_path)
    (tmp_path / "texts").mkdir()
    annotators = [start(ANNOTATOR, str(tmp_path), str(number)) for number in (1, 2)]
    kills = 0
    try:
        while any(each.poll() is None for each in annotators):
            keeper = start(KEEPER, str(tmp_path))
            assert keeper.stdout is not None
            keeper.stdout.readline()
            time.sleep(0.5 + 0.3 * kills)
            keeper.send_signal(signal.SIGKILL)
            keeper.wait()
            kills += 1
    finally:
        for each in annotators:
            each.kill() if each.poll() is None else None
    assert [each.wait() for each in annotators] == [0, 0]
    assert kills
    compact_level(KnowledgeCache(tmp_path).texts)
    cache = KnowledgeCache(tmp_path)
    for mine in (1, 2):
        for step in range(15):
            frames = digests(7, 1000 * mine + step)
            assert phrases(cache.texts, record_keys("texts", WHO, frames, frames)) == [f"phrase {step}"] * 7
