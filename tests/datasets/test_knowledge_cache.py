"""The store: winners, the index, torn shards, concurrent writers."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semore.datasets.errors import SemoreError
from semore.datasets.knowledge import level as knowledge_level
from semore.datasets.knowledge.cache import KnowledgeCache
from semore.datasets.knowledge.index import Index
from semore.datasets.knowledge.level import Level
from semore.datasets.knowledge.records import Status, Text, note
from semore.datasets.knowledge.shards import DamagedShard, Entries, verify_shard

WHO = {"kind": "test"}


def digests(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16), np.uint8)


def add_texts(level: Level, keys: np.ndarray, phrase: str = "car", status: Status = Status.OK) -> None:
    text = Text((phrase,), status)
    level.add(WHO, keys, keys, [status] * len(keys), [text.encode()] * len(keys))


def add_masks(level: Level, keys: np.ndarray, seed: int = 0, size: int = 16) -> np.ndarray:
    masks = (np.random.default_rng(seed).random((len(keys), size, size)) > 0.9).astype(np.uint8) * 255
    level.add(WHO, keys, keys, [0] * len(keys), [note(phrase="car", reason="")] * len(keys), masks)
    return masks


records = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=25
)  # key, status, shard, which of three answers


def made_shards(found: list[tuple[int, int, int, int]]) -> tuple[np.ndarray, dict[str, Entries]]:
    keys = digests(6)
    keys[1, :8] = keys[0, :8]  # two keys that share the half that is searched first
    answers = digests(6 * 9, 1).reshape(6, 3, 3, 16)
    shards: dict[str, Entries] = {}
    for number in {shard for _, _, shard, _ in found}:
        rows = [(key, status, answer) for key, status, shard, answer in found if shard == number]
        shards[f"{number:032x}.h5"] = Entries(
            keys[[key for key, _, _ in rows]],
            np.array([status for _, status, _ in rows], np.uint8),
            np.stack([answers[row] for row in rows]),
        )
    return keys, shards


def winners(index: Index, keys: np.ndarray, shards: dict[str, Entries]) -> list[tuple[int, bytes] | None]:
    hits = index.lookup(keys)
    return [
        (status, shards[index.shards[shard]].records[row].tobytes()) if shard >= 0 else None
        for shard, row, status in zip(hits.shard.tolist(), hits.row.tolist(), hits.status.tolist(), strict=True)
    ]


def best(keys: np.ndarray, shards: dict[str, Entries], pins: set[bytes]) -> list[tuple[int, bytes] | None]:
    rows = [
        (key.tobytes(), record.tobytes() not in pins, status, record.tobytes())
        for entries in shards.values()
        for key, status, record in zip(entries.keys, entries.statuses.tolist(), entries.records, strict=True)
    ]
    choices = [min((row[1:] for row in rows if row[0] == key.tobytes()), default=None) for key in keys]
    return [None if choice is None else choice[1:] for choice in choices]


@settings(max_examples=100, deadline=None)
@given(records, st.randoms(use_true_random=False), st.lists(st.integers(1, 4), max_size=4), st.data())
def test_one_winner_whatever_the_order_and_the_packing(found, random, cuts, data):
    keys, shards = made_shards(found)
    every = np.unique(np.concatenate([entries.records for entries in shards.values()]), axis=0)
    pins = every[data.draw(st.lists(st.integers(0, len(every) - 1), max_size=3))] if data.draw(st.booleans()) else None
    gone = set(data.draw(st.lists(st.sampled_from(sorted(shards)), max_size=2)))
    names = sorted(shards)
    random.shuffle(names)
    index, start = Index(pins), 0
    for piece in [*cuts, len(names)]:
        index.add({name: shards[name] for name in names[start : start + piece]})
        start += piece
    pinned = set() if pins is None else {pin.tobytes() for pin in pins}
    assert winners(index, keys, shards) == best(keys, shards, pinned)
    index.forget(gone)  # losers take over
    left = {name: entries for name, entries in shards.items() if name not in gone}
    assert winners(index, keys, shards) == best(keys, left, pinned)
    assert sorted(index.shards) == sorted(left)
    assert len(index.table()) == len(index) == sum(len(entries.keys) for entries in left.values())
    assert winners(index, keys, shards) == best(keys, left, pinned)
    joined = Entries(
        np.concatenate([entries.keys for entries in shards.values()]),
        np.concatenate([entries.statuses for entries in shards.values()]),
        np.concatenate([entries.records for entries in shards.values()]),
    )
    whole = Index(pins)
    whole.add({"joined.h5": joined})
    assert winners(whole, keys, {"joined.h5": joined}) == best(keys, shards, pinned)


def test_masks_come_back_in_any_order(tmp_path):
    level = Level(tmp_path, "masks")
    keys = digests(300)
    masks = add_masks(level, keys)
    level.commit()
    more = digests(100, 1)
    others = add_masks(level, more, 1)
    level.commit()
    order = np.random.default_rng(2).permutation(400)
    read, present = Level(tmp_path, "masks").masks(np.concatenate([keys, more])[order])
    assert present.all()
    assert (read == np.concatenate([masks, others])[order]).all()
    read, present = level.masks(digests(3, 9))
    assert not present.any()


def test_records_wait_until_there_are_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(knowledge_level, "COMMIT_RECORDS", 64)
    level = Level(tmp_path, "texts")
    keys = digests(100)
    add_texts(level, keys[:40])
    assert not level.folder.exists()
    assert level.notes(keys[:41])[-2:] == [Text(("car",)).encode(), None]  # pending ones are readable
    assert not level.missing(keys[:40]).any()
    add_texts(level, keys[40:])
    assert len(list(level.folder.glob("*.h5"))) == 1
    assert level.lookup(keys).found.all()


def test_equal_keys_are_missing_once(tmp_path):
    level = Level(tmp_path, "texts")
    key = digests(1)
    assert level.missing(np.concatenate([key, key])).tolist() == [True, False]


def test_failed_records_are_retried_and_beaten(tmp_path):
    level = Level(tmp_path, "texts")
    keys = digests(2)
    add_texts(level, keys, status=Status.FAILED)
    level.commit()
    assert not level.missing(keys).any()
    assert level.missing(keys, retry_failed=True).all()
    add_texts(level, keys[:1], "bus")
    level.commit()
    assert level.lookup(keys).status.tolist() == [Status.OK, Status.FAILED]
    assert Text.decode(Level(tmp_path, "texts").notes(keys)[0] or "").phrases == ("bus",)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    with h5py.File(path, "r") as file:
        chunk = file["value" if "value" in file else "note"].id.get_chunk_info(0)
    content[chunk.byte_offset + chunk.size // 2] ^= 0xFF
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [truncate, flip])
@pytest.mark.parametrize("name", ["texts", "masks"])
def test_a_damaged_shard_is_put_aside_and_only_its_records_are_missing(tmp_path, caplog, damage, name):
    level = Level(tmp_path, name)
    keys = digests(60)
    fill = add_texts if name == "texts" else add_masks
    shards = []
    for part in np.split(keys, 3):
        fill(level, part)
        level.commit()
        shards.append(next(path for path in level.folder.glob("*.h5") if path not in shards))
    level.save_index()
    damage(shards[1])
    again = Level(tmp_path, name)
    if name == "texts":
        found = np.array([text is not None for text in again.notes(keys)])
    else:
        found = again.masks(keys)[1]
    assert found.tolist() == [True] * 20 + [False] * 20 + [True] * 20
    assert again.missing(keys).tolist() == (~found).tolist()
    assert shards[1].with_name(shards[1].name + ".damaged").exists()
    said = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 1
    assert "moved aside" in said[0]
    again.notes(keys)
    assert len(caplog.records) == len(said)


def test_a_loser_takes_over_when_the_winning_shard_is_damaged(tmp_path):
    level = Level(tmp_path, "texts")
    keys = digests(5)
    add_texts(level, keys, "car")
    level.commit()
    add_texts(level, keys, "bus")
    level.commit()
    (winner,) = np.unique(level.lookup(keys).shard[:1])
    winner = level.folder / level.index.shards[winner]
    before = level.notes(keys)
    flip(winner)
    after = level.notes(keys)
    assert None not in after
    assert after != before


def test_verify_finds_a_changed_record(tmp_path):
    level = Level(tmp_path, "verdicts")
    keys = digests(10)
    level.add(WHO, keys, keys, [0] * 10, [note(action="straight, brake", reason="")] * 10, np.ones(10, np.uint8))
    level.commit()
    (path,) = level.folder.glob("*.h5")
    verify_shard(path)
    with h5py.File(path, "r+") as file:
        file["value"][3] = 0
    with pytest.raises(DamagedShard):
        verify_shard(path)
    assert Level(tmp_path, "verdicts").verdicts(keys).tolist() == [255] * 10


def test_another_format_version_is_refused_by_name(tmp_path):
    level = Level(tmp_path, "texts")
    add_texts(level, digests(3))
    level.commit()
    (path,) = level.folder.glob("*.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 99
    with pytest.raises(SemoreError, match="version 99"):
        Level(tmp_path, "texts")


@pytest.mark.parametrize("spoil", ["missing", "torn", "stale", "extra"])
def test_the_saved_index_is_rebuilt_when_it_does_not_fit(tmp_path, spoil):
    level = Level(tmp_path, "texts")
    keys = digests(50)
    add_texts(level, keys[:20])
    level.commit()
    level.save_index()
    index = level.folder / "index.npz"
    assert index.exists()
    if spoil == "missing":
        index.unlink()
    elif spoil == "torn":
        index.write_bytes(index.read_bytes()[:-200])
    elif spoil == "stale":  # it names a shard that is no longer there; what it knows of others still counts
        (shard,) = level.folder.glob("*.h5")
        shard.unlink()
        level.refresh()
        add_texts(level, keys[:20], "bus")
        level.commit()
    add_texts(level, keys[20:])
    level.commit()
    again = Level(tmp_path, "texts")
    assert again.lookup(keys).found.all()
    assert len(again) == 50
    assert None not in again.notes(keys)


def test_start_up_reads_no_shard_the_index_knows(tmp_path, monkeypatch):
    level = Level(tmp_path, "texts")
    add_texts(level, digests(50))
    level.commit()
    level.save_index()
    monkeypatch.setattr(knowledge_level, "read_entries", None)
    assert len(Level(tmp_path, "texts")) == 50


WRITER = """
import sys
from pathlib import Path
sys.path[:0] = {tests!r}
from test_knowledge_cache import add_texts, add_masks, digests
from semore.datasets.knowledge.cache import KnowledgeCache
cache = KnowledgeCache(Path(sys.argv[1]))
for step in range(5):
    shared, own = digests(30, step), digests(30, int(sys.argv[2]) * 100 + step)
    add_texts(cache.texts, shared); add_texts(cache.texts, own); add_masks(cache.masks, own, step)
    cache.commit()
"""


def test_two_processes_write_at_once(tmp_path):
    code = WRITER.format(tests=[str(Path(__file__).parent), str(Path(__file__).parents[1])])
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(number)]) for number in (1, 2)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    cache = KnowledgeCache(tmp_path)
    for step in range(5):
        assert cache.texts.lookup(digests(30, step)).found.all()
        for writer in (1, 2):
            assert cache.masks.masks(digests(30, writer * 100 + step))[1].all()
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".tmp")]


def test_others_commits_are_seen_after_refresh(tmp_path):
    ours, theirs = KnowledgeCache(tmp_path), KnowledgeCache(tmp_path)
    keys = digests(5)
    add_texts(theirs.texts, keys)
    theirs.commit()
    assert not ours.texts.lookup(keys).found.any()
    ours.refresh()
    assert ours.texts.lookup(keys).found.all()


def test_lookups_are_fast():
    index = Index()
    keys = digests(200_000)
    index.add({"a.h5": Entries(keys, np.zeros(len(keys), np.uint8), keys)})
    start = time.perf_counter()
    assert index.lookup(keys).found.all()
    assert len(keys) / (time.perf_counter() - start) > 50_000
