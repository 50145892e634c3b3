"""What is admitted, what is sampled, and that the pool behind it hands out the right frames."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semore.datasets.errors import SemoreError
from semore.datasets.frame_pool import FramePool, forecast_bytes
from semore.datasets.frame_view import View
from semore.train.admission import ADMISSIONS, ReplaySettings, admitted
from semore.train.replay import SelectiveReplay

SIDE, GRID = 8, 2
VIEW = View(SIDE, GRID, 1, "published")


@dataclass
class Recorded:
    """An episode in memory: frame t of episode n is filled with n + t, its decision rewards 1000·n + t."""

    number: int
    steps: int
    ending: str = "success"
    repeat: int = 1
    policy: str = "noisy_driver"
    attributes: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.attributes = {"policy": self.policy, "action_repeat": self.repeat}

    @property
    def name(self) -> str:
        return f"e-{self.number:04d}"

    @property
    def path(self) -> Path:
        return Path(self.name)

    def read(self, *names: str) -> dict[str, np.ndarray]:
        frame, step = np.arange(self.steps + 1), np.arange(self.steps)
        digest = np.zeros((self.steps + 1, 16), np.uint8)
        digest[:, 0], digest[:, 1], digest[:, 2] = self.number, frame % 256, frame // 256
        rgb = ((self.number + frame) % 256).astype(np.uint8)[:, None, None, None]
        ended = step == self.steps - 1
        action = np.zeros((self.steps, 2), np.float32)
        action[:, 1] = (step // self.repeat) / 1000.0
        arrays = {
            "rgb": np.broadcast_to(rgb, (self.steps + 1, SIDE, SIDE, 3)).copy(),
            "action": action,
            "progress": (1000.0 * self.number + step).astype(np.float32),
            "impulse": np.zeros(self.steps, np.float32),
            "terminated": ended & (self.ending != "success"),
            "digest": digest,
            "state_digest": digest,
        }
        return {name: arrays[name] for name in names}


class Knowing:
    """A knowledge set: the mask holds the frame's number, every third frame is unknown, verdicts as told."""

    def __init__(self, verdict=lambda number, step: 1) -> None:
        self.verdict = verdict

    def h_ka(self, frames, states, grid):
        valid = frames[:, 1] % 3 != 0
        masks = np.broadcast_to((frames[:, 1] * valid)[:, None, None], (len(frames), grid, grid)).copy()
        return masks, valid

    def verdicts(self, frames, states, words):
        assert len(words) == len(frames)
        return np.array([self.verdict(int(row[0]), int(row[1])) for row in frames], np.uint8)


def make_replay(capacity: int = 200, seed: int = 0, view: View = VIEW, **changes) -> SelectiveReplay:
    asked = {"admission": "off", "pool_frames": capacity, **changes}
    return SelectiveReplay(FramePool(view, capacity), ReplaySettings(**asked), seed)


def indices(replay: SelectiveReplay) -> list[int]:
    return replay.latest(10_000).tolist()


TABLE = [
    # rule, verdict, δ, draw, admitted: one row for each way through method.md §6.2 and §6.4
    ("recommended", 1, 0.9, 0.0, True),
    ("recommended", 1, 0.9, 0.95, True),
    ("recommended", 0, 0.9, 0.89, False),
    ("recommended", 0, 0.9, 0.91, True),
    ("recommended", 0, 0.51, 0.5, False),
    ("recommended", 0, 0.5, 0.0, True),
    ("recommended", 0, 1.0, 0.999, False),
    ("recommended", 255, 1.0, 0.0, True),
    ("literal", 1, 0.9, 0.89, True),
    ("literal", 1, 0.9, 0.91, False),
    ("literal", 0, 0.9, 0.0, False),
    ("literal", 0, 0.5, 0.99, True),
    ("literal", 1, 0.51, 0.6, False),
    ("literal", 255, 1.0, 0.99, True),
    ("weights", 0, 1.0, 0.0, True),
    ("off", 0, 1.0, 0.0, True),
    ("off", 1, 1.0, 0.99, True),
]


