"""The Gymnasium environment: reward, endings and views against hand-computed cases in a scripted world."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from semore.collect.env import DrivingEnv, SimStep, control_of, lane_speed
from semore.collect.recording import EpisodeRecorder
from semore.collect.scenarios import Scenario, Weather
from semore.collect.simulator import Collision, Control, Ego, Images, Lane, Simulator, Snapshot
from semore.datasets.errors import SemoreError
from semore.datasets.resize import shrink
from semore.datasets.reward import driving_reward
from semore.datasets.rollouts.schema import ACTOR_FIELDS, EGO_COLUMN, SEED_SPLITS

SIZE = 8
WARM_UP = 5
EAST = Lane(1.0, 0.0, 0.25, 4.0, 12, -1, 30.0)
RIGHT = np.array([1.0, 0.0], np.float32)
COAST = np.zeros(2, np.float32)


class ScriptedSimulator:
    """Implements Simulator: after the warm-up, step k (from 1) is the ego state `script[k]`, cruising where silent.

    A state has vx, vy, vz, z, lane, ends and impulses. The picture of tick n is n everywhere.
    """

    name, version, renderer_version = "scripted", "1", "1"

    def __init__(self, script: dict[int, dict[str, Any]] | None = None, warm_up: dict[str, Any] | None = None) -> None:
        self.script, self.warm_up = script or {}, warm_up or {}
        self.controls: list[Control] = []
        self.resets: list[tuple[str, str, int]] = []
        self.closed = 0

    def reset(self, scenario: Scenario, weather: Weather, seed: int) -> Snapshot:
        self.resets.append((scenario.name, weather.name, seed))
        self.controls.clear()
        return self._snapshot({}, Control())

    def step(self, control: Control) -> Snapshot:
        self.controls.append(control)
        step = len(self.controls) - WARM_UP
        return self._snapshot(self.warm_up if step <= 0 else self.script.get(step, {}), control)

    def close(self) -> None:
        self.closed += 1

    def _snapshot(self, state: dict[str, Any], control: Control) -> Snapshot:
        tick = len(self.controls)
        asked = {"vx": 10.0, "vy": 0.0, "vz": 0.0, "z": 0.0, "lane": EAST, "ends": False, "impulses": ()} | state
        ego = Ego(float(tick), 0.0, asked["z"], 0.0, asked["vx"], asked["vy"], asked["vz"], control)
        hits = tuple(Collision(impulse, 1, "wall") for impulse in asked["impulses"])
        actors = np.full((2, len(ACTOR_FIELDS)), tick, np.float32)
        return Snapshot(tick, ego, asked["lane"], asked["ends"], hits, actors, lambda: _picture(tick))


def _picture(tick: int) -> Images:
    return Images(
        np.full((SIZE, SIZE, 3), tick % 256, np.uint8),
        np.full((SIZE, SIZE), tick % 14, np.uint8),
        np.full((SIZE, SIZE), tick, np.uint16),
        np.full((SIZE, SIZE), tick, np.float32),
    )


def scripted(script: dict[int, dict[str, Any]] | None = None, **options: Any) -> DrivingEnv:
    """An environment in a scripted world, already reset."""
    simulator: Simulator = ScriptedSimulator(script, options.pop("warm_up", None))
    env = DrivingEnv(simulator=simulator, **{"size": SIZE, "camera": SIZE} | options)
    env.reset(seed=3)
    return env


def until_end(env: DrivingEnv, action: np.ndarray = COAST, most: int = 700) -> tuple[int, bool, bool, dict[str, Any]]:
    """Decisions taken until the episode ends, its flags and its last info."""
    for decision in range(1, most + 1):
        _, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            return decision, terminated, truncated, info
    raise AssertionError(f"no end within {most} decisions")


# Reward and action


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ((0.5, 0.25), Control(0.5, 0.25, 0.0)),
        ((-1.0, -0.75), Control(-1.0, 0.0, 0.75)),
        ((0.0, 0.0), Control(0.0, 0.0, 0.0)),
        ((-3.0, 7.0), Control(-1.0, 1.0, 0.0)),
        ((1.5, -1.5), Control(1.0, 0.0, 1.0)),
    ],
)
def test_an_action_is_a_steer_and_one_pedal(action, expected):
    assert control_of(np.array(action, np.float32)) == expected
    env = scripted()
    env.step(np.array(action, np.float32))
    assert env.simulator.controls[-1] == expected


@pytest.mark.parametrize(
    ("action", "named"),
    [
        ((np.nan, 1.0), r"an action \(steer, pedal\) must be finite numbers, not \[nan, 1.0\]"),
        ((0.0, np.inf), r"finite numbers, not \[0.0, inf\]"),
        ((-np.inf, 0.0), r"finite numbers, not \[-inf, 0.0\]"),
        (0.5, r"of shape \(2,\), not of shape \(\)"),
        ((0.5,), r"not of shape \(1,\)"),
        ((0.5, 0.5, 0.5), r"not of shape \(3,\)"),
        (((0.5, 0.5),), r"not of shape \(1, 2\)"),
        (((0.5, 0.5), (0.5,)), "must be finite numbers, not"),
        ("left", "must be finite numbers, not 'left'"),
        (None, r"not of shape \(\)"),
        ((None, 1.0), r"not \[nan, 1.0\]"),
    ],
)
def test_what_is_no_action_is_refused_and_nothing_moves(action, named):
    env, heard = scripted(), []
    env.listener = heard.append
    for wrong in (action, np.array(action, np.float32)) if "shape" in named and action else (action,):
        with pytest.raises(SemoreError, match=named):
            env.step(wrong)
    assert (len(env.simulator.controls), heard, env._metrics.steps) == (WARM_UP, [], 0)
    env.step(COAST)
    assert [step.action.tolist() for step in heard] == [[0.0, 0.0]]


@pytest.mark.parametrize("action", [[0.25, -1], (np.float64(0.25), -7.0), np.array([0.25, -1.0]), np.array([0, 1])])
def test_an_action_may_come_in_any_kind_of_number(action):
    env, heard = scripted(), []
    env.listener = heard.append
    env.step(action)
    assert heard[0].action.dtype == np.float32
    assert heard[0].action.tolist() == np.clip(np.float32(action), -1, 1).tolist()


@pytest.mark.parametrize(
    ("state", "action", "expected"),
    [
        ({"vx": 10.0}, (0.0, 1.0), 0.5),  # 10 m/s · 0.05 s; throttle is free
        ({"vx": 10.0}, (0.5, 0.0), 0.45),  # − 0.1·0.5
        ({"vx": 10.0}, (-0.5, 0.0), 0.45),  # |steer|
        ({"vx": 10.0}, (0.0, -0.5), 0.45),  # − 0.1·0.5 brake
        ({"vx": 10.0}, (-5.0, -5.0), 0.3),  # clipped before it is charged
        ({"vx": -4.0}, (0.0, 0.0), -0.2),  # backwards
        ({"vx": 3.0, "vy": 4.0, "lane": Lane(0.6, 0.8, 0.0, 4.0, 12, -1, 0.0)}, (0.0, 0.0), 0.25),  # 5 m/s along
        ({"vx": 0.0, "vy": 9.0}, (0.0, 0.0), 0.0),  # across the lane
        ({"vx": 10.0, "lane": None}, (0.5, -1.0), -0.15),  # no lane: no progress
        ({"vx": 10.0, "impulses": (100.0, 50.0)}, (0.0, 0.0), 0.35),  # 0.001 · 150
        ({"vx": 2.0, "impulses": (3000.0,)}, (-0.25, -0.5), -2.975),  # 0.1 − 3 − 0.05 − 0.025
    ],
)
def test_reward_of_a_step(state, action, expected):
    reward = scripted({1: state}).step(np.array(action, np.float32))[1]
    assert isinstance(reward, float)
    assert reward == pytest.approx(expected, abs=1e-9)


def test_safety_weighs_impulses_ten_times_and_nothing_else():
    hit, action = {1: {"vx": 10.0, "impulses": (200.0,)}}, np.array([0.5, -0.5], np.float32)
    published, safety = (scripted(hit, reward=kind).step(action)[1] for kind in ("published", "safety"))
    assert published == pytest.approx(0.5 - 0.2 - 0.1)
    assert safety == pytest.approx(0.5 - 2.0 - 0.1)
    assert scripted(reward="safety").step(action)[1] == scripted(reward="published").step(action)[1]
    with pytest.raises(SemoreError, match=r"'kind'.*published, safety"):
        DrivingEnv(simulator=ScriptedSimulator(), reward="kind")


def test_reward_of_arrays_is_that_of_each_step():
    rng = np.random.default_rng(0)
    progress, impulse, steer, brake = rng.normal(size=(4, 9))
    whole = driving_reward(progress, impulse, steer, brake, "safety")
    assert whole.tolist() == [
        driving_reward(*map(float, row), "safety") for row in zip(progress, impulse, steer, brake, strict=True)
    ]


def test_lane_speed_without_a_lane_is_nothing():
    env = scripted({1: {"lane": None, "vx": 8.0}})
    assert lane_speed(env.snapshot) == 10.0
    env.step(COAST)
    assert lane_speed(env.snapshot) == 0.0


# Endings

HIT = {"impulses": (1.0,)}
STILL = {"vx": 0.0}


@pytest.mark.parametrize(
    ("script", "ending", "steps"),
    [
        ({7: {"lane": None}}, "off_road", 7),
        ({7: {"ends": True}}, "no_waypoints", 7),
        ({7: {"lane": None, "ends": True, "impulses": (1.0,)}}, "off_road", 7),
        ({1: {"vz": 1.01}}, "carla_bug", 1),
        ({20: {"vz": 1.01}}, "carla_bug", 20),
        ({20: {"z": 0.51}}, "carla_bug", 20),
        ({19: {"vz": 1.0, "z": 0.5}, 21: {"vz": 9.0}, 22: {"z": 9.0}}, "success", 500),  # at the limits, and too late
        (dict.fromkeys(range(11, 31), HIT), "collisions", 30),  # the 20th in a row
        (dict.fromkeys(range(11, 30), HIT), "success", 500),  # 19 are not enough
        (dict.fromkeys([*range(1, 20), *range(21, 41)], HIT), "collisions", 40),  # a free step starts anew
        (dict.fromkeys(range(1, 400, 2), HIT), "success", 500),
        ({100: STILL}, "stuck", 100),
        ({100: {"vx": 0.0, "vy": 0.0199}}, "stuck", 100),
        ({100: {"vx": 0.0, "vy": -0.02}, 300: STILL}, "stuck", 300),  # 0.02 m/s is moving, sideways too
        (dict.fromkeys([*range(1, 100), *range(101, 200)], STILL), "success", 500),  # moves at the hundreds
        ({500: STILL}, "success", 500),
        ({500: HIT}, "success", 500),
        (dict.fromkeys(range(481, 501), HIT), "collisions", 500),
        ({500: {"lane": None}}, "off_road", 500),
        ({}, "success", 500),
    ],
)
def test_endings(script, ending, steps):
    decision, terminated, truncated, info = until_end(scripted(script))
    assert (info["ending"], decision, info["metrics"]["steps"]) == (ending, steps, steps)
    assert (terminated, truncated) == (ending != "success", ending == "success")


def test_a_run_of_collisions_does_not_reach_into_the_next_episode():
    env = scripted(dict.fromkeys(range(1, 12), HIT), max_episode_steps=11)
    for _ in range(3):
        assert until_end(env)[3]["ending"] == "success"
        env.reset(seed=3)


def test_stuck_needs_a_hundred_steps_and_gives_way_to_the_limit():
    assert until_end(scripted(dict.fromkeys(range(1, 600), STILL), max_episode_steps=100))[3]["ending"] == "success"
    assert until_end(scripted(dict.fromkeys(range(1, 600), STILL), max_episode_steps=101))[3]["ending"] == "stuck"
    assert until_end(scripted(dict.fromkeys(range(1, 600), STILL), max_episode_steps=60))[0] == 60


def test_a_step_after_the_end_is_one_clear_error():
    env = scripted({2: {"lane": None}})
    until_end(env)
    for _ in range(2):
        with pytest.raises(SemoreError, match="ended \\(off_road\\); call reset"):
            env.step(COAST)
    assert len(env.simulator.controls) == WARM_UP + 2
    env.reset(seed=4)
    env.step(COAST)


def test_nothing_works_before_the_first_reset():
    env = DrivingEnv(simulator=ScriptedSimulator(), size=SIZE, camera=SIZE)
    with pytest.raises(SemoreError, match="reset"):
        _ = env.snapshot
    with pytest.raises(SemoreError, match="reset"):
        env.render()


# Reset, frames and frame skip


def test_reset_takes_five_idle_steps_and_counts_none():
    env = scripted(warm_up={"impulses": (500.0,), "vz": 9.0, "lane": None, "vx": 0.0})
    assert env.simulator.controls == [Control(0.0, 0.0, 0.0)] * 5
    _, info = env.reset(seed=11)
    assert env.simulator.resets == [("JayWalk", "hard_high_light", 3), ("JayWalk", "hard_high_light", 11)]
    totals = {"reward": 0.0, "distance": 0.0, "crash_intensity": 0.0, "steer": 0.0, "throttle": 0.0, "brake": 0.0}
    assert info["metrics"] == totals | {"steps": 0, "ending": ""}
    assert info["ending"] == ""
    assert info["ego"][EGO_COLUMN["x"]] == 5.0
    assert np.isnan(info["ego"][[EGO_COLUMN["lane_dx"], EGO_COLUMN["s"]]]).all()
    env.step(COAST)
    assert env._metrics.steps == 1


def test_a_seedless_reset_draws_from_the_training_split_and_repeats_after_a_seed():
    env = scripted()

    def drawn() -> list[int]:
        env.reset(seed=5)
        for _ in range(20):
            env.reset()
        return [seed for _, _, seed in env.simulator.resets[-20:]]

    first = drawn()
    assert first == drawn()
    assert len(set(first)) == 20
    assert all(seed in SEED_SPLITS["train"] for seed in first)


def values(observation: np.ndarray) -> list[int]:
    """The picture number of each of the stacked frames."""
    assert observation.shape[1:] == (SIZE, SIZE)
    assert observation.dtype == np.uint8
    frames = observation.reshape(-1, 3 * SIZE * SIZE)
    assert (frames == frames[:, :1]).all()
    return frames[:, 0].tolist()


def test_the_stack_is_oldest_first_and_starts_with_the_first_frame_thrice():
    env = scripted()
    for _ in range(2):
        assert values(env.reset(seed=1)[0]) == [5, 5, 5]
        assert [values(env.step(COAST)[0]) for _ in range(4)] == [[5, 5, 6], [5, 6, 7], [6, 7, 8], [7, 8, 9]]


def test_frame_skip_stacks_decisions_averages_rewards_and_sums_metrics():
    script = {1: {"vx": 10.0}, 2: {"vx": 20.0, "impulses": (100.0,)}, 3: {"vx": -6.0}}
    env = scripted(script, frame_skip=3)
    observation, reward, *_, info = env.step(np.array([0.5, -0.25], np.float32))
    assert values(observation) == [5, 5, 8]
    assert reward == pytest.approx((0.5 + (1.0 - 0.1) - 0.3) / 3 - 0.05 - 0.025)
    metrics = info["metrics"]
    assert metrics["reward"] == pytest.approx(3 * reward)
    assert metrics["distance"] == pytest.approx(0.5 + 1.0 - 0.3)
    assert metrics["crash_intensity"] == 100.0
    assert (metrics["steer"], metrics["brake"], metrics["throttle"], metrics["steps"]) == (0.5, 0.25, 0.0, 3)
    observation, *_, info = env.step(np.array([-1.0, 1.0], np.float32))
    assert values(observation) == [5, 8, 11]
    assert (info["metrics"]["steer"], info["metrics"]["throttle"], info["metrics"]["steps"]) == (0.75, 0.5, 6)


def test_an_episode_may_end_within_a_skip():
    env = scripted({6: {"lane": None, "vx": 10.0}}, frame_skip=4)
    env.step(COAST)
    observation, reward, terminated, truncated, info = env.step(COAST)
    assert (terminated, truncated, info["metrics"]["steps"]) == (True, False, 6)
    assert reward == pytest.approx((0.5 + 0.0) / 2)  # the mean of the two steps taken
    assert values(observation) == [5, 9, 11]
    assert len(env.simulator.controls) == WARM_UP + 6


def test_the_limit_counts_simulator_steps():
    decisions, _, truncated, info = until_end(scripted(frame_skip=4, max_episode_steps=10))
    assert (decisions, truncated, info["metrics"]["steps"]) == (3, True, 10)


def test_collisions_within_skips_are_counted_step_by_step():
    assert until_end(scripted(dict.fromkeys(range(2, 22), HIT), frame_skip=4))[3]["metrics"]["steps"] == 21


def test_the_listener_hears_every_simulator_step_and_no_warm_up():
    env, heard = scripted({2: {"impulses": (30.0, 10.0)}, 7: {"ends": True}}, frame_skip=3), []
    env.listener = heard.append
    env.reset(seed=1)
    assert heard == []
    actions = [np.array([0.1 * k, 2.0], np.float32) for k in range(3)]
    for action in actions:
        env.step(action)
    assert [step.snapshot.tick for step in heard] == [6, 7, 8, 9, 10, 11, 12]
    assert [step.impulse for step in heard] == [0, 40, 0, 0, 0, 0, 0]
    assert [step.terminated for step in heard] == [False] * 6 + [True]
    assert not any(step.truncated for step in heard)
    assert [float(step.action[0]) for step in heard] == [float(actions[k // 3][0]) for k in range(7)]
    assert {float(step.action[1]) for step in heard} == {1.0}  # as applied
    assert all(step.progress == pytest.approx(step.speed * 0.05) for step in heard)
    assert sum(step.reward for step in heard) == pytest.approx(env._metrics.reward)


def test_what_comes_back_is_fresh():
    def run(spoil: bool) -> tuple[list[bytes], EpisodeRecorder]:
        env = scripted(frame_skip=2)
        observation, info = env.reset(seed=1)
        recorder = env.listener = EpisodeRecorder(env.snapshot)
        seen = []
        for _ in range(6):
            arrays = [observation, *(value for value in info.values() if isinstance(value, np.ndarray))]
            seen += [array.tobytes() for array in arrays] + [repr(info["metrics"]).encode(), env.render().tobytes()]
            if spoil:
                for array in (*arrays, env.render()):
                    array[...] = 99
                info["metrics"].clear()
                info.clear()
            observation, reward, *_, info = env.step(COAST)
            seen.append(repr(reward).encode())
        return seen, recorder

    (clean, kept), (spoilt, other) = run(False), run(True)
    assert clean == spoilt
    for name, array in kept.arrays().items():
        assert np.array_equal(array, other.arrays()[name]), name


# The embedded world behind it


@pytest.mark.parametrize("name", ["JayWalk", "HighBeam", "HighWay"])
def test_gymnasium_finds_nothing_to_warn_about(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="told"):
            gymnasium.logger.warn("told")  # so the checker's warnings do end the test
        env = gymnasium.make(f"semore/{name}-v0", render_mode="rgb_array")
        assert env.observation_space == gymnasium.spaces.Box(0, 255, (9, 128, 128), np.uint8)
        assert env.action_space == gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        assert "TimeLimit" not in str(env)
        assert env.unwrapped.scenario.name == name
        check_env(env.unwrapped)
        env.close()


@pytest.mark.parametrize("again", [False, True])
def test_gymnasium_s_own_limit_counts_decisions_and_is_an_ending(again):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make("semore/JayWalk-v0", size=8, camera=8, frame_skip=2, max_episode_steps=3)
    if again:  # as vector environments and users do
        env = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    heard: list[SimStep] = []
    for seed in (1, 2):
        env.reset(seed=seed)
        env.unwrapped.listener = heard.append
        ends = [env.step(COAST)[2:] for _ in range(3)]
        assert [end[:2] for end in ends] == [(False, False), (False, False), (False, True)]
        assert [end[2]["ending"] for end in ends] == ["", "", "success"]
        assert ends[-1][2]["metrics"]["steps"] == 6
        assert [step.truncated for step in heard[-6:]] == [False] * 5 + [True]


def test_gymnasium_s_own_limit_holds_in_vectors_and_beyond_the_default():
    envs = gymnasium.make_vec("semore/JayWalk-v0", 2, size=8, camera=8, max_episode_steps=2)
    envs.reset(seed=[1, 2])
    assert envs.step(np.zeros((2, 2), np.float32))[4]["ending"].tolist() == ["", ""]
    _, _, _, truncated, info = envs.step(np.zeros((2, 2), np.float32))
    assert (truncated.tolist(), info["ending"].tolist()) == ([True, True], ["success", "success"])
    envs.close()
    long = scripted()
    long.limit(510)
    assert until_end(long)[0] == 510


@pytest.mark.parametrize("skip", [1, 2, 3])
def test_what_is_rendered_plays_in_real_time(skip):
    env = gymnasium.make("semore/JayWalk-v0", size=8, camera=8, frame_skip=skip, render_mode="rgb_array")
    assert env.metadata["render_fps"] == pytest.approx(20 / skip)
    assert env.metadata["render_modes"] == ["rgb_array"]
    assert DrivingEnv.metadata["render_fps"] == 20


def trace(env: gymnasium.Env[Any, Any], seed: int) -> str:
    """A digest of everything 25 decisions of the episode `seed` show."""
    state, rng = hashlib.blake2b(), np.random.default_rng(7)
    observation, info = env.reset(seed=seed)
    for _ in range(25):
        state.update(observation.tobytes() + info["actors"].tobytes() + info["ego"].tobytes())
        observation, reward, terminated, truncated, info = env.step(rng.uniform(-0.2, 1, 2).astype(np.float32))
        state.update(repr((reward, terminated, truncated)).encode())
        if terminated or truncated:
            break
    return state.hexdigest()


def small(name: str) -> gymnasium.Env[Any, Any]:
    return gymnasium.make(f"semore/{name}-v0", size=16, camera=32, frame_skip=2)


@pytest.mark.parametrize("name", ["JayWalk", "HighBeam", "HighWay"])
def test_same_seed_same_episode(name):
    env, other = small(name), small(name)
    first = trace(env, 21)
    assert trace(env, 22) != first
    assert trace(env, 21) == first  # nothing of other episodes remains
    assert trace(other, 21) == first


def test_same_seed_same_episode_in_another_process():
    code = "from test_env import small, trace; print(trace(small('HighBeam'), 21))"
    folder = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)
    assert done.stdout.strip() == trace(small("HighBeam"), 21), done.stderr


@pytest.mark.parametrize(("camera", "size"), [(64, 16), (64, 64), (50, 21)])
def test_a_smaller_view_is_the_recorded_picture_shrunk(camera, size):
    env = DrivingEnv("HighWay", camera=camera, size=size)
    observation, _ = env.reset(seed=8)
    steps: list[SimStep] = []
    env.listener = steps.append
    pictures = [env.snapshot.images.rgb] * 3
    for k in range(6):
        recorded = np.stack(pictures[-3:]).transpose(0, 3, 1, 2)
        assert np.array_equal(observation, shrink(recorded, size).reshape(9, size, size))
        observation, *_ = env.step(np.array([0.02 * k, 1.0], np.float32))
        pictures.append(steps[-1].snapshot.images.rgb)
    assert not np.array_equal(pictures[-1], pictures[-2])


def test_start_jitter_by_default_and_the_published_start_by_setting():
    def starts(jitter: bool) -> np.ndarray:
        env = DrivingEnv(camera=8, size=8, jitter=jitter)
        return np.stack([env.reset(seed=seed)[1]["ego"] for seed in range(12)])

    jittered, published = starts(True), starts(False)
    column = EGO_COLUMN["lane_offset"]
    assert np.ptp(jittered[:, column]) > 0.4
    assert np.abs(jittered[:, column]).max() < 0.8 + 0.1
    assert np.abs(published[:, column]).max() < 1e-3


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"scenario": "Jay"}, "JayWalk, HighBeam, HighWay"),
        ({"weather": "snow"}, "'snow'.*midnight"),
        ({"simulator": "unreal"}, "'unreal'.*embedded"),
        ({"size": 129}, "size 129"),
        ({"frame_skip": 0}, "frame_skip 0"),
        ({"stack": 0}, "stack 0"),
        ({"render_mode": "human"}, "'human'"),
    ],
)
def test_bad_choices_are_named(wrong, named):
    with pytest.raises(SemoreError, match=named):
        DrivingEnv(**wrong)


def test_close_closes_the_simulator_and_is_harmless_twice():
    env = scripted()
    env.close()
    env.close()
    assert env.simulator.closed == 2
    real = DrivingEnv(camera=8, size=8)
    real.close()
    real.close()
