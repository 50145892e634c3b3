"""Checkpoints (atomic, resumable) and the exported policy file that runs without any training code."""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from datasets.errors import SemoreError
from datasets.files import atomic_file
from train.agent import Agent

CHECKPOINT_VERSION = 3
"""1: before rivals and re-judging; its replay state says too little to go on from. 2: without averaged weights."""


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` atomically with a version mark."""
    with atomic_file(path) as temporary:
        torch.save({"checkpoint_version": CHECKPOINT_VERSION, **content}, temporary)


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


def weights_digest(agent: Agent) -> str:
    """SHA-256 (hex) over every parameter's name and bytes."""
    return state_digest(agent.state_dict())


def state_digest(weights: Mapping[str, Tensor]) -> str:
    """The same of any state_dict, an exported program's too."""
    state = hashlib.sha256()
    for name, value in sorted(weights.items()):
        state.update(name.encode())
        state.update(value.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()


class _Acting(nn.Module):
    """The part of an agent that acts, without critics, heads and targets: a third of its size. Shares its weights."""

    policy = Agent.policy

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self.backbone, self.actor_neck, self.actor = agent.backbone, agent.actor_neck, agent.actor

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return Agent.forward(cast(Agent, self), observation)


def export_policy(agent: Agent, path: Path, view: Mapping[str, Any]) -> None:
    """Write the acting network as a `torch.export` program with its view; `collect.behaviour.load_policy` reads it."""
    size = agent.settings.encoder.size
    example = torch.zeros(2, 9, size, size, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=4096)
    acting = _Acting(agent.cpu()).eval()
    with torch.no_grad():
        program = torch.export.export(acting, (example,), dynamic_shapes=({0: batch},))
    with atomic_file(path) as temporary, warnings.catch_warnings():
        # Channels-last weights are not contiguous, which torch takes for partial views; the round trip is tested.
        warnings.filterwarnings("ignore", message="No complete tensor found")
        # torch.export insists on its own suffix; the atomic rename removes ours again.
        archive = temporary.with_name(temporary.name + ".pt2")
        torch.export.save(program, archive, extra_files={"view.json": json.dumps(dict(view))})
        archive.replace(temporary)
    acting.train()
