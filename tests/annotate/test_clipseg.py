"""CLIPSeg behind the Segmenter seam, on a complete tiny checkpoint that is made here and read like a downloaded one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_oracle_rules import actor, scene
from tiny_clipseg import build
from transformers import AutoImageProcessor, AutoTokenizer, CLIPSegForImageSegmentation

from semore.annotate.interfaces import FrameBatch
from semore.annotate.segment.clipseg import ClipSegSegmenter
from semore.annotate.settings import ClipSegSettings
from semore.datasets.errors import SemoreError

PHRASES = ("car ahead", "pedestrian crossing the road", "oncoming car", "cyclist " * 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("clipseg"))


@pytest.fixture
def copied(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def segmenter(folder: Path, **changes) -> ClipSegSegmenter:
    return ClipSegSegmenter(replace(ClipSegSettings(model=str(folder), device="cpu"), **changes))


def frames(count: int, height: int = 32, width: int = 48) -> FrameBatch:
    rgb = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)
    return replace(scene(actor(1, "sedan", 20, 0)).take([0] * count), rgb=rgb)


def apart(one: np.ndarray, other: np.ndarray) -> int:
    """Largest difference in levels of 255."""
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other).max())


def test_it_equals_transformers_own_call_per_phrase(folder):
    batch, asked = frames(3), [PHRASES[:2], (), PHRASES[1:]]
    masks = segmenter(folder, batch=2).segment(batch, asked)
    model = CLIPSegForImageSegmentation.from_pretrained(folder).eval()
    tokenizer, processor = AutoTokenizer.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    expected = []
    for frame, named in zip(batch.rgb, asked, strict=True):
        for phrase in named:
            words = tokenizer([phrase], truncation=True, return_tensors="pt")
            with torch.inference_mode():
                logits = model(**words, **processor(images=[frame], return_tensors="pt")).logits
            square = logits.reshape(1, 1, 64, 64).sigmoid()
            expected.append(F.interpolate(square, frame.shape[:2], mode="bilinear", antialias=True)[0, 0])
    levels = (torch.stack(expected) * 255).round().numpy()
    assert masks.dtype == np.uint8
    assert apart(masks, levels) <= 1
    assert all(apart(masks[0], other) > 3 for other in masks[1:])


def test_batches_equal_single_calls(folder):
    batch, asked = frames(4), [PHRASES, PHRASES[:1], (), PHRASES[2:]]
    one = segmenter(folder)
    singles = [one.segment(batch.take([row]), [[phrase]]) for row, named in enumerate(asked) for phrase in named]
    assert apart(segmenter(folder, batch=3).segment(batch, asked), np.concatenate(singles)) <= 1
    assert one.segment(batch.take([0, 1]), [(), ()]).shape == (0, 32, 48)


def test_each_frame_and_each_phrase_is_encoded_once(folder, monkeypatch):
    one = segmenter(folder)
    one.load()
    seen, read = [], []
    see, read_text = one._model.clip.get_image_features, one._model.clip.get_text_features
    monkeypatch.setattr(one._model.clip, "get_image_features", lambda x, **k: seen.append(len(x)) or see(x, **k))
    monkeypatch.setattr(one._model.clip, "get_text_features", lambda x, **k: read.append(len(x)) or read_text(x, **k))
    for _ in range(2):
        one.segment(frames(3), [PHRASES, (), PHRASES])
    assert seen == [2, 2]
    assert sum(read) == len(PHRASES)


def test_bf16_stays_close(folder):
    exact, rough = (segmenter(folder, precision=p).segment(frames(2), [PHRASES] * 2) for p in ("fp32", "bf16"))
    assert 0 < np.abs(exact.astype(int) - rough).mean() < 2
    assert segmenter(folder).identity != segmenter(folder, precision="bf16").identity


def test_the_identity_follows_the_files_and_needs_no_weights(folder, copied):
    identity = segmenter(folder).identity
    assert identity["privileged"] is False
    assert identity == segmenter(copied, batch=1).identity
    weights = bytearray((copied / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copied / "model.safetensors").write_bytes(weights)
    assert identity != segmenter(copied).identity


def test_broken_checkpoints_are_refused_by_name(copied, tmp_path):
    with pytest.raises(SemoreError, match="no such folder"):
        segmenter(tmp_path / "absent").load()
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"model_type": "clip"}))
    with pytest.raises(SemoreError, match="is a clip model; a clipseg one is needed"):
        segmenter(copied).load()
    (copied / "config.json").write_text(json.dumps(config | {"extract_layers": [0, 1, 2, 3]}))
    with pytest.raises(SemoreError, match=r"lacks weights \(decoder"):
        segmenter(copied).load()
    (copied / "config.json").write_text(json.dumps(config))
    weights = (copied / "model.safetensors").read_bytes()
    (copied / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(SemoreError, match=r"cannot be loaded .*preprocessor_config\.json"):
        segmenter(copied).load()
    (copied / "model.safetensors").write_bytes(weights)
    (copied / "preprocessor_config.json").unlink()
    with pytest.raises(SemoreError, match="cannot be loaded"):
        segmenter(copied).load()
    with pytest.raises(SemoreError, match=r"clipseg\.batch is 0"):
        segmenter(copied, batch=0)
