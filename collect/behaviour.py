"""Behaviour policies: a rule-based driver with or without noise, random ones, full throttle, trained checkpoints."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.errors import SemoreError
from datasets.schema import ACTOR_COLUMN as ACTOR
from datasets.schema import EGO_COLUMN as EGO

Action = NDArray[np.float32]
Info = Mapping[str, Any]


class Policy(Protocol):
    """Drives a batch of episodes at once. Same seeds and observations: same actions."""

    def start(self, seeds: Sequence[int]) -> None:
        """Begin a batch: slot i is the episode of seeds[i]."""

    def act(self, slots: Sequence[int], observations: NDArray[np.uint8], infos: Sequence[Info]) -> Action:
        """Actions (B, 2) float32 in [−1, 1] for the live slots; observations (B, 9, S, S) uint8 and the infos of
        DrivingEnv in the same order. Only rule-based policies may look at the infos."""


class SlotPolicy(Protocol):
    """Drives one episode."""

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


class Driver:
    """Rule-based, privileged: keeps the lane's centre, brakes for whoever is or will be in its path.

    With `noise` > 0 the target speed is drawn per episode and coloured noise of that scale is added to the action.
    """

    def __init__(self, generator: np.random.Generator, noise: float = 0.0) -> None:
        self._generator = generator
        self._scale = noise * generator.random() if noise else 0.0
        self._cruise = generator.uniform(8.0, 23.0) if noise else 16.0
        self._noise = np.zeros(2)

    def __call__(self, info: Info) -> Action:
        ego = info["ego"]
        if not math.isfinite(ego[EGO["lane_dx"]]):
            return np.array([0.0, -1.0], np.float32)
        dx, dy, offset, heading = _own_lane(ego)
        speed = math.hypot(ego[EGO["vx"]], ego[EGO["vy"]])
        target = min(self._cruise, _safe_speed(ego, info["actors"], dx, dy, offset, speed))
        pedal = np.clip(0.6 * (target - speed), -1.0, 1.0)
        steer = np.clip(-0.10 * offset - (1.2 if speed < 12.0 else 1.0) * heading, -0.6, 0.6)
        self._noise = 0.85 * self._noise + self._scale * self._generator.normal(size=2) * (0.25, 1.0)
        return np.clip(np.array([steer, pedal]) + self._noise, -1.0, 1.0).astype(np.float32)


def _own_lane(ego: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Direction, offset and heading error relative to the lane the driver should be in; facing an oncoming lane,
    that is the next one to the right."""
    dx, dy = float(ego[EGO["lane_dx"]]), float(ego[EGO["lane_dy"]])
    offset = float(ego[EGO["lane_offset"]])
    heading = _wrap(float(ego[EGO["yaw"]]) - math.atan2(dy, dx))
    if abs(heading) > math.pi / 2:
        dx, dy, heading = -dx, -dy, _wrap(heading + math.pi)
        offset = -offset - float(ego[EGO["lane_width"]])
    return dx, dy, offset, heading


def _safe_speed(
    ego: NDArray[np.float32], actors: NDArray[np.float32], dx: float, dy: float, offset: float, speed: float
) -> float:
    """Highest speed (m/s) at which nobody ahead gets hit: walkers are waited for, vehicles followed."""
    if not len(actors):
        return math.inf
    rx, ry = actors[:, ACTOR["x"]] - ego[EGO["x"]], actors[:, ACTOR["y"]] - ego[EGO["y"]]
    vx, vy = actors[:, ACTOR["vx"]], actors[:, ACTOR["vy"]]
    ahead, side = rx * dx + ry * dy, ry * dx - rx * dy + offset  # side: metres right of the lane's centre
    along, across = vx * dx + vy * dy, vy * dx - vx * dy
    gap = ahead - actors[:, ACTOR["length"]] / 2 - 2.4
    arrival = np.maximum(gap, 0.1) / max(speed, 2.0)
    reach = 1.1 + actors[:, ACTOR["width"]] / 2
    in_path = (np.abs(side) < reach) | (np.abs(side + across * arrival) < reach)
    matters = in_path & (gap > -1.0) & (gap < 6.0 + 0.5 * speed + speed**2 / 9.0) & (actors[:, ACTOR["down"]] == 0)
    # Creeping while there is room: standing still at a hundredth step counts as stuck.
    creep = np.where(gap > 1.0, 0.3, 0.0)
    allowed = np.maximum(np.maximum(along, 0.0) + 0.4 * (gap - 5.0), creep)
    return float(np.min(allowed, initial=math.inf, where=matters))


