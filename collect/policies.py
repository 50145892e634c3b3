"""Policies: the rule-based expert with or without noise, random ones, full throttle, and trained checkpoints."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from semore.collect.camera import Sight
from semore.collect.expert import FAST, Expert
from semore.datasets.actions import finite
from semore.datasets.errors import SemoreError
from semore.extras import require

if TYPE_CHECKING:
    from semore.collect.network_policy import NetworkPolicy

Action = NDArray[np.float32]
Info = Mapping[str, Any]


class Policy(Protocol):
    """Drives a batch of episodes at once. The same seeds and observations give the same actions."""

    def start(self, seeds: Sequence[int]) -> None:
        """Begin a batch: slot i is the episode of seeds[i]."""

    def act(self, slots: Sequence[int], observations: NDArray[np.uint8], infos: Sequence[Info]) -> Action:
        """Actions (B, 2) float32 in [−1, 1] for the live slots; observations (B, 9, S, S) uint8 and the infos of
        DrivingEnv in the same order. Only rule-based policies may look at the infos."""


class SlotPolicy(Protocol):
    """Drives a single episode."""

    def __call__(self, info: Info) -> Action:
        """The next action, (2,) float32."""


class PerSlot:
    """A Policy made of one independent SlotPolicy per episode, each with a generator seeded by its episode."""

    def __init__(self, make: Callable[[np.random.Generator], SlotPolicy]) -> None:
        self._make = make
        self._slots: list[SlotPolicy] = []

    def start(self, seeds: Sequence[int]) -> None:
        self._slots = [self._make(np.random.default_rng([seed, 0xAC7])) for seed in seeds]

    def act(self, slots: Sequence[int], observations: NDArray[np.uint8], infos: Sequence[Info]) -> Action:
        return np.stack([self._slots[slot](info) for slot, info in zip(slots, infos, strict=True)])


class Random:
    """Actions uniform in [−1, 1]², drawn at every decision: the paper's initial steps, and a blind row of the
    tables."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def __call__(self, info: Info) -> Action:
        return self._generator.uniform(-1.0, 1.0, 2).astype(np.float32)


class Wander:
    """Random actions that are held for a few decisions. In half of the episodes they tend forwards, so that it gets
    further than `Random`."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._hold = int(generator.choice([1, 4, 10]))
        self._forwards = generator.random() < 0.5
        self._decision = 0
        self._action = np.zeros(2, np.float32)

    def __call__(self, info: Info) -> Action:
        if self._decision % self._hold == 0:
            action = self._generator.uniform(-1.0, 1.0, 2)
            if self._forwards:
                action[0] *= 0.3
                action[1] = abs(action[1]) if self._generator.random() < 0.7 else action[1]
            self._action = action.astype(np.float32)
        self._decision += 1
        return self._action


class Constant:
    """The same action at every decision."""

    def __init__(self, action: tuple[float, float]) -> None:
        self._action = np.array(action, np.float32)

    def __call__(self, info: Info) -> Action:
        return self._action


def load_policy(path: str | Path, sample: bool = False) -> NetworkPolicy:
    """A trained policy from a run folder (`runs/<run>`) or a `policy.pt2` file, on the CPU.

    The file is a `torch.export` program with its own view settings: no training code is needed to run it.
    SemoreError when there is no such file or it is none of ours.
    """
    require("train", "torch")
    file = _policy_file(path)
    view = load_view(path)  # first: torch logs a traceback of its own for a file that is none of ours
    from semore.collect.network_policy import NetworkPolicy, read_network  # torch takes seconds: rules need none

    return NetworkPolicy(read_network(file), view, float(sample))


def load_view(path: str | Path) -> dict[str, Any]:
    """What a trained policy must be shown (`size`, `stack`, `frame_skip`) and what it was trained for, without loading
    its network. Path and errors are those of `load_policy`."""
    file = _policy_file(path)
    try:
        with zipfile.ZipFile(file) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/extra/view.json"))
            view: dict[str, Any] = json.loads(archive.read(name))
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError) as error:
        raise SemoreError(
            f"{file} is not a policy exported by Semore ({type(error).__name__}); give a run folder or its policy.pt2"
        ) from None
    return view


def _policy_file(path: str | Path) -> Path:
    file = Path(path) / "policy.pt2" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise SemoreError(f"{file} does not exist; train the run first, or give a run folder or policy.pt2 file")
    return file


SHORT_SIGHT: Final = Sight(size=64, pixels=5.0)
"""What `fast_short_sighted_driver` sees: a person within 20 m, a car within 16 m, and nobody beside the picture."""
POLICIES: Final[dict[str, Callable[[], Policy]]] = {
    "driver": lambda: PerSlot(Expert),
    "noisy_driver": lambda: PerSlot(lambda generator: Expert(generator, noise=0.3)),
    "blind_driver": lambda: PerSlot(lambda generator: Expert(generator, careful=False)),
    "fast_driver": lambda: PerSlot(lambda generator: Expert(generator, cruise=FAST)),
    "fast_blind_driver": lambda: PerSlot(lambda generator: Expert(generator, careful=False, cruise=FAST)),
    "fast_short_sighted_driver": lambda: PerSlot(lambda generator: Expert(generator, cruise=FAST, sight=SHORT_SIGHT)),
    "noisy_blind_driver": lambda: PerSlot(lambda generator: Expert(generator, noise=0.3, careful=False)),
    "random": lambda: PerSlot(Random),
    "wander": lambda: PerSlot(Wander),
    "full_throttle": lambda: PerSlot(lambda _: Constant((0.0, 1.0))),
}


def _constant(name: str) -> tuple[float, float]:
    try:
        steer, pedal = finite([float(part) for part in name.removeprefix("constant:").split(",")]).tolist()
    except (ValueError, SemoreError):
        raise SemoreError(f"{name!r}: write constant:STEER,PEDAL with two numbers in [-1, 1]") from None
    return steer, pedal


def make_policy(name: str) -> Policy:
    """The policy called `name`, `constant:STEER,PEDAL`, or `checkpoint:PATH` for a trained policy that samples its
    actions; SemoreError naming the choices otherwise."""
    if name.startswith("checkpoint:"):
        return load_policy(name.removeprefix("checkpoint:"), sample=True)
    if name.startswith("constant:"):
        action = _constant(name)
        return PerSlot(lambda _: Constant(action))
    if name not in POLICIES:
        raise SemoreError(
            f"unknown policy {name!r}; choose one of {', '.join(POLICIES)}, constant:STEER,PEDAL, checkpoint:PATH"
        )
    return POLICIES[name]()
