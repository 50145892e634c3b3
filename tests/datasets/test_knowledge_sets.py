"""Named sets: H_ka from phrase masks, validity, verdicts, fingerprints, manifests."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semore.datasets.errors import SemoreError
from semore.datasets.knowledge import cache as knowledge
from semore.datasets.knowledge.cache import KnowledgeCache, KnowledgeSet, SetManifest, ensure_set, open_set, set_names
from semore.datasets.knowledge.merge import max_pool, merge_masks
from semore.datasets.knowledge.records import Status, Text, note, record_keys

DESCRIBER, SEGMENTER, JUDGE = {"kind": "d"}, {"kind": "s", "privileged": True}, {"kind": "j"}
SIZE = 16


def digests(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16), np.uint8)


FRAMES, STATES = digests(6, 0), digests(6, 1)
TEXTS = [
    Text(("car", "bus")),
    Text(()),  # looked, nothing there
    Text((), Status.EMPTY, "no answer"),
    Text((), Status.FAILED, "boom"),
    Text(("car", "dog")),  # the dog's mask is missing
    None,  # never described
]
MASKS = np.random.default_rng(3).integers(0, 256, (3, SIZE, SIZE), np.uint8)  # car 0, bus 0, car 4


def fill(cache: KnowledgeCache) -> None:
    known = [index for index, text in enumerate(TEXTS) if text is not None]
    keys = record_keys("texts", DESCRIBER, FRAMES[known], STATES[known])
    texts = [text for text in TEXTS if text is not None]
    cache.texts.add(DESCRIBER, keys, FRAMES[known], [t.status for t in texts], [t.encode() for t in texts])
    rows = [0, 0, 4]
    keys = record_keys("masks", SEGMENTER, FRAMES[rows], STATES[rows], ["car", "bus", "car"])
    cache.masks.add(SEGMENTER, keys, FRAMES[rows], [0] * 3, [note(phrase="x", reason="")] * 3, MASKS)
    keys = record_keys("verdicts", JUDGE, FRAMES[:3], STATES[:3], ["a", "b", "c"])
    cache.verdicts.add(JUDGE, keys, FRAMES[:3], [0, 0, 1], [note()] * 3, np.array([1, 0, 255], np.uint8))
    cache.commit()


def made(tmp_path, merge="max") -> KnowledgeSet:
    cache = KnowledgeCache(tmp_path)
    fill(cache)
    return ensure_set(cache, f"set-{merge}", SetManifest(DESCRIBER, SEGMENTER, JUDGE, merge))


@pytest.mark.parametrize("merge", ["max", "mean"])
def test_h_ka_and_validity(tmp_path, merge):
    masks, valid = made(tmp_path, merge).h_ka(FRAMES, STATES, size=(SIZE, SIZE))
    assert valid.tolist() == [True, True, False, False, False, False]
    expected = MASKS[:2].max(0) if merge == "max" else np.floor(MASKS[:2].mean(0) + 0.5)
    assert (masks[0] == expected).all()
    assert not masks[1:].any()


@pytest.mark.parametrize("merge", ["max", "mean"])
def test_grid_equals_pooling_the_whole_mask(tmp_path, merge):
    made_set = made(tmp_path, merge)
    whole, valid = made_set.h_ka(FRAMES, STATES, size=(SIZE, SIZE))
    for grid in (3, 8, 16):
        pooled, same = made_set.h_ka(FRAMES, STATES, grid=grid)
        assert (same == valid).all()
        assert (pooled == torch_pool(whole, grid)).all()


def torch_pool(masks: np.ndarray, grid: int) -> np.ndarray:
    pooled = torch.nn.functional.adaptive_max_pool2d(torch.from_numpy(masks).float()[:, None], grid)
    return pooled[:, 0].numpy().astype(np.uint8)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(0, 99))
def test_max_pool_equals_torch(height, width, grid, seed):
    masks = np.random.default_rng(seed).integers(0, 256, (3, height, width), np.uint8)
    assert (max_pool(masks, grid) == torch_pool(masks, grid)).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(0, 99))
def test_merging_equals_numpy(counts, seed):
    masks = np.random.default_rng(seed).integers(0, 256, (sum(counts), 4, 5), np.uint8)
    starts = np.cumsum(counts) - counts
    parts = np.split(masks, starts[1:])
    assert (merge_masks(masks, starts, "max") == np.stack([part.max(0) for part in parts])).all()
    means = np.stack([np.floor(part.mean(0) + 0.5) for part in parts])
    assert (merge_masks(masks, starts, "mean") == means).all()


def test_pieces_cover_each_row_once_and_equal_the_whole(tmp_path, monkeypatch):
    cache = KnowledgeCache(tmp_path)
    frames, states = digests(70, 5), digests(70, 6)
    names = [tuple("abcdefgh"[: 1 + index % 5]) for index in range(70)]
    keys = record_keys("texts", DESCRIBER, frames, states)
    cache.texts.add(DESCRIBER, keys, frames, [0] * 70, [Text(named).encode() for named in names])
    owners = np.repeat(np.arange(70), [len(named) for named in names])
    flat = [name for named in names for name in named]
    masks = np.random.default_rng(0).integers(0, 256, (len(flat), SIZE, SIZE), np.uint8)
    keys = record_keys("masks", SEGMENTER, frames[owners], states[owners], flat)
    for part in np.array_split(np.random.default_rng(1).permutation(len(flat)), 4):  # scattered over shards
        cache.masks.add(SEGMENTER, keys[part], frames[owners][part], [0] * len(part), [note()] * len(part), masks[part])
        cache.commit()
    knowledge_set = ensure_set(cache, "k", SetManifest(DESCRIBER, SEGMENTER, None))
    monkeypatch.setattr(knowledge, "READ_MASKS", 20)
    rows, found = [], np.zeros((70, SIZE, SIZE), np.uint8)
    for piece, values, valid in knowledge_set.iter_h_ka(frames, states):
        rows += piece.tolist()
        if values.size:
            found[piece] = values
            assert valid.all()
    assert sorted(rows) == list(range(70))
    assert (found == np.stack([masks[owners == index].max(0) for index in range(70)])).all()


def test_verdicts(tmp_path):
    found = made(tmp_path).verdicts(FRAMES, STATES, ["a", "b", "c", "a", "a", "a"])
    assert found.tolist() == [1, 0, 255, 255, 255, 255]
    cache = KnowledgeCache(tmp_path)
    silent = ensure_set(cache, "silent", SetManifest(DESCRIBER, SEGMENTER, None))
    assert silent.verdicts(FRAMES, STATES, ["a"] * 6).tolist() == [255] * 6


def test_record_digests_pin_what_is_used(tmp_path):
    made_set = made(tmp_path)
    used = made_set.record_digests_used(FRAMES, STATES, ["a", "b", "c", "a", "a", "a"])
    assert used.shape == (5 + 3 + 3, 16)
    before = made_set.fingerprint(FRAMES, STATES)
    assert before == open_set(tmp_path, "set-max").fingerprint(FRAMES, STATES)
    text = Text(("car",))
    keys = record_keys("texts", DESCRIBER, FRAMES[3:4], STATES[3:4])
    made_set.cache.texts.add(DESCRIBER, keys, FRAMES[3:4], [0], [text.encode()])
    made_set.cache.commit()
    assert made_set.fingerprint(FRAMES, STATES) != before


def test_sets_are_named_and_guarded(tmp_path):
    cache = KnowledgeCache(tmp_path)
    with pytest.raises(SemoreError, match=r"annotating with --data .* makes it"):
        open_set(tmp_path, "b")
    manifest = SetManifest(DESCRIBER, SEGMENTER, JUDGE)
    ensure_set(cache, "a", manifest)
    assert ensure_set(cache, "a", manifest).manifest == manifest
    assert open_set(cache, "a").manifest == manifest
    assert set_names(tmp_path) == ["a"]
    with pytest.raises(SemoreError, match="there is a"):
        open_set(tmp_path, "b")
    for other in (
        SetManifest({"kind": "other"}, SEGMENTER, JUDGE),
        SetManifest(DESCRIBER, SEGMENTER, None),
        SetManifest(DESCRIBER, SEGMENTER, JUDGE, "mean"),
    ):
        with pytest.raises(SemoreError, match="another --knowledge name"):
            ensure_set(cache, "a", other)
    for name in ("", "../x", ".hidden"):
        with pytest.raises(SemoreError, match="no name"):
            open_set(tmp_path, name)
    (tmp_path / "sets" / "a.json").write_text("{}")
    with pytest.raises(SemoreError, match="no knowledge set"):
        open_set(tmp_path, "a")


def test_the_recipe_is_kept_but_does_not_make_a_set_another(tmp_path):
    cache = KnowledgeCache(tmp_path)
    manifest = SetManifest(DESCRIBER, SEGMENTER, None, recipe={"describer": "d", "cris": {"frames": 8}})
    ensure_set(cache, "a", manifest)
    assert ensure_set(cache, "a", SetManifest(DESCRIBER, SEGMENTER, None)).manifest.recipe == manifest.recipe
    path = tmp_path / "sets" / "a.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "recipe"}))
    assert open_set(tmp_path, "a").manifest.recipe == {}
