"""Checkpoints (atomic, resumable) and the exported policy file that runs without any training code."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import pickle
import warnings
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from semore.datasets.atomic_io import write_bytes
from semore.datasets.errors import SemoreError
from semore.train.learner import Learner, PolicyNetwork

CHECKPOINT_VERSION: Final = 4
"""1: before rivals and re-judging; its replay state says too little to go on from. 2: without averaged weights. 3:
before the auxiliaries and the parts of a run's course had modules of their own."""


class Part(NamedTuple):
    """What a checkpoint keeps of one part of a run: how to ask for its state, and how to bring it back."""

    state: Callable[[], Any]
    restore: Callable[[Any], None]


class Checkpoint:
    """The files from which a run goes on: last.ckpt, with the state of every part of it by name, and best.ckpt."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """`identity`: in what a checkpoint must agree with this run to be taken up; errors as of `read_checkpoint`."""
        self._folder, self._identity = folder, identity
        path = folder / "last.ckpt"
        self.found = read_checkpoint(path, identity, (CHECKPOINT_VERSION,)) if path.exists() else None
        """What an earlier process of the run has left."""

    @property
    def updates(self) -> int:
        """How many updates are done, of those that need not be done again."""
        return int(self.found["agent"]["updates"]) if self.found else 0

    def save(self, parts: Mapping[str, Part]) -> None:
        """Write the state of the parts."""
        state = {name: part.state() for name, part in parts.items()}
        save_checkpoint(self._folder / "last.ckpt", {"identity": self._identity, **state})

    def save_best(self, agent: Mapping[str, Any]) -> None:
        """Write the best agent so far: its `weights`, `updates` and `reward`."""
        save_checkpoint(self._folder / "best.ckpt", {"identity": self._identity, "agent": dict(agent)})

    def restore(self, parts: Mapping[str, Part]) -> None:
        """Bring the parts, in their order, to what was found."""
        assert self.found is not None
        for name, part in parts.items():
            part.restore(self.found[name])


def parts_of(agent: Learner) -> dict[str, Part]:
    """An agent's weights and optimisers as parts of a checkpoint."""

    def state() -> dict[str, Any]:
        return {"weights": agent.state_dict(), "updates": agent.updates}

    def restore(state: dict[str, Any]) -> None:
        agent.load_state_dict(state["weights"])
        agent.updates = int(state["updates"])

    def restore_optimizers(states: list[dict[str, Any]]) -> None:
        for optimizer, saved in zip(agent.optimizers, states, strict=True):
            # Whether steps are recorded on a GPU is nothing that a run keeps: it may go on without one.
            groups = [{**group, "capturable": False} for group in saved["param_groups"]]
            optimizer.load_state_dict({**saved, "param_groups": groups})

    return {
        "agent": Part(state, restore),
        "optimizers": Part(lambda: [optimizer.state_dict() for optimizer in agent.optimizers], restore_optimizers),
    }


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` atomically with a version mark; SemoreError when there is no room for it."""
    whole = io.BytesIO()  # torch's own writer says nothing of what a full disk was short of
    torch.save({"checkpoint_version": CHECKPOINT_VERSION, **content}, whole)
    write_bytes(path, whole.getbuffer())


def read_checkpoint(
    path: Path, identity: Mapping[str, Any], versions: Container[int] = (3, CHECKPOINT_VERSION)
) -> dict[str, Any]:
    """Read a checkpoint; SemoreError when it is torn, of another version, or of another method, world or data than
    `identity` says."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, OSError, pickle.UnpicklingError) as error:
        raise SemoreError(f"{path} cannot be read ({type(error).__name__}); delete it to start the run anew") from None
    if content.get("checkpoint_version") not in versions:
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
    # A third of an agent's size, and with weights of its own: a view would be written with all that it is a view of.
    acting = copy.deepcopy(PolicyNetwork.of(agent)).eval()
    with torch.no_grad():
        program = torch.export.export(acting, (example,), dynamic_shapes=({0: batch},))
    whole = io.BytesIO()  # torch's own writer ends the process when the disk is full
    with warnings.catch_warnings():
        # Channels-last weights are not contiguous, which torch takes for partial views; the round trip is tested.
        warnings.filterwarnings("ignore", message="No complete tensor found")
        torch.export.save(program, whole, extra_files={"view.json": json.dumps(dict(view))})
    write_bytes(path, whole.getbuffer())
    acting.train()