def ask(rule: str, verdict: int, delta: float, draw: float, terminal: bool = False, initial: bool = False) -> bool:
    one = (np.array([verdict], np.uint8), np.array([terminal]), np.array([initial]), np.array([delta]))
    (answer,) = admitted(*one, np.array([draw]), rule)
    return bool(answer)


@pytest.mark.parametrize(("rule", "verdict", "delta", "draw", "expected"), TABLE)
def test_the_filter_s_truth_table(rule, verdict, delta, draw, expected):
    assert ask(rule, verdict, delta, draw) is expected


UNIT = st.floats(0.0, 1.0, exclude_max=True)


@given(st.sampled_from(ADMISSIONS), st.sampled_from([0, 1, 255]), st.floats(0, 1), UNIT, st.booleans(), st.booleans())
def test_exempt_transitions_are_always_admitted(rule, verdict, delta, draw, terminal, initial):
    if terminal or initial or verdict == 255 or delta <= 0.5:
        assert ask(rule, verdict, delta, draw, terminal, initial)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), UNIT, st.sampled_from([0, 1]))
def test_the_recommended_rule_only_grows_laxer(one, two, draw, verdict):
    """As δ falls nothing that was admitted becomes refused; the literal rule lacks that, which is why it isn't ours."""
    strict, lax = max(one, two), min(one, two)
    assert ask("recommended", verdict, lax, draw) >= ask("recommended", verdict, strict, draw)


def test_the_literal_rule_grows_stricter_before_it_stops():
    assert ask("literal", 1, 0.9, 0.8)
    assert not ask("literal", 1, 0.7, 0.8)


def test_refused_shares_are_those_of_the_rules():
    count, delta = 20_000, 0.7
    draw = np.random.default_rng(0).random(count)
    no, flags = np.zeros(count, np.uint8), np.zeros(count, np.bool_)
    share = admitted(no, flags, flags, np.full(count, delta), draw, "recommended").mean()
    assert share == pytest.approx(1 - delta, abs=0.02)
    share = admitted(no + 1, flags, flags, np.full(count, delta), draw, "literal").mean()
    assert share == pytest.approx(delta, abs=0.02)


def test_an_unknown_rule_names_the_choices():
    with pytest.raises(SemoreError, match="recommended, literal, weights, off"):
        ask("strict", 1, 1.0, 0.0)


def test_delta_falls_to_a_half_in_filter_steps_and_then_admits_all():
    replay = make_replay(admission="recommended", filter_steps=20, random_steps=0, capacity=400)
    assert replay.delta == 1.0
    replay.add(Recorded(0, 10), Knowing())
    assert replay.delta == pytest.approx(0.75)
    replay.add(Recorded(1, 10), Knowing())
    assert replay.delta == pytest.approx(0.5)
    before = len(replay)
    replay.add(Recorded(2, 50), Knowing(lambda *_: 0))
    assert len(replay) == before + 50
    assert replay.delta == 0.0


def test_early_decisions_need_a_good_verdict_unless_exempt():
    """δ = 1 at first, so no draw helps: of ten steps judged 0 the terminal one alone enters."""
    slow = {"admission": "recommended", "filter_steps": 10**9}
    replay = make_replay(random_steps=0, **slow)
    replay.add(Recorded(0, 10, "collisions"), Knowing(lambda *_: 0))
    assert indices(replay) == [9]
    replay.add(Recorded(1, 10), Knowing(lambda _, step: step % 2))
    assert indices(replay) == [9, 12, 14, 16, 18, 20]
    replay.add(Recorded(2, 10), Knowing(lambda _, step: 255))
    assert len(replay) == 6 + 10
    numbers = replay.composition(0, 0.0)
    assert numbers["replay/admit_rate"] == pytest.approx(16 / 30)
    assert numbers["replay/dropped"] == 14
    assert numbers["replay/transitions"] == 16
    assert numbers["replay/frames"] == 33


def test_by_weight_unreasonable_decisions_are_drawn_one_minus_delta_times_as_often():
    """Everything is in the buffer; every other decision was judged 0, while δ fell from 1 to 0.75."""
    replay = make_replay(admission="weights", filter_steps=100, random_steps=0)
    replay.add(Recorded(0, 50), Knowing(lambda _, step: step % 2))
    assert len(replay) == 50
    drawn = np.zeros(50)
    for _ in range(600):
        drawn[replay.sample(5).reward[:, 0].long().numpy()] += 1  # a decision's reward is its number
    bad, good = drawn[0::2].mean(), drawn[1::2].mean()
    assert 0.08 < bad / good < 0.18  # 1 − δ is 0.125 in the mean


