"""Shipped policies and their cards: what a policy is, what it reached, and whether its file is unchanged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from semore.collect.simulator import simulator_identity
from semore.collect.simulators import make_simulator
from semore.datasets.atomic_io import read_json
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import RECORDING_SIZE
from semore.datasets.settings import from_dict

FOLDER: Final = "checkpoints"
"""Where the repository keeps them: `<scenario>.pt2` and its card, `<scenario>.json`."""
LARGEST: Final = 5_000_000
"""Bytes of a checkpoint at most; it is kept in the repository."""


@dataclass(frozen=True)
class Tested:
    """What the policy reached on test seeds: mean reward, its standard deviation over episodes, its 95% interval."""

    first_seed: int
    episodes: int
    finished: int
    """Episodes that lasted their full time."""
    reward: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class Card:
    """What is known of a shipped policy."""

    scenario: str
    weather: str
    method: str
    preset: str
    train_seed: int
    update: int
    """The update whose weights these are: best on validation seeds."""
    reward: str
    """The reward it was trained on and is measured by: published or safety."""
    streams: str
    """dual: it sees motion in a stream of its own; single: in stacked frames."""
    teaches_mask: bool
    """Whether a loss has taught it a mask."""
    test: Tested
    demo_seed: int
    """An eventful test seed, which `demo` drives."""
    settings_digest: str
    """Of all training settings that tell one result from another."""
    code: str
    """Version of the code that trained it."""
    world: dict[str, str]
    """Simulator, its version and its renderer's: the policy holds for those."""
    weights_sha256: str
    """Over the names and bytes of all weights."""
    file_sha256: str


@dataclass(frozen=True)
class Shipped:
    """A checkpoint that is what its card says."""

    path: Path
    card: Card


def installed_world(simulator: str = "embedded") -> dict[str, str]:
    """Name and versions of the world that this code drives in."""
    return simulator_identity(make_simulator(simulator, RECORDING_SIZE))


def in_words(world: Mapping[str, str]) -> str:
    """A world's name and versions as people say them."""
    return f"{world['simulator']} {world['simulator_version']} with renderer {world['renderer_version']}"


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights_sha256(path: Path) -> str:
    """Hex digest over every weight's name and bytes of an exported policy."""
    import torch  # cards are read without it

    from semore.train.checkpoint import state_digest

    return state_digest(torch.export.load(path).state_dict)


def shipped_scenarios(folder: Path) -> list[str]:
    """Those that have a card in the folder."""
    return sorted(path.stem for path in folder.glob("*.json"))


def open_shipped(folder: Path, scenario: str) -> Shipped:
    """The scenario's checkpoint. SemoreError when there is none, when its file is not what its card says, or when it
    was trained in another world than this code's."""
    path, place = folder / f"{scenario}.pt2", folder / f"{scenario}.json"
    if not (path.exists() and place.exists()):
        there = ", ".join(shipped_scenarios(folder)) or "nothing"
        raise SemoreError(
            f"{folder} has no checkpoint of {scenario} (it has: {there}); `git checkout {folder}` brings lost files "
            "back, `python -m study.publish runs/<run>` makes one of a trained run"
        )
    card = from_dict(Card, read_json(place))
    found = sha256(path)
    if found != card.file_sha256:
        raise SemoreError(
            f"{path} was changed or is torn: its sha256 is {found[:12]}…, {place.name} says {card.file_sha256[:12]}…; "
            f"`git checkout {folder}` brings it back"
        )
    world = installed_world(card.world["simulator"])
    if world != card.world:
        raise SemoreError(
            f"{path} was trained in the world {in_words(card.world)}, installed is {in_words(world)}, whose pictures "
            "or physics it does not know; train and evaluate a run anew, then publish it: "
            "`python -m study.publish runs/<run>`"
        )
    return Shipped(path, card)
