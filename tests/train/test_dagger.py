"""What is imitated where somebody else drove: the rule-based driver's answer to the recorded state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from semore.collect.camera import Sight
from semore.collect.env import DrivingEnv
from semore.collect.expert import CRUISE
from semore.collect.policies import make_policy
from semore.collect.recorder import record
from semore.collect.simulators import make_simulator
from semore.datasets.errors import SemoreError
from semore.datasets.frame_pool import UNJUDGED, FramePool, rows_of
from semore.datasets.frame_view import View
from semore.datasets.rollouts.schema import ACTOR_COLUMN, EGO_COLUMN, KIND_INDEX
from semore.datasets.rollouts.store import Episode, Rollouts
from semore.train.admission import ReplaySettings
from semore.train.dagger import CARE, expert_actions
from semore.train.replay import SelectiveReplay
from semore.train.schedule import ScheduleSettings
from semore.train.settings import TrainSettings

SKIP = 2


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Episode]:
    """The same start driven by the driver itself, by one that ignores everybody, and at random."""
    found = {}
    for policy in ("driver", "blind_driver", "wander"):
        rollouts = Rollouts(tmp_path_factory.mktemp(policy) / "rollouts.zarr")
        rollouts.create()
        env = DrivingEnv(
            "JayWalk", "", make_simulator("embedded", 32), 32, 32, SKIP, max_episode_steps=160,
        )  # fmt: skip
        about = {"policy": policy, "action_repeat": SKIP, "reward": "published"}
        (name,) = record(rollouts, [env], make_policy(policy), [3], about)
        found[policy] = rollouts.episode(name)
    return found


def test_where_the_driver_drove_the_advice_is_what_it_did_at_that_speed(recorded, monkeypatch):
    monkeypatch.setattr("semore.train.dagger.FAST", CRUISE)
    episode = recorded["driver"]
    action = episode.read("action")["action"][rows_of(episode, SKIP)[:-1]]
    np.testing.assert_allclose(expert_actions(episode, SKIP)[:, :2], action, atol=1e-6)


def test_on_a_free_road_the_advice_is_to_drive_as_fast_as_the_car_goes(recorded):
    episode = recorded["blind_driver"]
    speed = np.hypot(
        *(episode.read("ego")["ego"][rows_of(episode, SKIP)[:-1], EGO_COLUMN[axis]] for axis in ("vx", "vy"))
    )
    given = expert_actions(episode, SKIP)
    assert (given[(given[:, 2] == 1.0) & (speed < 23.0), 1] == 1.0).all()


@pytest.mark.parametrize("policy", ["blind_driver", "wander"])
def test_there_is_advice_for_every_decision_whoever_drove(recorded, policy):
    given = expert_actions(recorded[policy], SKIP)
    assert given.shape == (len(rows_of(recorded[policy], SKIP)) - 1, 3)
    assert given.dtype == np.float32
    assert np.abs(given[:, :2]).max() <= 1.0


class Alone:
    """An episode as recorded, or with everybody else put far away."""

    def __init__(self, episode: Episode, actors: np.ndarray[Any, Any]) -> None:
        self.steps, self._arrays = episode.steps, {**episode.read("ego"), "actors": actors}

    def read(self, *names: str) -> dict[str, np.ndarray[Any, Any]]:
        return {name: self._arrays[name] for name in names}


def test_decisions_weigh_more_where_somebody_is_in_the_way(recorded):
    ego, actors = recorded["blind_driver"].read("ego", "actors").values()
    ahead = actors.copy()
    ahead[:, :, ACTOR_COLUMN["x"]] += 1_000.0
    assert set(expert_actions(Alone(recorded["blind_driver"], ahead), SKIP)[:, 2]) == {1.0}  # type: ignore[arg-type]
    # Somebody stands twenty metres ahead of wherever the ego is.
    for axis, lane in (("x", "lane_dx"), ("y", "lane_dy")):
        ahead[:, 0, ACTOR_COLUMN[axis]] = ego[:, EGO_COLUMN[axis]] + 20.0 * ego[:, EGO_COLUMN[lane]]
    ahead[:, 0, ACTOR_COLUMN["vx"]] = ahead[:, 0, ACTOR_COLUMN["vy"]] = 0.0
    ahead[:, 0, ACTOR_COLUMN["kind"]] = KIND_INDEX["pedestrian"]
    given = expert_actions(Alone(recorded["blind_driver"], ahead), SKIP)  # type: ignore[arg-type]
    moving = (
        np.hypot(ego[:, EGO_COLUMN["vx"]], ego[:, EGO_COLUMN["vy"]])[rows_of(recorded["blind_driver"], SKIP)[:-1]] > 15
    )
    assert moving.sum() > 20
    assert (given[moving, 1] < 0).all()
    assert (given[moving, 2] == CARE).all()


def in_the_way(episode: Episode, *metres: float) -> Alone:
    """The episode with people standing so far ahead of wherever the ego is, and all others far away."""
    ego, actors = episode.read("ego", "actors").values()
    moved = actors.copy()
    moved[:, :, ACTOR_COLUMN["x"]] += 1_000.0
    for row, ahead in enumerate(metres):
        for axis, lane in (("x", "lane_dx"), ("y", "lane_dy")):
            moved[:, row, ACTOR_COLUMN[axis]] = ego[:, EGO_COLUMN[axis]] + ahead * ego[:, EGO_COLUMN[lane]]
        moved[:, row, ACTOR_COLUMN["vx"]] = moved[:, row, ACTOR_COLUMN["vy"]] = 0.0
    return Alone(episode, moved)


def test_short_sighted_advice_does_not_depend_on_who_is_too_far_to_be_seen(recorded):
    def given(sight: Sight | None, *metres: float) -> NDArray[np.float32]:
        return expert_actions(in_the_way(recorded["blind_driver"], *metres), SKIP, sight)  # type: ignore[arg-type]

    sight = Sight(64, 5.0)
    for near in ([], [15.0]):
        assert np.array_equal(given(sight, *near), given(sight, *near, 24.0))
        assert np.array_equal(given(sight, *near), given(sight, *near, -5.0, 40.0))
    assert set(given(sight, 24.0)[:, 2]) == {1.0}
    assert (given(sight, 15.0)[:, 2] == CARE).sum() > 20
    assert (given(None, 24.0)[:, 2] == CARE).sum() > 20
    assert (given(Sight(128, 5.0), 24.0)[:, 2] == CARE).sum() > 20


def test_how_far_the_adviser_sees_follows_from_the_pictures_that_the_network_is_shown():
    assert TrainSettings().sight is None
    settings = TrainSettings(advice_pixels=6.0)
    assert settings.sight == Sight(settings.agent.encoder.size, 6.0)
    with pytest.raises(SemoreError, match=r"advice_pixels is -1\.0; it must be at least 0"):
        TrainSettings(advice_pixels=-1.0).validate()


class NoKnowledge:
    """A knowledge set without any records."""

    def h_ka(self, digests: NDArray[np.uint8], states: NDArray[np.uint8], grid: int) -> tuple[Any, Any]:
        return np.zeros((len(digests), grid, grid), np.uint8), np.zeros(len(digests), np.bool_)

    def verdicts(self, digests: NDArray[np.uint8], states: NDArray[np.uint8], words: Any) -> NDArray[np.uint8]:
        return np.full(len(digests), UNJUDGED, np.uint8)


def test_the_replay_hands_out_advice_in_place_of_what_was_done(recorded):
    episode = recorded["wander"]
    replay = SelectiveReplay(
        FramePool(View(32, 8, SKIP, "published"), 200),
        ReplaySettings(),
        0,
        lambda episode: expert_actions(episode, SKIP),
    )
    replay.add(episode, NoKnowledge())  # type: ignore[arg-type]
    decisions = len(rows_of(episode, SKIP)) - 1
    batch = replay.pool.gather(torch.arange(decisions))
    given = torch.from_numpy(expert_actions(episode, SKIP))
    assert torch.equal(batch.advice, given[:, :2])
    assert torch.equal(batch.driver, given[:, 2:])
    assert not torch.equal(batch.advice, batch.action)


def test_the_driver_is_asked_only_where_it_is_imitated():
    assert TrainSettings().asks_driver
    assert not TrainSettings(imitate="recorded").asks_driver
    assert not TrainSettings(schedule=ScheduleSettings(cloning=0.0)).asks_driver
    with pytest.raises(SemoreError, match="imitate 'him'; choose one of recorded, advised"):
        TrainSettings(imitate="him").validate()


def test_refreshes_cannot_have_less_than_no_noise():
    with pytest.raises(SemoreError, match=r"schedule\.refresh_spread is -1\.0; it must be at least 0"):
        TrainSettings(schedule=ScheduleSettings(refresh_spread=-1.0)).validate()


@pytest.mark.parametrize("memory", [-0.1, 1.0])
def test_noise_has_less_memory_than_would_keep_it_as_it_is(memory):
    with pytest.raises(SemoreError, match=rf"refresh_noise_memory is {memory}; it must be at least 0 and below 1"):
        TrainSettings(schedule=ScheduleSettings(refresh_noise_memory=memory)).validate()