def test_by_weight_a_batch_comes_together_whatever_the_judge_says():
    replay = make_replay(admission="weights", filter_steps=10**9, random_steps=0)
    replay.add(Recorded(0, 10), Knowing(lambda *_: 0))
    assert len(replay.sample(10).reward) == 10


def test_the_first_random_steps_enter_whatever_the_judge_says():
    replay = make_replay(admission="recommended", filter_steps=10**9, random_steps=12)
    no = Knowing(lambda *_: 0)
    replay.add(Recorded(0, 10), no)  # a driver's: no exemption, and none of the twelve is used up
    assert len(replay) == 0
    for number, policy in ((1, "random"), (2, "wander")):
        replay.add(Recorded(number, 10, policy=policy), no)
    assert indices(replay) == [*range(11, 21), 22, 23]
    numbers = replay.composition(0, 0.0)
    rates = [numbers[f"replay/admit_rate_{policy}"] for policy in ("noisy_driver", "random", "wander")]
    assert rates == [0.0, 1.0, 0.2]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.sampled_from([1, 2, 3])), min_size=1, max_size=12),
    st.sampled_from([1, 2]),
    st.integers(40, 90),
)
def test_after_any_coming_and_going_every_index_is_the_transition_it_was(episodes, skip, capacity):
    """Reward, frames, masks and end flag of everything admitted, after the pool has dropped whole episodes."""
    replay = make_replay(capacity, view=View(SIDE, GRID, skip, "published"))
    for number, (steps, kind) in enumerate(episodes):
        replay.add(Recorded(number, steps, ("success", "collisions", "off_road")[kind - 1], repeat=skip), Knowing())
    held = replay.pool.episodes
    assert [name for name, _ in held] == [f"e-{n:04d}" for n in range(len(episodes))][-len(held) :]
    assert replay.pool.size == sum(count for _, count in held) <= capacity
    expected = []
    for name, count in held:
        number = int(name[2:])
        steps, kind = episodes[number]
        rows = [*range(0, steps, skip), steps]
        assert count == len(rows)
        for decision, first in enumerate(rows[:-1]):
            reward = np.mean([1000.0 * number + step for step in range(first, rows[decision + 1])])
            window = [rows[max(0, decision + offset)] for offset in (-2, -1, 0, 1)]
            ends = kind != 1 and decision == len(rows) - 2
            expected.append((reward, [(number + row) % 256 for row in window], window[2:], ends))
    found = indices(replay)
    assert len(found) == len(expected)
    batch = replay.pool.gather(torch.tensor(found))
    for at, (reward, window, rows, ends) in enumerate(expected):
        assert float(batch.reward[at]) == pytest.approx(reward)
        assert batch.frames[at, :, 0, 0, 0].tolist() == window
        assert (batch.mask[at] * 255).round()[:, 0, 0].tolist() == [row * (row % 3 != 0) for row in rows]
        assert batch.mask_valid[at].tolist() == [row % 3 != 0 for row in rows]
        assert bool(batch.not_done[at] == 0) == ends
        stack = replay.pool.observation(torch.tensor([found[at]]))[0].view(3, 3, SIDE, SIDE)
        assert torch.equal(stack, batch.frames[at, :3])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(0, 100))
def test_a_batch_holds_admitted_transitions_without_repetition(batch, seed):
    replay = make_replay(seed=seed, admission="recommended", filter_steps=10**9, random_steps=0)
    for number in range(3):
        replay.add(Recorded(number, 30), Knowing(lambda _, step: int(step % 3 == 0)))
    assert len(replay) == 30
    allowed = set(indices(replay))
    replay.pool.gather = lambda index, _: index
    drawn = replay.sample(batch).tolist()
    assert len(set(drawn)) == batch
    assert set(drawn) <= allowed


