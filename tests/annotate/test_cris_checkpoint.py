"""The official checkpoint layout is read; anything else is refused by name."""

from __future__ import annotations

import zlib
from collections import Counter, OrderedDict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from semore.annotate.segment.cris import CRIS, load_checkpoint
from semore.annotate.segment.cris.segmenter import CrisSegmenter
from semore.annotate.settings import CrisSettings
from semore.datasets.errors import SemoreError


def constant(key: str, like: Tensor) -> Tensor:
    """One number per key, repeated without taking room in the file."""
    return torch.tensor(zlib.crc32(key.encode()) % 1000, dtype=like.dtype).expand(like.shape)


@cache
def expected() -> dict[str, Tensor]:
    """Every key with its shape, without storage."""
    with torch.device("meta"):
        return CRIS().state_dict()


def weights() -> dict[str, Tensor]:
    return {key: constant(key, value) for key, value in expected().items()}


def official(state: dict[str, Any]) -> dict[str, Any]:
    """What the official training saves: its own progress beside the weights, `module.` before each key."""
    moments = {"step": torch.tensor(9.0), "exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(3)}
    return {
        "epoch": 50,
        "cur_iou": 0.69,
        "best_iou": 0.7,
        "prec": {"Pr@50": 0.81},
        "state_dict": OrderedDict((f"module.{key}", value) for key, value in state.items()),
        "optimizer": {"state": {0: moments}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999), "params": [0]}]},
        "scheduler": {"milestones": Counter([35]), "gamma": 0.1, "last_epoch": 50, "_last_lr": [1e-5]},
    }


@pytest.mark.parametrize(("layout", "zipped"), [(official, True), (dict, False)], ids=["official", "plain, old format"])
def test_every_weight_arrives_where_its_key_says(layout, zipped, tmp_path):
    state = weights()
    state["backbone.logit_scale"] = state["backbone.logit_scale"].half()
    torch.save(layout(state), tmp_path / "cris.pth", _use_new_zipfile_serialization=zipped)
    network = load_checkpoint(tmp_path / "cris.pth")
    loaded = network.state_dict()
    assert loaded.keys() == state.keys()
    for key, value in loaded.items():
        assert (value == state[key].max()).all(), key
        assert value.dtype in (torch.float32, torch.int64)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_file_overwritten_later_does_not_reach_the_network(tmp_path):
    path = tmp_path / "last_model.pth"
    torch.save(weights(), path)
    network = load_checkpoint(path)
    with open(path, "r+b") as handle:
        handle.write(b"\xff" * path.stat().st_size)
    key = "proj.txt.weight"
    assert (network.state_dict()[key] == zlib.crc32(key.encode()) % 1000).all()


def without_two(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if not key.startswith("proj.vis.4")}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (lambda: official(without_two(weights())), r"2 missing: proj\.vis\.4\.weight, proj\.vis\.4\.bias"),
        (lambda: weights() | {"extra": torch.ones(1)}, "1 unknown: extra"),
        (lambda: weights() | {"proj.txt.bias": torch.ones(7)}, r"proj\.txt\.bias \(7,\) instead of \(2305,\)"),
        (lambda: weights() | {"proj.txt.bias": 3}, r"proj\.txt\.bias int instead of"),
        (lambda: {"state_dict": {}}, "662 missing: .*, …"),
        (lambda: [1, 2], "holds a list where a state_dict was expected"),
        (lambda: {"state_dict": 7}, "holds a int"),
        (lambda: {"state_dict": Path("x")}, "loaded safely"),
    ],
)
def test_what_is_not_cris_is_refused_by_name(content, complaint, tmp_path):
    torch.save(content(), tmp_path / "cris.pth")
    with pytest.raises(SemoreError, match=complaint):
        load_checkpoint(tmp_path / "cris.pth")


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_a_torn_file_is_refused(keep, tmp_path):
    path = tmp_path / "cris.pth"
    torch.save(weights(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    with pytest.raises(SemoreError, match=r"cris\.pth is not a checkpoint that can be loaded"):
        load_checkpoint(path)


def test_garbage_and_folders_are_refused(tmp_path):
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(SemoreError, match="noise"):
        load_checkpoint(tmp_path / "noise")
    with pytest.raises(SemoreError, match="does not exist"):
        load_checkpoint(tmp_path)


def test_the_identity_is_the_files_and_needs_no_weights(tmp_path):
    path = tmp_path / "cris.pth"
    path.write_bytes(b"no weights at all")
    settings = CrisSettings(checkpoint=str(path))
    identity = CrisSegmenter(settings).identity
    assert identity["kind"] == "cris"
    assert identity["privileged"] is False
    assert identity == CrisSegmenter(settings).identity
    path.write_bytes(b"other weights")
    assert identity != CrisSegmenter(settings).identity
    assert identity["weights"] != CrisSegmenter(settings).identity["weights"]
    with pytest.raises(SemoreError, match="loaded safely"):
        CrisSegmenter(settings).load()


@pytest.mark.parametrize("settings", [CrisSettings(), CrisSettings(checkpoint="/nowhere/cris.pth")])
def test_without_a_checkpoint_the_user_is_told_what_is_needed(settings):
    for ask in (CrisSegmenter.load, lambda segmenter: segmenter.identity):
        with pytest.raises(SemoreError, match=r"no official CRIS weights were ever published.*state_dict"):
            ask(CrisSegmenter(settings))
