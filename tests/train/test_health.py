"""Each complaint induced on purpose, none on a healthy network; AUC and the mask's quality against brute force."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_agent import ENCODER, SIZE, TINY, make_agent, method_settings

from semore.datasets.frame_pool import FramePool
from semore.datasets.frame_view import View
from semore.train.agent import Agent
from semore.train.course import Logging
from semore.train.health import PATIENCE, auc, complaints, driving_signs, mask_quality, vital_signs
from semore.train.schedule import ScheduleSettings

OBSERVATIONS = torch.randint(0, 256, (12, 9, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def said(agent, updates: int = PATIENCE) -> list[str]:
    return [complaint.partition(":")[0] for complaint in complaints(vital_signs(agent, OBSERVATIONS), updates)]


def healthy_agent():
    agent = make_agent(gates=(0.01, -0.02))
    with torch.no_grad():
        agent.backbone.student_head.weight.mul_(10.0)
    return agent


def test_a_healthy_network_has_no_complaints():
    signs = vital_signs(healthy_agent(), OBSERVATIONS)
    assert complaints(signs, 10 * PATIENCE) == []
    assert signs["health/gate_motion"] == pytest.approx(0.01)
    assert signs["health/gate_known"] == pytest.approx(-0.02)


def test_vital_signs_equal_a_plain_count():
    agent = healthy_agent()
    signs = vital_signs(agent, OBSERVATIONS)
    frames = OBSERVATIONS.float().view(12, 3, 3, SIZE, SIZE) / 255.0
    with torch.no_grad():
        maps = {
            "semantic": agent.backbone.semantic_stream(frames[:, 2]),
            "motion": agent.backbone.motion_stream(
                torch.cat([frames[:, 2] - frames[:, 1], frames[:, 1] - frames[:, 0]], 1)
            ),
        }
        mask = torch.sigmoid(agent.backbone.student_head(maps["semantic"]))
    for name, units in maps.items():
        flat = units.flatten(1)
        live = sum(1 for unit in range(flat.shape[1]) if any(float(value) > 0 for value in flat[:, unit]))
        assert signs[f"health/live_{name}"] == pytest.approx(live / flat.shape[1])
    assert signs["health/student_std"] == pytest.approx(float(np.std(mask.numpy(), ddof=1)), rel=1e-4)
    assert signs["health/student_mean"] == pytest.approx(float(mask.mean()), rel=1e-4)


def test_a_finer_student_s_spread_is_that_of_its_finer_mask():
    for changes in ({}, {"streams": "single"}):
        agent = make_agent(encoder=replace(ENCODER, mask_side=32, **changes))
        signs = vital_signs(agent, OBSERVATIONS)
        with torch.no_grad():
            mask = agent(OBSERVATIONS)[2]
        assert mask.shape == (12, 32, 32)
        assert signs["health/student_std"] == pytest.approx(float(mask.std()), rel=1e-4)
        assert signs["health/student_mean"] == pytest.approx(float(mask.mean()), rel=1e-4)


def test_a_constant_mask_is_named_once_it_had_time():
    agent = healthy_agent()
    with torch.no_grad():
        agent.backbone.student_head.weight.zero_()
    assert said(agent) == ["constant student mask"]
    assert said(agent, PATIENCE - 1) == []


@pytest.mark.parametrize("stream", ["semantic", "motion"])
def test_a_dead_stream_is_named_at_once(stream):
    agent = healthy_agent()
    with torch.no_grad():
        getattr(agent.backbone, f"{stream}_stream")[-2].bias.fill_(-100.0)
    signs = vital_signs(agent, OBSERVATIONS)
    assert signs[f"health/live_{stream}"] == 0.0
    found = [text for text in complaints(signs, 0) if text.startswith("dead stream")]
    assert len(found) == 1
    assert f"the {stream} stream" in found[0]


def test_a_closed_gate_is_named_after_patience_and_only_when_both_are_closed():
    agent = healthy_agent()
    with torch.no_grad():
        agent.backbone.attention.gates.zero_()
    assert said(agent) == ["dead gate"]
    assert said(agent, PATIENCE - 1) == []
    with torch.no_grad():
        agent.backbone.attention.gates[1] = -0.5
    assert said(agent) == []


def test_closed_gates_are_harmless_where_the_mask_has_a_path_of_its_own():
    """The signs are logged as ever; a run's own log says whether they are to be judged."""
    agent = make_agent(settings=method_settings("semore"))
    signs = vital_signs(agent, OBSERVATIONS)
    assert signs["health/gate_motion"] == signs["health/gate_known"] == 0.0
    heard: list[str] = []
    for path in ("gated", "concat"):
        settings = method_settings("semore", mask_path=path)
        progress = SimpleNamespace(say=heard.append)
        logging = Logging(make_agent(settings=settings), None, ScheduleSettings(), None, None, progress)
        logging._complain(signs | {"health/student_std": 1.0}, PATIENCE)
    (found,) = heard
    assert "dead gate: both attention gates" in found
    assert found.endswith("choose --agent.encoder.mask_path concat")


