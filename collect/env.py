"""The Gymnasium environment: a Simulator in, stacked frames, rewards and endings out (method.md §2.3 to §2.6)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import gymnasium
import numpy as np
from numpy.typing import NDArray

from semore.collect.scenarios import scenario_and_weather
from semore.collect.simulator import Control, Simulator, Snapshot
from semore.collect.simulators import make_simulator
from semore.datasets.actions import finite
from semore.datasets.errors import SemoreError
from semore.datasets.reward import IMPULSE_WEIGHT, driving_reward
from semore.datasets.rollouts.schema import DT, MAX_EPISODE_STEPS, RECORDING_SIZE, SEED_SPLITS

WARM_UP_STEPS: Final = 5
COLLISION_LIMIT: Final = 20
STUCK_EVERY: Final = 100
STUCK_SPEED: Final = 0.02
GLITCH_STEPS: Final = 20

Info = dict[str, Any]


@dataclass(frozen=True)
class SimStep:
    """One simulator step as a recorder sees it; units as in datasets.rollouts.schema.STEP_ARRAYS."""

    snapshot: Snapshot
    action: NDArray[np.float32]
    reward: float
    speed: float
    progress: float
    impulse: float
    terminated: bool
    truncated: bool


@dataclass
class EpisodeMetrics:
    """Sums over an episode's simulator steps, whatever the frame skip is (method.md §2.6)."""

    reward: float = 0.0
    distance: float = 0.0
    crash_intensity: float = 0.0
    steer: float = 0.0
    throttle: float = 0.0
    brake: float = 0.0
    steps: int = 0
    ending: str = ""

    def add(self, reward: float, progress: float, impulse: float, control: Control) -> None:
        self.reward += reward
        self.distance += progress
        self.crash_intensity += impulse
        self.steer += abs(control.steer)
        self.throttle += control.throttle
        self.brake += control.brake
        self.steps += 1

    def summary(self) -> dict[str, float | int | str]:
        """Totals of reward, distance (m), crash_intensity (N·s), per-step means of steer, throttle, brake; steps;
        ending."""
        steps = max(self.steps, 1)
        return {
            "reward": self.reward,
            "distance": self.distance,
            "crash_intensity": self.crash_intensity,
            "steer": self.steer / steps,
            "throttle": self.throttle / steps,
            "brake": self.brake / steps,
            "steps": self.steps,
            "ending": self.ending,
        }


def control_of(action: NDArray[np.float32]) -> Control:
    """The control of an action: a0 is the steering; a1 is the throttle where a1 ≥ 0, and minus the brake where a1 < 0
    (method.md §2.3). Values beyond [−1, 1] are clipped."""
    steer, pedal = (min(1.0, max(-1.0, float(value))) for value in action)
    return Control(steer, max(pedal, 0.0), max(-pedal, 0.0))


def lane_speed(snapshot: Snapshot) -> float:
    """v_s, the ego's velocity along its lane's direction in m/s; 0 off the road (method.md §2.4)."""
    lane = snapshot.lane
    return 0.0 if lane is None else snapshot.ego.vx * lane.dx + snapshot.ego.vy * lane.dy


def ending_of(snapshot: Snapshot, steps: int, collisions: int, max_steps: int) -> str:
    """The reason for which the episode ends after `steps` steps, the last `collisions` of which collided; "" if it goes
    on.

    The reasons and their order are those of method.md §2.5; `success` is the only one that truncates."""
    ego = snapshot.ego
    if snapshot.lane is None:
        return "off_road"
    if snapshot.road_ends:
        return "no_waypoints"
    if steps <= GLITCH_STEPS and (ego.vz > 1.0 or ego.z > 0.5):
        return "carla_bug"
    if collisions >= COLLISION_LIMIT:
        return "collisions"
    if steps >= max_steps:
        return "success"
    if steps >= STUCK_EVERY and steps % STUCK_EVERY == 0 and math.hypot(ego.vx, ego.vy) < STUCK_SPEED:
        return "stuck"
    return ""


def _flags(ending: str) -> tuple[bool, bool]:
    """(terminated, truncated): reaching the step limit truncates, every other ending terminates."""
    return ending not in ("", "success"), ending == "success"


def ego_row(snapshot: Snapshot) -> NDArray[np.float32]:
    """The ego's state in the column order of datasets.rollouts.schema.EGO_FIELDS, (17,) float32."""
    ego, lane = snapshot.ego, snapshot.lane
    pose = (ego.x, ego.y, ego.z, ego.yaw, ego.vx, ego.vy, ego.vz)
    control = (ego.control.steer, ego.control.throttle, ego.control.brake)
    if lane is None:
        frame: tuple[float, ...] = (math.nan,) * 7
    else:
        frame = (lane.dx, lane.dy, lane.offset, lane.width, lane.road, lane.lane, lane.s)
    return np.array((*pose, *control, *frame), np.float32)


