"""Checkpoints (atomic, resumable) and the exported policy file that runs without any training code."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semore.datasets.atomic_io import write_bytes
from semore.datasets.errors import SemoreError
from semore.train.learner import Learner, PolicyNetwork

CHECKPOINT_VERSION = 4
"""1: before rivals and re-judging; its replay state says too little to go on from. 2: without averaged weights. 3:
before auxiliaries had modules of their own."""


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` atomically with a version mark; SemoreError when there is no room for it."""
    whole = io.BytesIO()  # torch's own writer says nothing of what a full disk was short of
    torch.save({"checkpoint_version": CHECKPOINT_VERSION, **content}, whole)
    write_bytes(path, whole.getbuffer())


def read_checkpoint(path: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Read a checkpoint; SemoreError when it is torn, of another version, or of another method, world or data than
    `identity` says."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, OSError, pickle.UnpicklingError) as error:
        raise SemoreError(f"{path} cannot be read ({type(error).__name__}); delete it to start the run anew") from None
    if content.get("checkpoint_version") != CHECKPOINT_VERSION:
        raise SemoreError(
            f"{path} has checkpoint version {content.get('checkpoint_version')}, this code reads {CHECKPOINT_VERSION}; "
            "train a new run with --run NAME"
        )
    for key, expected in identity.items():
        found = content["identity"].get(key)
        if found != expected:
            raise SemoreError(
                f"{path} was written with {key} {found}, this run has {expected}; go back to that, or train a new run "
                "with --run NAME"
            )
    return content


def weights_digest(agent: Learner) -> str:
    """SHA-256 (hex) over every parameter's name and bytes."""
    return state_digest(agent.state_dict())


def state_digest(weights: Mapping[str, Tensor]) -> str:
    """The same of any state_dict, an exported program's too."""
    state = hashlib.sha256()
    for name, value in sorted(weights.items()):
        state.update(name.encode())
        state.update(value.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()


def export_policy(agent: Learner, path: Path, view: Mapping[str, Any]) -> None:
    """Write the acting network as a `torch.export` program with its view; `collect.policies.load_policy` reads it."""
    size = agent.settings.encoder.size
    example = torch.zeros(2, 9, size, size, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=4096)
    agent.cpu()
    acting = PolicyNetwork(agent.backbone, agent.actor_neck, agent.actor).eval()  # a third of an agent's size
    with torch.no_grad():
        program = torch.export.export(acting, (example,), dynamic_shapes=({0: batch},))
    whole = io.BytesIO()  # torch's own writer ends the process when the disk is full
    with warnings.catch_warnings():
        # Channels-last weights are not contiguous, which torch takes for partial views; the round trip is tested.
        warnings.filterwarnings("ignore", message="No complete tensor found")
        torch.export.save(program, whole, extra_files={"view.json": json.dumps(dict(view))})
    write_bytes(path, whole.getbuffer())
    acting.train()