def test_every_transition_gets_its_turn_equally():
    replay = make_replay()
    replay.add(Recorded(0, 20), Knowing())
    replay.pool.gather = lambda index, _: index
    counts = np.bincount(torch.cat([replay.sample(5) for _ in range(4000)]).numpy(), minlength=21)
    assert counts[20] == 0
    assert abs(counts[:20] - 1000).max() < 150  # σ ≈ 27


def test_time_outs_bootstrap_and_ends_do_not():
    for ending, expected in (("success", 1.0), ("collisions", 0.0), ("off_road", 0.0)):
        replay = make_replay()
        replay.add(Recorded(0, 5, ending), Knowing())
        batch = replay.pool.gather(torch.arange(5))
        assert batch.not_done.flatten().tolist() == [1.0, 1.0, 1.0, 1.0, expected]


def test_only_the_driver_s_actions_are_to_be_cloned():
    replay = make_replay()
    policies = ("driver", "noisy_driver", "random", "wander", "trained", "full_throttle")
    for number, policy in enumerate(policies):
        replay.add(Recorded(number, 3, policy=policy), Knowing())
    batch = replay.pool.gather(torch.arange(0, 24, 4))
    assert batch.driver.flatten().tolist() == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]


def build(seed: int) -> SelectiveReplay:
    replay = make_replay(100, seed=seed, admission="recommended", filter_steps=100, random_steps=5)
    for number in range(5):
        policy = "wander" if number % 2 else "noisy_driver"
        replay.add(Recorded(number, 25, policy=policy), Knowing(lambda n, step: (n + step) % 2))
    return replay


def test_restore_continues_the_sampler_s_stream_exactly(tmp_path):
    replay = build(seed=3)
    for _ in range(7):
        replay.sample(8)
    torch.save(replay.state(), tmp_path / "state")
    state = torch.load(tmp_path / "state", weights_only=True)
    again = build(seed=99)  # another filter stream: all it did must be undone
    again.restore(state)
    assert again.composition(0, 0.0) == replay.composition(0, 0.0)
    assert indices(again) == indices(replay)
    for _ in range(3):
        for one, two in zip(replay.sample(8), again.sample(8), strict=True):
            assert torch.equal(one, two)
    # And it goes on alike when more comes in.
    for each in (replay, again):
        each.add(Recorded(5, 25, policy="wander"), Knowing(lambda n, step: (n + step) % 2))
    assert indices(again) == indices(replay)
    assert torch.equal(replay.sample(8).reward, again.sample(8).reward)


def test_the_saved_state_is_a_copy():
    replay = build(seed=3)
    state = replay.state()
    kept = copy.deepcopy(state)
    replay.add(Recorded(9, 60), Knowing())
    replay.sample(8)
    assert state.keys() == kept.keys()
    for name, value in kept.items():
        assert torch.equal(state[name], value) if isinstance(value, torch.Tensor) else state[name] == value, name


NONE = np.empty(0, np.int64)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(ADMISSIONS),
    st.lists(st.tuples(st.integers(1, 15), st.booleans(), st.booleans()), min_size=1, max_size=8),
    st.integers(20, 60),
    st.data(),
)
def test_a_verdict_that_comes_late_judges_as_one_that_came_at_once(rule, episodes, capacity, data):
    """Whenever the verdicts arrive, a transition is kept or dropped by its own δ and its own draw; until then, as
    unjudged, it is in. Initial and terminal ones stay in whatever is said."""
    told = {number: data.draw(st.sampled_from([0, 1, 255])) for number in range(len(episodes))}
    knowledge = Knowing(lambda number, step: told[number] if step % 4 else 0)
    early, late = (make_replay(capacity, seed=5, admission=rule, filter_steps=60, random_steps=12) for _ in range(2))
    recorded, waiting = [], []
    for number, (steps, ends, random) in enumerate(episodes):
        episode = Recorded(number, steps, "collisions" if ends else "success", policy="random" if random else "driver")
        recorded.append(episode)
        early.add(episode, knowledge)
        late.add(episode, knowledge, NONE)
        waiting.append(episode)
        while waiting and data.draw(st.booleans()):
            late.learn(waiting.pop(0), knowledge)
    for episode in waiting:
        (first,) = [sum(n for _, n in late.pool.episodes[:at]) for at, (name, _) in enumerate(late.pool.episodes)
                    if name == episode.name] or [None]  # fmt: skip
        if first is not None:  # nothing has been said yet: nothing is dropped
            assert set(range(first, first + episode.steps)) <= set(indices(late))
        late.learn(episode, knowledge)
    assert indices(late) == indices(early)
    assert late.composition(9, 0.1) == early.composition(9, 0.1)
    ends = {first + count - 2 for first, count in spans(late) if late.pool.not_done[first + count - 2] == 0}
    assert ends <= set(indices(late))
    for learnt in recorded:  # twice is as once
        late.learn(learnt, knowledge)
    assert indices(late) == indices(early)
    early.pool.gather = late.pool.gather = lambda index, _: index
    size = min(len(early), 5)
    assert torch.equal(early.sample(size), late.sample(size))


