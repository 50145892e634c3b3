"""Behaviour policies: what the rule-based driver does in hand-made scenes, seeds, and trained policies from files."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semore.collect.env import DrivingEnv
from semore.collect.expert import CRUISE, Expert
from semore.collect.network_policy import NetworkPolicy
from semore.collect.policies import POLICIES, load_policy, make_policy
from semore.collect.rollout import drive
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import ACTOR_COLUMN, ACTOR_FIELDS, EGO_COLUMN, EGO_FIELDS, KIND_INDEX, KINDS

NOTHING = np.zeros((1, 9, 8, 8), np.uint8)


def actor(kind: str, x: float, y: float, vx: float = 0.0, vy: float = 0.0, down: float = 0.0) -> list[float]:
    """A row of `actors`; the ego of `scene` stands at the origin facing +x, +y is to its right."""
    box = KINDS[KIND_INDEX[kind]]
    state = {"kind": KIND_INDEX[kind], "length": box.length, "width": box.width, "height": box.height}
    state |= {"x": x, "y": y, "vx": vx, "vy": vy, "down": down}
    return [state.get(field, 0.0) for field in ACTOR_FIELDS]


def scene(*actors: list[float], speed: float = 10.0, **ego: float) -> dict[str, Any]:
    """The info of an ego in the middle of a lane 4 m wide that runs along +x."""
    pose = {"vx": speed, "lane_dx": 1.0, "lane_dy": 0.0, "lane_offset": 0.0, "lane_width": 4.0} | ego
    return {
        "ego": np.array([pose.get(field, 0.0) for field in EGO_FIELDS], np.float32),
        "actors": np.array(actors, np.float32).reshape(-1, len(ACTOR_FIELDS)),
    }


def driven(info: dict[str, Any]) -> tuple[float, float]:
    """Steer and pedal of the noiseless driver."""
    steer, pedal = Expert(np.random.default_rng(0))(info)
    return float(steer), float(pedal)


def test_an_empty_road_is_driven_at_cruising_speed():
    assert driven(scene()) == (0.0, 1.0)
    assert driven(scene(speed=CRUISE)) == (0.0, 0.0)
    assert driven(scene(speed=CRUISE - 1)) == pytest.approx((0.0, 0.8))
    assert driven(scene(speed=CRUISE + 1)) == pytest.approx((0.0, -0.8))


@pytest.mark.parametrize(
    ("ego", "steer"),
    [
        ({"lane_offset": 1.0}, -0.1),  # too far right: to the left
        ({"lane_offset": -1.0}, 0.1),
        ({"yaw": 0.1}, -0.12),  # facing right of the lane; 1.2 below 12 m/s
        ({"yaw": 0.1, "speed": 14.0}, -0.1),
        ({"yaw": -0.2, "lane_offset": 0.5}, 0.24 - 0.05),
        ({"yaw": 2 * math.pi + 0.1}, -0.12),
        ({"yaw": 1.2}, -0.6),  # limited
    ],
)
def test_the_lane_is_kept(ego, steer):
    assert driven(scene(**ego))[0] == pytest.approx(steer, abs=1e-6)


def test_the_lane_is_kept_whatever_its_direction():
    slanted = {"lane_dx": 0.6, "lane_dy": -0.8, "yaw": math.atan2(-0.8, 0.6) + 0.1, "lane_offset": 0.5}
    assert driven(scene(**slanted))[0] == pytest.approx(-0.05 - 0.12, abs=1e-6)


def across(kind: str, x: float, y: float) -> list[float]:
    """An actor that stands across the lane."""
    row = actor(kind, x, y)
    row[ACTOR_FIELDS.index("yaw")] = math.pi / 2
    return row


@pytest.mark.parametrize(
    "who",
    [
        across("ambulance", 15, 0),
        actor("fire truck", 18, 0),
        actor("sedan", 12, 0.5, vx=1.0),
        actor("sedan", 12, 4, vy=-4.0),  # comes from the side
    ],
)
def test_the_driver_brakes_hard_when_its_lane_is_blocked(who):
    assert driven(scene(who))[1] == -1.0


@pytest.mark.parametrize(
    "who",
    [
        actor("pedestrian", 15, 5, vy=2.5),  # walks away
        actor("pedestrian", -6, 0),  # behind
        actor("pedestrian", 80, 0),  # far
        actor("sedan", 15, 0, vx=20.0),  # ahead and faster
        actor("sedan", 15, -4),  # the next lane
        actor("pedestrian", 30, 20),  # nowhere near the road
    ],
)
def test_the_driver_does_not_mind_others(who):
    assert driven(scene(who)) == (0.0, 1.0)


def test_it_swerves_to_the_free_side_of_its_lane():
    right, left = driven(scene(actor("pedestrian", 25, -1.2))), driven(scene(actor("pedestrian", 25, 1.2)))
    assert right[0] > 0 > left[0]
    lying = driven(scene(actor("pedestrian", 25, 1.2, down=1.0)))
    assert lying[0] < 0


def test_a_careless_driver_minds_nobody():
    info = scene(across("ambulance", 15, 0))
    assert tuple(Expert(np.random.default_rng(0), careful=False)(info)) == (0.0, 1.0)


def test_the_order_of_the_actors_does_not_matter():
    near, far = actor("pedestrian", 12, 0), actor("sedan", 24, 0)
    assert driven(scene(near, far, speed=4.0)) == driven(scene(far, near, speed=4.0))


def test_the_driver_creeps_rather_than_count_as_stuck():
    shut = [actor("pedestrian", 6.0, y) for y in np.arange(-3.0, 3.1, 0.5)]
    assert 0.0 < driven(scene(*shut, speed=0.0))[1] <= 1.0
    shut = [actor("pedestrian", 2.8, y) for y in np.arange(-3.0, 3.1, 0.5)]  # a quarter of a metre of room
    assert driven(scene(*shut, speed=0.0))[1] == 0.0


def test_it_sees_round_a_bend():
    """On a bend to the right of 100 m radius a truck in the lane 25 m on stands 3 m to the right of straight on."""
    driver = Expert(np.random.default_rng(0))
    for k in range(30):
        angle = k * 0.4 / 100
        x, y = 100 * math.sin(angle), 100 * (1 - math.cos(angle))
        lane = {"x": x, "y": y, "yaw": angle, "lane_dx": math.cos(angle), "lane_dy": math.sin(angle)}
        seen = lane | {"vx": CRUISE * math.cos(angle), "vy": CRUISE * math.sin(angle)}
        there = angle + 0.25
        blocked = across("fire truck", 100 * math.sin(there), 100 * (1 - math.cos(there)))
        blocked[ACTOR_FIELDS.index("yaw")] += there
        pedal = float(driver(scene(blocked, **seen))[1])
    assert pedal == -1.0


def test_who_looks_hits_nobody_where_the_careless_one_does():
    hits = {}
    for policy in ("driver", "blind_driver"):
        envs = [DrivingEnv("JayWalk", camera=8, size=8, max_episode_steps=180) for _ in range(10)]
        infos = [info for _, info in drive(envs, make_policy(policy), range(500, 510))]
        hits[policy] = sum(info["metrics"]["crash_intensity"] > 0 for info in infos)
    assert hits["driver"] == 0
    assert hits["blind_driver"] >= 2


@pytest.mark.parametrize(("offset", "steer"), [(0.0, 0.4), (1.0, 0.5), (-1.0, 0.3), (3.0, 0.6)])
def test_facing_an_oncoming_lane_the_driver_heads_for_the_lane_to_its_right(offset, steer):
    oncoming = scene(lane_dx=-1.0, lane_offset=offset)  # its own lane's middle is 4 + offset to the right
    assert driven(oncoming)[0] == pytest.approx(steer, abs=1e-6)


def test_on_the_oncoming_lane_it_minds_its_own_lane():
    own, oncoming = across("ambulance", 15, 4), across("ambulance", 15, -3)
    assert driven(scene(own, lane_dx=-1.0))[1] == -1.0
    assert driven(scene(oncoming, lane_dx=-1.0))[1] == 1.0


def test_off_the_road_the_driver_brakes():
    assert driven(scene(**dict.fromkeys(("lane_dx", "lane_dy", "lane_offset", "lane_width"), math.nan))) == (0.0, -1.0)


@pytest.mark.parametrize("scenario", ["JayWalk", "HighBeam", "HighWay"])
def test_the_driver_keeps_its_lane_and_hits_nobody(scenario):
    # A picture of 8 pixels costs nothing and the driver does not look at it.
    envs = [DrivingEnv(scenario, camera=8, size=8, max_episode_steps=160) for _ in range(4)]
    offsets = []

    def watch(seed, observation, action, info):
        if info["metrics"]["steps"] > 60:  # the start is jittered
            offsets.append(info["ego"][EGO_COLUMN["lane_offset"]])

    for _, info in drive(envs, make_policy("driver"), range(4), watch=watch):
        metrics = info["metrics"]
        assert (metrics["ending"], metrics["crash_intensity"]) == ("success", 0.0)
        assert metrics["distance"] > 10  # walkers are waited for
    assert np.abs(offsets).max() < 2.0 - 0.3  # it swerves within its lane


# Seeds


def actions(name: str, seeds: list[int], decisions: int = 30) -> np.ndarray:
    """(decisions, len(seeds), 2): what the behaviour does when it always sees the same."""
    policy = make_policy(name)
    policy.start(seeds)
    slots = range(len(seeds))
    shown = np.repeat(NOTHING, len(seeds), 0)
    return np.stack([policy.act(slots, shown, [scene(speed=12.0)] * len(seeds)) for _ in range(decisions)])


@pytest.mark.parametrize("name", POLICIES)
def test_same_seed_same_actions_whoever_else_drives(name):
    both = actions(name, [4, 9])
    assert both.dtype == np.float32
    assert np.abs(both).max() <= 1.0
    assert np.array_equal(both, actions(name, [4, 9]))
    assert np.array_equal(both[:, 1:], actions(name, [9]))
    assert np.array_equal(both[:, ::-1], actions(name, [9, 4]))
    alike = ("driver", "blind_driver", "fast_driver", "fast_blind_driver", "fast_short_sighted_driver", "full_throttle")
    if name not in alike:
        assert not np.array_equal(both[:, 0], both[:, 1])


@pytest.mark.parametrize("name", POLICIES)
def test_starting_again_starts_anew_and_finished_slots_may_be_left_out(name):
    policy, infos = make_policy(name), [scene(speed=12.0)]
    policy.start([1, 2])
    first = [policy.act([0, 1], np.repeat(NOTHING, 2, 0), infos * 2)[1] for _ in range(8)]
    policy.start([1, 2])
    alone = [policy.act([1], NOTHING, infos)[0] for _ in range(8)]
    assert np.array_equal(first, alone)


def test_full_throttle_is():
    assert np.array_equal(actions("full_throttle", [1, 2], 3), np.broadcast_to([0.0, 1.0], (3, 2, 2)))


def test_random_is_uniform_and_independent():
    drawn = actions("random", list(range(20)), 500).reshape(-1, 2)
    counts = np.stack([np.histogram(column, 10, (-1, 1))[0] for column in drawn.T])
    assert counts.sum() == 20_000  # all in range
    assert np.abs(counts - 1000).max() < 5 * math.sqrt(900)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 5 / math.sqrt(10_000)
    in_time = np.corrcoef(drawn[:-20, 0], drawn[20:, 0])[0, 1]
    assert abs(in_time) < 5 / math.sqrt(10_000)


def test_wander_holds_its_actions():
    held = actions("wander", list(range(40)), 40)
    lengths = {int(np.diff(np.flatnonzero(np.append(True, (np.diff(one, axis=0) != 0).any(1)))).min())
               for one in held.swapaxes(0, 1)}  # fmt: skip
    assert lengths == {1, 4, 10}


def test_noise_differs_between_episodes_and_goes_both_ways():
    noisy = actions("noisy_driver", list(range(30)), 60)
    plain = actions("driver", [0], 1)[0, 0]
    away = noisy - plain
    assert len(np.unique(noisy[0], axis=0)) == 30
    assert (away[..., 0] > 0.02).any()
    assert (away[..., 0] < -0.02).any()
    following = np.corrcoef(away[:-1, :, 0].ravel(), away[1:, :, 0].ravel())[0, 1]
    assert following > 0.6  # coloured: 0.85 of it remains


# Names and files


@pytest.mark.parametrize("name", ["drive", "", "Driver", "checkpoint"])
def test_an_unknown_behaviour_lists_the_choices(name):
    with pytest.raises(SemoreError) as error:
        make_policy(name)
    assert repr(name) in str(error.value)
    assert all(known in str(error.value) for known in (*POLICIES, "checkpoint:PATH"))


@pytest.mark.parametrize("given", ["nan,1", "0,inf", "0", "0,1,2", "left,1"])
def test_a_constant_action_is_two_finite_numbers(given):
    with pytest.raises(SemoreError, match=f"'constant:{given}': write constant:STEER,PEDAL with two numbers"):
        make_policy(f"constant:{given}")


class Tiny(torch.nn.Module):
    """Means 1/4 and −1/2 plus the first pixel, log standard deviation −1, the red channel as mask."""

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        shown = frames[:, 0].float() / 255
        mean = torch.tensor([0.25, -0.5]) + shown[:, 0, :1]
        return mean, torch.full_like(mean, -1.0), shown


VIEW = {"size": 8, "stack": 3, "frame_skip": 2, "renderer": "r1"}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    dynamic = ({0: torch.export.Dim("batch", min=1, max=64)},)
    program = torch.export.export(Tiny(), (torch.zeros(2, 9, 8, 8, dtype=torch.uint8),), dynamic_shapes=dynamic)
    torch.export.save(program, folder / "policy.pt2", extra_files={"view.json": json.dumps(VIEW)})
    torch.export.save(program, folder / "viewless.pt2")
    torch.export.save(program, folder / "badview.pt2", extra_files={"view.json": "{torn"})
    return folder


def shown(*reds: int) -> np.ndarray:
    frames = np.zeros((len(reds), 9, 8, 8), np.uint8)
    frames[:, 0] = np.array(reds)[:, None, None]
    return frames


def test_an_exported_policy_loads_and_acts_with_its_mean(run_folder):
    for path in (run_folder, run_folder / "policy.pt2", str(run_folder)):
        policy = load_policy(path)
        assert dict(policy.view) == VIEW
        with pytest.raises(SemoreError, match="has not acted yet"):
            _ = policy.last_mask
        policy.start([1, 2, 3])
        acted = policy.act([0, 1, 2], shown(0, 51, 255), [{}] * 3)
        assert acted.dtype == np.float32
        expected = np.tanh([[0.25, -0.5], [0.45, -0.3], [1.25, 0.5]])
        assert acted == pytest.approx(expected, abs=1e-6)
        assert policy.last_mask == pytest.approx(policy.student_mask(shown(0, 51, 255)))
        mask = policy.student_mask(shown(0, 255))
        assert mask.dtype == np.float32
        assert mask == pytest.approx(np.array([0.0, 1.0])[:, None, None] * np.ones((2, 8, 8)))


def test_a_sampling_policy_draws_around_the_mean_by_episode(run_folder):
    policy = make_policy(f"checkpoint:{run_folder}")
    assert isinstance(policy, NetworkPolicy)

    def drawn(seeds: list[int], times: int) -> np.ndarray:
        policy.start(seeds)
        slots = range(len(seeds))
        return np.stack([policy.act(slots, shown(*[0] * len(seeds)), [{}] * len(seeds)) for _ in range(times)])

    both = drawn([7, 8], 20)
    assert np.array_equal(both, drawn([7, 8], 20))
    assert np.array_equal(both[:, 1:], drawn([8], 20))
    assert not np.array_equal(both[:, 0], both[:, 1])
    before = np.arctanh(drawn(list(range(50)), 40).reshape(-1, 2).astype(np.float64))
    assert before.mean(0) == pytest.approx([0.25, -0.5], abs=5 * math.exp(-1) / math.sqrt(2000))
    assert before.std(0) == pytest.approx([math.exp(-1)] * 2, rel=0.1)


def test_a_missing_policy_file_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "none.pt2", tmp_path / "no" / "run"):
        with pytest.raises(SemoreError, match=f"{tmp_path}.*train the run first"):
            load_policy(path)
    with pytest.raises(SemoreError, match="does not exist"):
        make_policy(f"checkpoint:{tmp_path}")


def test_files_that_are_no_policy_are_named_without_torchs_own_traceback(run_folder, tmp_path, caplog, capfd):
    whole = (run_folder / "policy.pt2").read_bytes()
    (tmp_path / "text.pt2").write_text("hello")
    (tmp_path / "empty.pt2").write_bytes(b"")
    (tmp_path / "half.pt2").write_bytes(whole[: len(whole) // 2])
    torch.save({"weights": torch.zeros(3)}, tmp_path / "checkpoint.pt2")
    with zipfile.ZipFile(tmp_path / "zip.pt2", "w") as archive:
        archive.writestr("a/b", "c")
    for path in (*sorted(tmp_path.iterdir()), run_folder / "viewless.pt2", run_folder / "badview.pt2"):
        with pytest.raises(SemoreError, match=f"{path.name} is not a policy exported by Semore"):
            load_policy(path)
    assert caplog.text == ""
    assert "Traceback" not in capfd.readouterr().err


def test_the_columns_used_here_are_the_schemas():
    assert scene(actor("sedan", 3, 4))["actors"][0, [ACTOR_COLUMN["x"], ACTOR_COLUMN["y"]]].tolist() == [3, 4]


def test_noise_is_as_wide_as_asked_for():
    def network(observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        count = len(observation)
        return torch.full((count, 2), 0.1), torch.full((count, 2), math.log(0.5)), torch.zeros(count, 2, 2)

    raw = {}
    for spread in (0.0, 0.2, 1.0):
        policy = NetworkPolicy(network, {}, spread)
        policy.start([5])
        raw[spread] = np.arctanh(policy.act([0], NOTHING, [{}]))
    np.testing.assert_allclose(raw[0.0], 0.1, atol=1e-6)
    np.testing.assert_allclose(raw[0.2] - 0.1, 0.2 * (raw[1.0] - 0.1), atol=1e-5)
    assert np.abs(raw[1.0] - 0.1).min() > 0.01


def unit_noise(seeds: list[int], decisions: int, memory: float) -> np.ndarray:
    """(decisions, len(seeds), 2): the noise of a policy with mean 0 and σ 1/4, in units of that."""

    def network(observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        count = len(observation)
        return torch.zeros(count, 2), torch.full((count, 2), math.log(0.25)), torch.zeros(count, 2, 2)

    policy = NetworkPolicy(network, {}, 1.0, memory)
    policy.start(seeds)
    slots, shown = range(len(seeds)), np.repeat(NOTHING, len(seeds), 0)
    acted = [policy.act(slots, shown, [{}] * len(seeds)) for _ in range(decisions)]
    return 4.0 * np.arctanh(np.stack(acted).astype(np.float64))


def test_noise_without_memory_is_the_draws_of_the_episode_s_generator(run_folder):
    policy = load_policy(run_folder, sample=True)
    policy.start([5])
    acted = [policy.act([0], shown(0), [{}])[0] for _ in range(20)]
    drawn = np.random.default_rng([5, 0x5AC]).standard_normal((20, 2)).astype(np.float32)
    expected = torch.tanh(torch.tensor([0.25, -0.5]) + torch.tensor([-1.0, -1.0]).exp() * torch.from_numpy(drawn))
    assert np.array_equal(acted, expected.numpy())


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_noise_has_the_memory_asked_for_and_is_as_wide_at_every_decision(memory):
    noise = unit_noise(list(range(400)), 60, memory)
    for column in range(2):
        before, after = noise[:-1, :, column].ravel(), noise[1:, :, column].ravel()
        assert np.corrcoef(before, after)[0, 1] == pytest.approx(memory, abs=0.02)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.06
    for decision in (0, 1, 5, 59):
        assert noise[decision].std() == pytest.approx(1.0, abs=5 / math.sqrt(2 * 800))
    assert noise.mean() == pytest.approx(0.0, abs=0.05)


def test_noise_with_memory_is_the_same_whoever_is_driven_beside_the_episode(run_folder):
    def drawn(seeds: list[int], ends: dict[int, int]) -> dict[int, list[np.ndarray]]:
        """Actions by seed; an episode of `ends` is over after so many decisions."""
        policy = load_policy(run_folder, sample=True)
        policy = NetworkPolicy(policy._network, policy.view, 1.0, 0.9)
        policy.start(seeds)
        found: dict[int, list[np.ndarray]] = {seed: [] for seed in seeds}
        for decision in range(12):
            live = [slot for slot, seed in enumerate(seeds) if decision < ends.get(seed, 12)]
            acted = policy.act(live, shown(*[0] * len(live)), [{}] * len(live))
            for slot, action in zip(live, acted, strict=True):
                found[seeds[slot]].append(action)
        return found

    alone = drawn([8], {})[8]
    assert not np.array_equal(alone[0], alone[1])
    for beside in (drawn([7, 8, 9], {}), drawn([7, 8, 9], {7: 3, 9: 5}), drawn([9, 8], {9: 1})):
        assert np.array_equal(beside[8], alone)