def _wrap(angle: float) -> float:
    return (angle + math.pi) % (2.0 * math.pi) - math.pi


class Random:
    """Uniform in [−1, 1]², drawn anew every decision: the paper's initial steps and the blind row of the tables."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def __call__(self, info: Info) -> Action:
        return self._generator.uniform(-1.0, 1.0, 2).astype(np.float32)


class Wander:
    """Random actions held for a few decisions, half the episodes leaning forwards: gets further than `Random`."""

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
    """The same action always, whatever the world looks like."""

    def __init__(self, action: tuple[float, float]) -> None:
        self._action = np.array(action, np.float32)

    def __call__(self, info: Info) -> Action:
        return self._action


class NetworkPolicy:
    """A trained policy; `sample` draws from its distribution with a generator per episode, else the mean acts.

    `network` maps observations (B, 9, S, S) uint8 to means and log standard deviations (B, 2) before tanh, and to the
    student's mask (B, g, g) in [0, 1].
    """

    def __init__(
        self,
        network: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
        view: Mapping[str, Any],
        sample: bool = False,
    ) -> None:
        self.view = view
        """What it must be shown: `size` (pixels), `stack`, `frame_skip`; and where it comes from."""
        self._network, self._sample = network, sample
        self._generators: list[np.random.Generator] = []

    def start(self, seeds: Sequence[int]) -> None:
        self._generators = [np.random.default_rng([seed, 0x5AC]) for seed in seeds]

    def act(self, slots: Sequence[int], observations: NDArray[np.uint8], infos: Sequence[Info]) -> Action:
        with torch.inference_mode():
            mean, log_std, _ = self._network(torch.from_numpy(observations))
            if self._sample:
                noise = np.stack([self._generators[slot].standard_normal(2) for slot in slots]).astype(np.float32)
                mean = mean + log_std.exp() * torch.from_numpy(noise).to(mean.device)
            return torch.tanh(mean).float().cpu().numpy()

    def student_mask(self, observations: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Where the policy sees key objects: (B, g, g) float32 in [0, 1]."""
        with torch.inference_mode():
            return self._network(torch.from_numpy(observations))[2].float().cpu().numpy()


def load_policy(path: str | Path, sample: bool = False) -> NetworkPolicy:
    """A trained policy from a run folder (`runs/<run>`) or a `policy.pt2` file, on the CPU.

    The file is a `torch.export` program with its own view settings: no training code is needed to run it.
    SemoreError when there is no such file or it is none of ours.
    """
    file = _policy_file(path)
    view = load_view(path)  # first: torch logs a traceback of its own for a file that is none of ours
    try:
        program = torch.export.load(file)
    except (RuntimeError, ValueError, KeyError) as error:
        raise SemoreError(f"{file} is not a policy exported by Semore ({type(error).__name__}: {error})") from None
    return NetworkPolicy(program.module(), view, sample)


def load_view(path: str | Path) -> dict[str, Any]:
    """What a trained policy must be shown (`size`, `stack`, `frame_skip`) and what it was trained for, without loading
    its network; path and errors as for `load_policy`."""
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
        raise SemoreError(f"{file} does not exist; train first (`make train`) or give a run folder or policy.pt2 file")
    return file


BEHAVIOURS: Final[dict[str, Callable[[], Policy]]] = {
    "driver": lambda: PerSlot(Driver),
    "noisy_driver": lambda: PerSlot(lambda generator: Driver(generator, noise=0.3)),
    "random": lambda: PerSlot(Random),
    "wander": lambda: PerSlot(Wander),
    "full_throttle": lambda: PerSlot(lambda _: Constant((0.0, 1.0))),
}


def make_policy(name: str) -> Policy:
    """The behaviour called `name`, or `checkpoint:PATH` for a trained policy that samples its actions."""
    if name.startswith("checkpoint:"):
        return load_policy(name.removeprefix("checkpoint:"), sample=True)
    if name not in BEHAVIOURS:
        raise SemoreError(f"unknown behaviour {name!r}; choose one of {', '.join(BEHAVIOURS)} or checkpoint:PATH")
    return BEHAVIOURS[name]()
