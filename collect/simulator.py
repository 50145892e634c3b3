"""The Simulator protocol that every world implements: `reset` and `step` return a Snapshot.

The worlds are `embedded` and `carla`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from semore.collect.scenarios import Scenario, Weather
from semore.datasets.actions import finite
from semore.datasets.errors import SemoreError


class EpisodeLost(SemoreError):
    """A simulator's server or client failed: the running episode is lost, and `reset` may begin another.

    It is raised by `reset`, `step` and a snapshot's `draw`; the message says what happened last."""


@dataclass(frozen=True)
class Control:
    """The control of the ego: steer in [−1, 1] (right is positive), throttle and brake in [0, 1]."""

    steer: float = 0.0
    throttle: float = 0.0
    brake: float = 0.0

    def clipped(self) -> Control:
        """The same within these ranges; SemoreError for what is no finite number."""
        finite((self.steer, self.throttle, self.brake), (3,), "a control (steer, throttle, brake)")
        return Control(
            min(1.0, max(-1.0, float(self.steer))),
            min(1.0, max(0.0, float(self.throttle))),
            min(1.0, max(0.0, float(self.brake))),
        )


@dataclass(frozen=True)
class Images:
    """One camera pass: rgb (H,W,3) uint8, semantic (H,W) uint8 of SemanticClass, instance (H,W) uint16 actor ids
    (0 = no actor), depth (H,W) float32 metres along the ray (1e6 in the sky)."""

    rgb: NDArray[np.uint8]
    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint16]
    depth: NDArray[np.float32]


@dataclass(frozen=True)
class Lane:
    """The driving lane under the ego: unit travel direction, offset from its centre (m, positive to the right of
    travel), width (m), OpenDRIVE road and lane id, s (m)."""

    dx: float
    dy: float
    offset: float
    width: float
    road: int
    lane: int
    s: float


@dataclass(frozen=True)
class Collision:
    """One collision event of the step: ‖impulse‖ in N·s, the other actor's id (0 = scenery) and its name."""

    impulse: float
    other: int
    name: str


@dataclass(frozen=True)
class Ego:
    """Pose (m, rad), velocity (m/s), the control applied in the step; axes: datasets.rollouts.schema.ACTOR_FIELDS."""

    x: float
    y: float
    z: float
    yaw: float
    vx: float
    vy: float
    vz: float
    control: Control


@dataclass(frozen=True)
class Snapshot:
    """The world after one step. Arrays are fresh and belong to the receiver; `actors` (A, 14) float32 has the columns
    of ACTOR_FIELDS and keeps its row order within an episode. Privileged: everything but `images.rgb`.

    `lane` is None when the ego stands on no driving lane; `road_ends` when none lies ahead.
    Pictures are drawn when first asked for, so steps nobody looks at cost no rendering.
    """

    tick: int
    ego: Ego
    lane: Lane | None
    road_ends: bool
    collisions: tuple[Collision, ...]
    actors: NDArray[np.float32]
    draw: Callable[[], Images]

    @cached_property
    def images(self) -> Images:
        """The camera's pictures at this moment; later steps do not change them."""
        return self.draw()

    @property
    def impulse(self) -> float:
        """Sum of the step's collision impulses, N·s."""
        return sum(collision.impulse for collision in self.collisions)


class Simulator(Protocol):
    """A driving world in synchronous steps of 0.05 s. The same scenario, weather, seed and controls give the same
    snapshots."""

    @property
    def name(self) -> str:
        """`embedded` or `carla`."""

    @property
    def version(self) -> str:
        """Version of the world's physics."""

    @property
    def renderer_version(self) -> str:
        """Version of its pictures: a policy or mask holds for the renderer it was made with."""

    def reset(self, scenario: Scenario, weather: Weather, seed: int) -> Snapshot:
        """Start an episode: actors placed, no warm-up steps taken."""

    def step(self, control: Control) -> Snapshot:
        """Advance 0.05 s under `control`."""

    def close(self) -> None:
        """Give back whatever the simulator holds; harmless twice."""


class Restorable(Simulator, Protocol):
    """A Simulator whose running episode can be saved and restored, also in another process (`embedded`)."""

    def save(self) -> Any:
        """All of the episode's state, picklable; later steps do not change it."""

    def restore(self, state: Any) -> Snapshot:
        """Go on from a saved state: the same controls then give the same snapshots."""


def simulator_identity(simulator: Simulator) -> dict[str, str]:
    """Name and versions of a simulator, as the episode attributes that say what a recording holds for."""
    return {
        "simulator": simulator.name,
        "simulator_version": simulator.version,
        "renderer_version": simulator.renderer_version,
    }