def spans(replay: SelectiveReplay) -> list[tuple[int, int]]:
    """(first index, frames) of each episode held."""
    counts = [count for _, count in replay.pool.episodes]
    return [(sum(counts[:at]), count) for at, count in enumerate(counts)]


def test_a_late_verdict_drops_and_brings_back_by_delta_and_draw():
    """δ = 1 at decisions 0 … 9: a verdict of 0 drops them all but the end, whatever else has happened since."""
    replay = make_replay(admission="recommended", filter_steps=10**6, random_steps=0)
    early, later = Recorded(0, 10, "off_road"), Recorded(1, 10, policy="trained")
    replay.add(early, Knowing(lambda *_: 0), NONE)
    replay.add(later, Knowing(), NONE)
    assert indices(replay) == [*range(10), *range(11, 21)]
    replay.learn(early, Knowing(lambda *_: 0))
    assert indices(replay) == [9, *range(11, 21)]
    replay.learn(early, Knowing(lambda _, step: int(step in (2, 3))))
    assert indices(replay) == [2, 3, 9, *range(11, 21)]
    replay.learn(later, Knowing(lambda *_: 0), np.array([0, 1]))
    assert indices(replay) == [2, 3, 9, *range(13, 21)]
    assert replay.offered == 20  # judging anew offers nothing


def test_the_composition_is_a_plain_count():
    replay = make_replay(60, admission="recommended", filter_steps=50, random_steps=8)
    episodes = [
        Recorded(0, 20, policy="noisy_driver"),
        Recorded(1, 20, "collisions", policy="random"),
        Recorded(2, 20, policy="trained"),
        Recorded(3, 12, "off_road", policy="trained"),
    ]  # of which the first makes room for the last
    knowledge = Knowing(lambda number, step: (0, 1, 0, 255)[(number + step) % 4])
    for episode, update in zip(episodes, (0, 0, 100, 250), strict=True):
        replay.add(episode, knowledge, update=update)
    assert [name for name, _ in replay.pool.episodes] == ["e-0001", "e-0002", "e-0003"]
    within = set(indices(replay))
    rows = []
    for (first, count), episode, update in zip(spans(replay), episodes[1:], (0, 100, 250), strict=True):
        assert count == episode.steps + 1
        rows += [
            {
                "in": first + step in within,
                "policy": episode.policy,
                "age": 300 - update,
                "known": step % 3 != 0,
                "verdict": knowledge.verdict(episode.number, step),
                "ends": episode.ending != "success" and step == episode.steps - 1,
            }
            for step in range(episode.steps)
        ]
    held = [row for row in rows if row["in"]]
    assert 0 < len(held) < len(rows)

    def share(name: str, wanted: object = True) -> float:
        return sum(row[name] == wanted for row in held) / len(held)

    expected = {
        "delta": max(0.0, 1.0 - 0.5 / 50 * 72), "offered": 72, "transitions": len(held), "frames": 55,
        "admit_rate": len(held) / len(rows), "admit_rate_newest": len(held) / len(rows),
        "dropped": len(rows) - len(held), "known_share": share("known"),
        "student_share": 1.0 - share("known") * 0.75, "staleness": sum(row["age"] for row in held) / len(held),
        "unjudged_share": share("verdict", 255), "reasonable_share": share("verdict", 1),
        "terminal_share": share("ends"), "share_random": share("policy", "random"),
        "share_trained": share("policy", "trained"),
    }  # fmt: skip
    for policy in ("random", "trained"):
        own = [row["in"] for row in rows if row["policy"] == policy]
        expected[f"admit_rate_{policy}"] = sum(own) / len(own)
    assert replay.composition(300, 0.25) == pytest.approx({f"replay/{name}": value for name, value in expected.items()})