class DrivingEnv(gymnasium.Env[NDArray[np.uint8], NDArray[np.float32]]):
    """Drive one scenario. Observation (3·stack, size, size) uint8, oldest frame first; action (2,) float32 in [−1, 1].

    One decision lasts `frame_skip` simulator steps of 0.05 s; its reward is their mean. `reset(seed=…)` is the
    episode's seed; without one it is drawn from the training split. `info` carries `metrics` (running totals),
    `ending`, and the privileged `semantic`, `instance`, `depth`, `actors`, `ego`.

    `max_episode_steps` counts simulator steps; `gymnasium.make(…, max_episode_steps=…)` counts decisions, as Gymnasium
    does everywhere (collect.time_limit).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / DT)}  # noqa: RUF012  (Gymnasium's convention)

    def __init__(
        self,
        scenario: str = "JayWalk",
        weather: str = "",
        simulator: str | Simulator = "embedded",
        size: int = RECORDING_SIZE,
        camera: int = RECORDING_SIZE,
        frame_skip: int = 1,
        stack: int = 3,
        reward: str = "published",
        jitter: bool = True,
        max_episode_steps: int = MAX_EPISODE_STEPS,
        render_mode: str | None = None,
    ) -> None:
        if reward not in IMPULSE_WEIGHT:
            raise SemoreError(f"unknown reward {reward!r}; choose one of {', '.join(IMPULSE_WEIGHT)}")
        if frame_skip < 1 or stack < 1 or size > camera:
            raise SemoreError(f"frame_skip {frame_skip} and stack {stack} must be ≥ 1, size {size} ≤ camera {camera}")
        if render_mode not in (None, "rgb_array"):
            raise SemoreError(f"unknown render_mode {render_mode!r}; choose rgb_array or None")
        chosen, self.weather = scenario_and_weather(scenario, weather)
        self.scenario = chosen if jitter else chosen.published_start()
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": 1 / (DT * frame_skip)}  # a picture per decision
        self.simulator = make_simulator(simulator, camera) if isinstance(simulator, str) else simulator
        from semore.collect.observation import observe  # with numba

        self._observe = observe
        self.observation_space = gymnasium.spaces.Box(0, 255, (3 * stack, size, size), np.uint8)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.listener: Callable[[SimStep], None] | None = None
        """Called after every simulator step, the skipped ones too; recorders hang on here."""
        self._size, self._skip, self._reward, self._max_steps = size, frame_skip, reward, max_episode_steps
        self._frames: deque[NDArray[np.uint8]] = deque(maxlen=stack)
        self._snapshot: Snapshot | None = None
        self._metrics = EpisodeMetrics()
        self._collisions = 0

    def limit(self, decisions: int) -> None:
        """From now on, episodes end after so many decisions, in place of `max_episode_steps`."""
        self._max_steps = decisions * self._skip

    @property
    def snapshot(self) -> Snapshot:
        """The world as it is now (privileged); an error before the first reset."""
        if self._snapshot is None:
            raise SemoreError("the environment has not been reset; call reset(seed=...) first")
        return self._snapshot

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], Info]:
        """Start the episode of `seed` and take the five warm-up steps with zero control."""
        super().reset(seed=seed)
        episode_seed = int(self.np_random.integers(SEED_SPLITS["train"].stop)) if seed is None else seed
        self.simulator.reset(self.scenario, self.weather, episode_seed)
        for _ in range(WARM_UP_STEPS):
            self._snapshot = self.simulator.step(Control())
        self._metrics, self._collisions = EpisodeMetrics(), 0
        self._frames.extend([self._frame()] * (self._frames.maxlen or 1))
        return self._observation(), self._info()

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float, bool, bool, Info]:
        """Hold `action` for `frame_skip` simulator steps or until the episode ends; reward is their mean.

        Values beyond [−1, 1] are clipped. What is no pair of finite numbers is a SemoreError, and nothing has moved."""
        if self._metrics.ending:
            raise SemoreError(f"the episode has ended ({self._metrics.ending}); call reset before the next step")
        action = np.clip(finite(action), -1.0, 1.0).astype(np.float32)
        total, taken = 0.0, 0
        while taken < self._skip and not self._metrics.ending:
            total += self._advance(action)
            taken += 1
        self._frames.append(self._frame())
        return self._observation(), total / taken, *_flags(self._metrics.ending), self._info()

    def render(self) -> NDArray[np.uint8]:
        """The camera's picture now, (camera, camera, 3) uint8."""
        return self.snapshot.images.rgb.copy()

    def close(self) -> None:
        self.simulator.close()

    def _advance(self, action: NDArray[np.float32]) -> float:
        control = control_of(action)
        self._snapshot = snapshot = self.simulator.step(control)
        speed = lane_speed(snapshot)
        progress, impulse = speed * DT, snapshot.impulse
        reward = driving_reward(progress, impulse, control.steer, control.brake, self._reward)
        self._collisions = self._collisions + 1 if snapshot.collisions else 0
        metrics = self._metrics
        metrics.add(reward, progress, impulse, control)
        metrics.ending = ending_of(snapshot, metrics.steps, self._collisions, self._max_steps)
        if self.listener is not None:
            self.listener(SimStep(snapshot, action, reward, speed, progress, impulse, *_flags(metrics.ending)))
        return reward

    def _frame(self) -> NDArray[np.uint8]:
        return self._observe(self.snapshot.images.rgb, self._size)

    def _observation(self) -> NDArray[np.uint8]:
        return np.concatenate(self._frames)

    def _info(self) -> Info:
        snapshot = self.snapshot
        images = snapshot.images
        return {
            "metrics": self._metrics.summary(),
            "ending": self._metrics.ending,
            # The snapshot's own arrays, fresh with every step; a listener that keeps any has copied them by now.
            "semantic": images.semantic,
            "instance": images.instance,
            "depth": images.depth,
            "actors": snapshot.actors,
            "ego": ego_row(snapshot),
        }
