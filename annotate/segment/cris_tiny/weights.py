"""The weights file of CRIS-tiny: half-precision numbers and what they were trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from semore.annotate.segment.cris_tiny.network import CrisTiny
from semore.annotate.segment.cris_tiny.phrase_vocab import UNKNOWN, vocabulary
from semore.datasets.atomic_io import atomic_file
from semore.datasets.errors import SemoreError
from semore.datasets.hints import command

WEIGHTS: Final = Path(__file__).with_name("weights.safetensors")
"""The file in the repository."""


def write_weights(path: Path, state: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write a network's state with a JSON description."""
    halves = {name: value.half().contiguous() for name, value in state.items() if value.is_floating_point()}
    words = sorted(vocabulary(), key=vocabulary().__getitem__)
    # One entry: safetensors writes several in any order, and equal weights must be equal bytes.
    data = save(halves, {"about": json.dumps({**about, "words": " ".join(words)}, sort_keys=True)})
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def about_weights(path: Path) -> dict[str, Any]:
    """The description; SemoreError when the file is missing, torn or none of ours."""
    with _opened(path) as file:
        return _description(path, file.metadata())


def read_weights(path: Path) -> CrisTiny:
    """The network in evaluation mode; errors as about_weights, and when the file knows other words than this code."""
    with _opened(path) as file:
        words = str(_description(path, file.metadata()).get("words", "")).split()
        if words != sorted(vocabulary(), key=vocabulary().__getitem__):
            raise SemoreError(f"{path} knows other words than this version teaches; {_train(path)}")
        state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118  (no mapping)
    network = CrisTiny(UNKNOWN + 1 + len(words))
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise SemoreError(f"{path} does not fit this version of CRIS-tiny ({error}); {_train(path)}") from None
    if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
        raise SemoreError(f"{path} does not fit this version of CRIS-tiny; {_train(path)}")
    return network.eval()


def _train(path: Path) -> str:
    return f"train it anew: `{command('cris-tiny', {} if path == WEIGHTS else {'weights': path})}`"


def _opened(path: Path) -> Any:
    if not path.is_file():
        raise SemoreError(f"{path} does not exist; give --cris_tiny.weights another file, or {_train(path)}")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise SemoreError(
            f"{path} is not a whole safetensors file ({error}); restore it (git checkout), or {_train(path)}"
        ) from None


def _description(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((metadata or {})["about"])
    except (KeyError, json.JSONDecodeError):
        raise SemoreError(f"{path} holds no weights of CRIS-tiny; give another file, or {_train(path)}") from None
    return about
