"""The torch device that a setting names."""

from __future__ import annotations

import torch

from semore.datasets.errors import SemoreError


def torch_device(name: str) -> torch.device:
    """The device `name`; `auto` is cuda when there is one, else cpu. SemoreError when torch finds no cuda that is asked
    for."""
    if name == "cuda" and not torch.cuda.is_available():
        raise SemoreError("device cuda was asked for, but torch sees no GPU; choose device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
