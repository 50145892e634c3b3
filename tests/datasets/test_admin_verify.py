"""verify: damage is found, put aside and counted, never copied; what a run rests on is still there."""

from __future__ import annotations

import errno
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_admin_upkeep import add_masks, add_texts, digests, phrases, pin, with_set

from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.admin.compact import compact_level
from semore.datasets.knowledge.admin.verify import Verify, verify_cache
from semore.datasets.knowledge.cache import KnowledgeCache
from semore.datasets.knowledge.level import shard_names


def damage(path: Path) -> None:
    """Change a compressed byte; nothing but reading tells."""
    content = bytearray(path.read_bytes())
    with h5py.File(path, "r") as file:
        chunk = file["value" if "value" in file else "note"].id.get_chunk_info(0)
    content[chunk.byte_offset + chunk.size // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def test_verify_puts_aside_what_is_damaged_and_says_what_is_to_be_made_again(tmp_path, capsys):
    cache = with_set(tmp_path / "knowledge")
    frames = digests(40)
    keys = np.concatenate([add_masks(cache.masks, part)[0] for part in np.split(frames, 2)])
    add_texts(cache.texts, frames)
    cache.commit()
    command = Verify(data=str(tmp_path), workers=1)
    assert command.execute() == 0
    assert "sound" in capsys.readouterr().out
    victim = cache.masks.folder / cache.masks.index.shards[0]
    damage(victim)
    assert command.execute() == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "masks: 20 records of 20 frames are to be made again" in said
    assert "--knowledge s" in said
    assert victim.with_name(f"{victim.name}.damaged").exists()
    assert KnowledgeCache(tmp_path / "knowledge").masks.missing(keys).sum() == 20
    assert command.execute() == 0


def test_several_processes_verify(tmp_path):
    cache = with_set(tmp_path)
    for seed in range(4):
        add_texts(cache.texts, digests(5, seed))
    path = cache.texts.folder / cache.texts.index.shards[2]
    path.write_bytes(path.read_bytes()[:500])  # not even its keys can be read: the saved index tells
    cache.texts.save_index()
    (found,) = verify_cache(tmp_path, workers=2)
    assert (found.shard, found.records, found.frames, found.sets) == (path.name, 5, None, ("s",))


def test_a_damaged_shard_whose_records_lie_elsewhere_too_costs_only_the_others(tmp_path):
    cache = with_set(tmp_path)
    frames = digests(20)
    add_masks(cache.masks, frames[:12])
    add_masks(cache.masks, frames[8:], seed=1)
    damage(cache.masks.folder / cache.masks.index.shards[0])
    (found,) = verify_cache(tmp_path)
    assert (found.level, found.records, found.frames, found.sets) == ("masks", 8, 8, ("s",))


def test_repacking_never_launders_damage(tmp_path):
    cache = with_set(tmp_path)
    add_masks(cache.masks, digests(10))
    add_masks(cache.masks, digests(10, 1))
    victim = cache.masks.folder / cache.masks.index.shards[0]
    with h5py.File(victim, "r+") as file:
        file["value"][3] = 7  # consistent for HDF5, but another mask than the digest says
    done = compact_level(KnowledgeCache(tmp_path).masks)
    assert (done.removed, done.written) == (0, 0)
    assert victim.with_name(f"{victim.name}.damaged").exists()
    assert len(KnowledgeCache(tmp_path).masks) == 10


def test_verify_run(tmp_path, capsys):
    cache = with_set(tmp_path / "knowledge")
    keys = add_texts(cache.texts, digests(10))
    folder = pin(tmp_path / "runs", cache.texts.records(keys))
    command = Verify(data=str(tmp_path), run=str(folder))
    assert command.execute() == 0
    assert "10 are there and serve" in capsys.readouterr().out
    (shard,) = shard_names(cache.texts.folder)
    (cache.texts.folder / shard).unlink()
    assert command.execute() == 1
    assert "10 are gone" in capsys.readouterr().out


def test_a_damaged_shard_stays_suspect_after_the_index_is_saved_anew(tmp_path):
    cache = with_set(tmp_path)
    keys = add_texts(cache.texts, digests(20))
    path = cache.texts.folder / cache.texts.index.shards[0]
    path.write_bytes(path.read_bytes()[:-100])
    cache.commit()  # saves an index that knows the shard as it was when sound
    more = add_texts(cache.texts, digests(200, 1))
    cache.commit()
    again = KnowledgeCache(tmp_path).texts
    assert again.missing(np.concatenate([keys, more])).sum() == 20


def test_running_out_of_file_handles_is_no_damage(tmp_path, monkeypatch):
    cache = with_set(tmp_path)
    keys = add_texts(cache.texts, digests(5))

    def busy(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(h5py, "File", busy)
        with pytest.raises(SemoreError, match="Too many open files"):
            cache.texts.notes(keys)
    assert phrases(cache.texts, keys) == ["car"] * 5