def test_without_attention_no_gate_is_missed():
    torch.manual_seed(0)
    agent = Agent(replace(TINY, encoder=replace(ENCODER, attention="none")))
    assert "dead gate" not in said(agent)


def test_a_network_without_a_student_has_no_mask_to_complain_of():
    agent = make_agent(semantic_weight=0.0, encoder=replace(ENCODER, mask="zeros"))
    assert not agent.teaches_mask
    assert "health/student_std" not in vital_signs(agent, OBSERVATIONS)
    assert "constant student mask" not in said(agent)


def test_the_dead_stream_of_a_single_stream_network_is_named():
    agent = make_agent(encoder=replace(ENCODER, streams="single", attention="none", mask="zeros"), semantic_weight=0.0)
    assert said(agent, 0) == []
    with torch.no_grad():
        (stream,) = agent.backbone.streams().values()
        stream[-2].bias.fill_(-100.0)
    (found,) = complaints(vital_signs(agent, OBSERVATIONS), 0)
    assert found.startswith("dead stream: only 0.0% of the single stream's units")


def pool_of(*episodes: tuple[list[float], float]) -> FramePool:
    """A pool of episodes of which each has these steerings, and this reward at every decision."""
    pool = FramePool(View(4, 1, 1, "published"), 1000)
    for steering, reward in episodes:
        first, count = pool.size, len(steering)
        pool.start[first : first + count + 1] = first
        pool.action[first : first + count, 0] = torch.tensor(steering)
        pool.reward[first : first + count] = reward
        pool.size += count + 1
        pool.episodes.append((f"e{len(pool.episodes)}", count + 1))
    return pool


def names(signs: dict[str, float], updates: int = 0) -> list[str]:
    return [complaint.partition(":")[0] for complaint in complaints(signs, updates)]


def test_zigzag_steering_is_named_and_a_bend_is_not():
    zigzag = [0.4 * (-1) ** step for step in range(50)]
    bend = np.linspace(-1, 1, 50).tolist()
    signs = driving_signs(pool_of((bend, 0.1), (zigzag, 0.1)), 0.9)
    assert signs["health/steering_change"] == pytest.approx((49 * 2 / 49 + 49 * 0.8) / 98)
    assert names(driving_signs(pool_of((bend, 0.1)), 0.9)) == []
    (found,) = complaints(driving_signs(pool_of((zigzag, 0.1)), 0.9), 0)
    assert found.startswith("zigzag steering: it changes by 0.80")
    # From one episode to the next, or to a last frame, is no change; and only the newest five hundred frames count.
    assert driving_signs(pool_of(([1.0] * 5, 0.1), ([-1.0] * 5, 0.1)), 0.9)["health/steering_change"] == 0.0
    assert names(driving_signs(pool_of((zigzag * 4, 0.1), ([0.0] * 500, 0.1)), 0.9)) == []
    assert driving_signs(pool_of(), 0.9) == {"health/q_bound": 0.0, "health/steering_change": 0.0}


def test_exploding_q_is_named_against_what_rewards_allow():
    signs = driving_signs(pool_of(([0.0] * 5, 0.5), ([0.0] * 5, -2.0)), 0.9)
    assert signs["health/q_bound"] == pytest.approx(20.0)
    assert names(signs | {"loss/target_q_max": 39.0}) == []
    assert names(signs | {"loss/target_q_max": 41.0}) == ["exploding Q"]
    assert names(signs | {"loss/target_q_max": float("inf")}) == ["exploding Q"]
    assert names(signs | {"loss/target_q_max": float("nan")}) == ["exploding Q"]
    assert names(signs) == []


