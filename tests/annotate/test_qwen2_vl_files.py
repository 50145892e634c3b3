"""Where a Qwen2-VL checkpoint comes from, what it is called, and what is said when it is missing or broken."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace

import huggingface_hub.constants
import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from tiny_qwen2vl import build

from semore.annotate import checkpoint
from semore.annotate.checkpoint import find_checkpoint
from semore.annotate.settings import QwenSettings
from semore.annotate.vlm.qwen2_vl import Qwen2VL
from semore.datasets.errors import SemoreError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


pytestmark = pytest.mark.usefixtures("one_thread", "offline")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return build(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def settings(tiny):
    return QwenSettings(model=str(tiny), upscale=84, max_new_tokens=8)


def copied(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "copy")


def changed(path, old: bytes, new: bytes):
    raw = path.read_bytes()
    assert raw.count(old) == 1
    path.write_bytes(raw.replace(old, new))


def test_the_identity_follows_content_not_place(tiny, settings, tmp_path):
    folder = copied(tiny, tmp_path)
    (folder / "README.md").write_text("words")
    (folder / ".cache").mkdir()
    identity = Qwen2VL(settings).identity
    assert Qwen2VL(replace(settings, model=str(folder), batch=1, device="cpu")).identity == identity
    assert json.loads(json.dumps(dict(identity))) == identity
    others = [{"dtype": "bfloat16"}, {"upscale": 0}, {"quantisation": "nf4"}]
    assert all(Qwen2VL(replace(settings, **other)).identity != identity for other in others)
    assert Qwen2VL(replace(settings, dtype="float32")).identity == identity  # as the checkpoint says


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("config.json", b'"rope_theta": 1000000.0', b'"rope_theta": 1000001.0'),
        ("preprocessor_config.json", b'"max_pixels": 1003520', b'"max_pixels": 1003521'),
        ("tokenizer_config.json", b"You are a helpful", b"You are a harmful"),
    ],
)
def test_every_file_counts(tiny, tmp_path, name, old, new):
    folder = copied(tiny, tmp_path)
    changed(folder / name, old, new)
    assert find_checkpoint(str(folder)).name != find_checkpoint(str(tiny)).name


@pytest.mark.parametrize("whole", [checkpoint.WHOLE, 100_000])
def test_a_byte_of_the_weights_counts(tiny, tmp_path, monkeypatch, whole):
    """Also where only samples of a file are read: first, last, and in the middle of one."""
    monkeypatch.setattr(checkpoint, "WHOLE", whole)
    monkeypatch.setattr(checkpoint, "SAMPLE", 4096)
    folder = copied(tiny, tmp_path)
    names = {find_checkpoint(str(tiny)).name}
    weights = folder / "model.safetensors"
    raw = weights.read_bytes()
    for place in (0, len(raw) - 1, (len(raw) - 4096) * 7 // 15 + 100):
        weights.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        names.add(find_checkpoint(str(folder)).name)
    assert len(names) == 4
    weights.write_bytes(raw)
    assert find_checkpoint(str(folder)).name in names


def test_a_downloaded_model_is_its_commit_and_loads_offline(tiny, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    home = tmp_path / "models--lab--tiny"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    shutil.copytree(tiny, home / "snapshots" / COMMIT)
    ours = Qwen2VL(replace(settings, model="lab/tiny"))
    assert ours.identity["model"] == f"lab/tiny@{COMMIT}"
    rgb = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    assert ours.answer(rgb, ["a", "b"]) == Qwen2VL(settings).answer(rgb, ["a", "b"])
    assert Qwen2VL(replace(settings, model="lab/tiny", revision=COMMIT)).identity == ours.identity
    with pytest.raises(SemoreError, match="lab/tiny@v2: not downloaded"):  # nobody can say which commit that will be
        _ = Qwen2VL(replace(settings, model="lab/tiny", revision="v2")).identity


def test_a_model_that_is_nowhere_says_what_to_do(settings, tmp_path):
    start = time.monotonic()
    for model, message in {
        "lab/none": "lab/none@main: not downloaded.*get online, or give a local folder",
        str(tmp_path / "gone"): "gone: there is no such folder",
        str(tmp_path): "has no config.json",
    }.items():
        ours = Qwen2VL(replace(settings, model=model))
        with pytest.raises(SemoreError, match=message):
            _ = ours.identity
        with pytest.raises(SemoreError, match=message):
            ours.load()
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", None, "cannot be loaded.*complete Qwen2-VL checkpoint"),
        ("model.safetensors", b"torn", "cannot be loaded"),
        ("tokenizer.json", b"{", "cannot be loaded"),
        ("preprocessor_config.json", None, "cannot be loaded"),
        ("config.json", b'{"model_type": "bert"}', "model_type 'bert', not 'qwen2_vl'"),
        ("config.json", b"{", "not valid JSON"),
    ],
)
def test_a_broken_checkpoint_is_named(tiny, settings, tmp_path, name, content, message):
    folder = copied(tiny, tmp_path)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(SemoreError, match=message) as error:
        Qwen2VL(replace(settings, model=str(folder))).load()
    assert str(folder) in str(error.value)


def test_weights_that_are_missing_are_not_made_up(tiny, settings, tmp_path):
    folder = copied(tiny, tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights.pop(next(name for name in weights if "layers.1.mlp" in name))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(SemoreError, match=r"1 weights are missing, e.g. .*mlp"):
        Qwen2VL(replace(settings, model=str(folder))).load()
