"""Reads a CRIS checkpoint in the official layout and refuses any other file."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from semore.annotate.segment.cris.network import CRIS
from semore.datasets.errors import SemoreError

PREFIX: Final = "module."
"""What distributed training puts before every key."""
NAMED: Final = 3
"""How many wrong keys an error names."""
WANTED: Final = (
    "no official CRIS weights were ever published: bring a checkpoint of CRIS-R50 in the official layout, "
    '{"state_dict": …}, and name it as cris.checkpoint; or choose another segmenter'
)


def load_checkpoint(path: Path, word_len: int = 17) -> CRIS:
    """The network with the weights of `path`: float32, on the CPU, in evaluation mode, without gradients.

    The file is {"state_dict": …, and whatever else} or a plain state_dict, each key with or without `module.`.
    SemoreError when it is missing, torn, unsafe to unpickle, or differs in any key or shape.
    """
    state = {key.removeprefix(PREFIX): value for key, value in _read_state(path).items()}
    with torch.device("meta"):  # no time spent on initial weights
        network = CRIS(word_len)
    _check(path, state, network.state_dict())
    network.load_state_dict({key: _own(value) for key, value in state.items()}, assign=True)
    return network.requires_grad_(False).eval()


def file_digest(path: Path) -> str:
    """BLAKE2b-128 of a checkpoint's bytes, in hex; SemoreError when it is missing or cannot be read."""
    try:
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, partial(hashlib.blake2b, digest_size=16)).hexdigest()
    except OSError as error:
        raise SemoreError(f"{path} cannot be read ({error.strerror}); {WANTED}") from None


def state_digest(network: CRIS) -> str:
    """BLAKE2b-128 of a network's keys and weights, in hex: names a network that came from no file."""
    state = hashlib.blake2b(digest_size=16)
    for key, value in network.state_dict().items():
        state.update(key.encode() + b"\0")
        state.update(value.cpu().contiguous().numpy().data)
    return state.hexdigest()


def _read_state(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise SemoreError(f"{path} does not exist; {WANTED}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SemoreError(
            f"{path} is not a checkpoint that can be loaded safely ({reason}); copy it again, or save its state_dict "
            "alone with torch.save"
        ) from None
    state = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping):
        raise SemoreError(f"{path} holds a {type(state).__name__} where a state_dict was expected; {WANTED}")
    return state


def _check(path: Path, state: Mapping[str, Any], expected: Mapping[str, Tensor]) -> None:
    def shape(value: Any) -> str:
        return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__

    wrong = {
        "missing": [key for key in expected if key not in state],
        "unknown": [str(key) for key in state if key not in expected],
        "of the wrong shape": [
            f"{key} {shape(state[key])} instead of {shape(value)}"
            for key, value in expected.items()
            if key in state and shape(state[key]) != shape(value)
        ],
    }
    complaints = [
        f"{len(keys)} {what}: {', '.join(keys[:NAMED])}{', …' if len(keys) > NAMED else ''}"
        for what, keys in wrong.items()
        if keys
    ]
    if complaints:
        raise SemoreError(f"{path} is not CRIS-R50 with its {len(expected)} tensors; {'; '.join(complaints)}")


def _own(value: Tensor) -> Tensor:
    """In memory as float32: a training that goes on and overwrites its file must not reach into this network."""
    return value.to(torch.float32 if value.is_floating_point() else value.dtype, copy=True)