def test_a_starved_buffer_is_named_while_the_filter_is_at_work():
    starved = {"replay/delta": 0.9, "replay/admit_rate_newest": 0.1}
    assert names(starved) == ["starved buffer"]
    assert names(starved | {"replay/admit_rate_newest": 0.3}) == []
    assert names(starved | {"replay/delta": 0.5}) == []  # by now everything is admitted
    assert "--replay.admission off" in complaints(starved, 0)[0]


def test_what_was_not_measured_is_not_judged():
    assert complaints({}, 10 * PATIENCE) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30))
def test_auc_counts_pairs_ties_half(cells):
    score = np.array([value for value, _ in cells], np.float32)
    positive = np.array([flag for _, flag in cells])
    above = [
        1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0
        for i in np.flatnonzero(positive)
        for j in np.flatnonzero(~positive)
    ]
    assert auc(score, positive) == pytest.approx(np.mean(above) if above else 0.5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_auc_knows_only_the_order(seed):
    generator = np.random.default_rng(seed)
    score, positive = generator.random((3, 4, 4)), generator.random((3, 4, 4)) > 0.7
    assert auc(score, positive) == pytest.approx(auc(np.exp(3 * score), positive))
    assert auc(-score, positive) == pytest.approx(1.0 - auc(score, positive))


def scenes(frames: int = 60, episodes: int = 6, seed: int = 0):
    """Truth with an object that wanders, its mean map, and the episode of each frame."""
    generator = np.random.default_rng(seed)
    truth = np.zeros((frames, 8, 8), np.float32)
    for frame in range(frames):
        truth[frame, generator.integers(3, 6), generator.integers(0, 8)] = 0.9
    return truth, truth.mean(0), np.arange(frames) * episodes // frames


def test_a_mask_that_sees_is_healthy():
    truth, constant, episode = scenes()
    noise = np.random.default_rng(1).normal(0, 0.2, truth.shape).astype(np.float32)
    quality = mask_quality(truth + noise, truth, constant, episode)
    assert quality.healthy
    assert quality.student == pytest.approx(auc(truth + noise, truth > 0.5))
    assert quality.constant == pytest.approx(auc(np.stack([constant] * 60), truth > 0.5))
    assert 0.5 < quality.constant < quality.student
    assert 0 < quality.low <= quality.student - quality.constant <= quality.high
    assert (quality.frames, quality.episodes) == (60, 6)
    assert quality.as_dict()["healthy"] is True


def test_the_constant_map_itself_is_not_healthy():
    truth, constant, episode = scenes()
    quality = mask_quality(np.broadcast_to(constant, truth.shape).copy(), truth, constant, episode)
    assert (quality.student, quality.low, quality.high) == (quality.constant, 0.0, 0.0)
    assert not quality.healthy


def test_slightly_ahead_is_not_healthy():
    truth, constant, episode = scenes()
    student = constant + 0.01 * truth
    quality = mask_quality(student, truth, constant, episode)
    assert quality.low > 0
    assert 0 < quality.student - quality.constant < 0.05
    assert not quality.healthy


def test_ahead_in_one_episode_of_two_is_not_healthy():
    truth, constant, episode = scenes(episodes=2)
    student = np.where(episode[:, None, None] == 0, truth, -truth)
    quality = mask_quality(student, truth, constant, episode)
    assert quality.low < 0 < quality.high
    assert not quality.healthy


def test_the_interval_resamples_episodes_not_frames():
    """Frames of an episode stand or fall together: with frames as episodes the interval is far narrower."""
    truth, constant, episode = scenes(frames=400, episodes=4)
    student = np.where(episode[:, None, None] % 2 == 0, truth, 0.5 * constant)
    together = mask_quality(student, truth, constant, episode)
    apart = mask_quality(student, truth, constant, np.arange(400))
    assert together.high - together.low > 3 * (apart.high - apart.low)


def test_frames_without_an_object_do_not_count():
    truth, constant, episode = scenes()
    empty, noise = np.zeros((20, 8, 8), np.float32), np.ones((20, 8, 8), np.float32)
    faint = np.full((20, 8, 8), 0.5, np.float32)  # not above one half: no positive cell
    more = mask_quality(
        np.concatenate([truth, noise, noise]),
        np.concatenate([truth, empty, faint]),
        constant,
        np.concatenate([episode, np.full(40, 99)]),
    )
    assert more == mask_quality(truth, truth, constant, episode)


def test_nothing_to_find_gives_none():
    assert mask_quality(np.ones((3, 8, 8)), np.zeros((3, 8, 8)), np.zeros((8, 8)), np.arange(3)) is None