def test_the_newest_admit_rate_looks_at_the_newest_decisions_only():
    replay = make_replay(4000, admission="recommended", filter_steps=10**9, random_steps=0)
    replay.add(Recorded(0, 1500), Knowing())
    assert replay.composition(0, 0.0)["replay/admit_rate_newest"] == 1.0
    for number in (1, 2, 3):  # a digest's byte ends at 255
        replay.add(Recorded(number, 250), Knowing(lambda *_: 0))
    assert replay.composition(0, 0.0)["replay/admit_rate_newest"] == pytest.approx(0.25)
    assert replay.composition(0, 0.0)["replay/admit_rate"] == pytest.approx(1500 / 2250)


def test_restore_brings_back_what_was_known_and_judged_then(tmp_path):
    """Between checkpoint and resume somebody annotated everything: the run goes on knowing what it knew."""
    shown = np.array([1, 2, 5])
    replay = make_replay(100, admission="recommended", filter_steps=10**6, random_steps=0)
    replay.add(Recorded(0, 25), Knowing(), shown)
    replay.add(Recorded(1, 25), Knowing(lambda *_: 0))
    replay.sample(8)
    torch.save(replay.state(), tmp_path / "state")
    again = make_replay(100, admission="recommended", filter_steps=10**6, random_steps=0)
    again.add(Recorded(0, 25), Knowing(lambda *_: 0))  # all of it, and other verdicts
    again.add(Recorded(1, 25), Knowing())
    again.restore(torch.load(tmp_path / "state", weights_only=True))
    assert again.composition(7, 0.5) == replay.composition(7, 0.5)
    for name in ("masks", "mask_valid", "verdict"):
        assert torch.equal(getattr(again.pool, name), getattr(replay.pool, name))
    for one, two in zip(replay.sample(8), again.sample(8), strict=True):
        assert torch.equal(one, two)


def test_restore_refuses_a_cache_that_answers_otherwise():
    class Otherwise(Knowing):
        def h_ka(self, frames, states, grid):
            masks, valid = super().h_ka(frames, states, grid)
            return masks // 2, valid

    state = build(seed=3).state()
    for knowledge in (Otherwise(), None):
        other = make_replay(100, admission="recommended", filter_steps=100, random_steps=5)
        for number in range(5):
            shown = NONE if knowledge is None else None
            other.add(Recorded(number, 25), knowledge or Knowing(), shown)
        with pytest.raises(SemoreError, match=r"masks are no longer those of the checkpoint.*--run NAME"):
            other.restore(state)


def test_restore_refuses_other_episodes():
    state = build(seed=3).state()
    other = make_replay()
    other.add(Recorded(0, 25), Knowing())
    with pytest.raises(SemoreError, match="rollouts have changed"):
        other.restore(state)


def test_a_starved_buffer_says_what_to_do():
    replay = make_replay()
    replay.add(Recorded(0, 4), Knowing())
    with pytest.raises(SemoreError, match=r"holds 4 transitions.* batch of 5.*--episodes.*--replay\.filter_steps"):
        replay.sample(5)
    assert len(replay.sample(4).action) == 4


def test_an_episode_larger_than_the_pool_is_refused():
    with pytest.raises(SemoreError, match="pool_frames"):
        make_replay(10).add(Recorded(0, 10), Knowing())


def test_a_pool_larger_than_memory_is_refused_before_it_is_made():
    with pytest.raises(SemoreError, match="GiB"):
        FramePool(View(128, 6, 1, "published"), 10**9)


def test_the_forecast_is_what_the_pool_holds():
    pool = FramePool(VIEW, 37)
    assert forecast_bytes(VIEW, 37) == sum(store.nbytes for store in pool._stores())


def test_actions_held_for_another_skip_are_refused():
    with pytest.raises(SemoreError, match="frame_skip 2"):
        make_replay(view=View(SIDE, GRID, 2, "published")).add(Recorded(0, 10, repeat=3), Knowing())
