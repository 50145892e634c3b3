"""A simulator that fails during an evaluation: what is redone, what is given up, and that no mean knows of it."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
import torch
from test_evaluate import Inline
from test_lost_episodes import Fragile

from semore.collect.env import DrivingEnv
from semore.collect.policies import Policy, make_policy
from semore.collect.rollout import ATTEMPTS
from semore.datasets.errors import SemoreError
from semore.evaluate import episodes
from semore.evaluate.compared import Side, compare, frame
from semore.evaluate.episodes import SIMULATOR_FAILED, Row, driven, evaluate_policies, read_rows
from semore.evaluate.statistics import paired_difference
from semore.evaluate.table import differences, failures, results, spread

SEEDS = range(2_000_000, 2_000_006)
POLICIES = ("full_throttle", "driver")


@dataclass(frozen=True)
class FragileCourse:
    """Short episodes in a world that loses seeds at given steps."""

    losses: dict[int, list[int]] = field(default_factory=dict)
    together: int = 4
    scenario: str = "JayWalk"
    weather: str = ""
    policy_digest: str = ""

    def envs(self, count: int) -> list[DrivingEnv]:
        losses = {seed: list(steps) for seed, steps in self.losses.items()}  # every policy meets them anew
        make = partial(DrivingEnv, "JayWalk", size=16, camera=16, max_episode_steps=20)
        return [make(simulator=Fragile(losses)) for _ in range(count)]

    def policy(self, name: str) -> Policy:
        return make_policy(name)


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    """Jobs are done in this process."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(episodes, "ProcessPoolExecutor", Inline)
    monkeypatch.setattr(episodes, "as_completed", list)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def lost() -> dict[int, list[int]]:
    """Seed 1 is lost twice and drives then; seed 4 is lost again and again, mostly far into the episode."""
    return {SEEDS[1]: [0, 15], SEEDS[4]: [20] * ATTEMPTS}


def test_failed_episodes_are_rows_of_their_own_and_the_others_are_as_if_nothing_had_been(lost, tmp_path, capsys):
    whole = evaluate_policies(FragileCourse(), POLICIES, SEEDS, tmp_path / "whole.csv", 1)
    rows = evaluate_policies(FragileCourse(lost), POLICIES, SEEDS, tmp_path / "torn.csv", 1)
    assert read_rows(tmp_path / "torn.csv") == rows
    failed = [row for row in rows if row.ending == SIMULATOR_FAILED]
    assert [(row.policy, row.seed) for row in failed] == [(policy, SEEDS[4]) for policy in POLICIES]
    assert all((row.reward, row.steps, row.distance) == (0.0, 0, 0.0) for row in failed)
    assert driven(rows) == [row for row in whole if row.seed != SEEDS[4]]
    told = capsys.readouterr().err
    assert told.count(f"seed {SEEDS[4]} is given up, its simulator failed {ATTEMPTS} times") == 2
    assert told.count(f"seed {SEEDS[1]} is driven again") == 4


def test_no_mean_difference_or_interval_knows_of_them(lost, tmp_path):
    whole = evaluate_policies(FragileCourse(), POLICIES, SEEDS, tmp_path / "whole.csv", 1)
    torn = evaluate_policies(FragileCourse(lost), POLICIES, SEEDS, tmp_path / "torn.csv", 1)
    left = [row for row in whole if row.seed != SEEDS[4]]
    cells, expected = ([list(column.cells) for column in results(rows, "").columns[:-1]] for rows in (torn, left))
    assert cells == expected
    endings = list(results(torn, "").columns[-1].cells)
    assert endings == ["success 5, simulator_failed 1"] * 2
    named = [replace(row, policy="trained" if row.policy == "driver" else row.policy) for row in torn]
    by_hand = paired_difference(
        [row.reward for row in left if row.policy == "driver"],
        [row.reward for row in left if row.policy == "full_throttle"],
    )
    (shown,) = list(differences(named).columns[1].cells)
    assert shown == f"{by_hand.mean:+.1f}"
    assert failures(torn) == "2 episode(s) failed with their simulator and are in no mean; 2 are tried again next time"
    assert failures(left) == ""


def test_a_worker_that_dies_is_said_and_costs_only_its_own_episodes(tmp_path, monkeypatch):
    path, drive = tmp_path / "evaluation.csv", episodes._drive

    def dying(course, policy, seeds):
        if policy == "driver":
            raise BrokenProcessPool("killed")
        return drive(course, policy, seeds)

    monkeypatch.setattr(episodes, "_drive", dying)
    with pytest.raises(SemoreError, match=r"worker died.*run the same command again"):
        evaluate_policies(FragileCourse(), POLICIES, SEEDS, path, 1)
    assert [row.policy for row in read_rows(path)] == ["full_throttle"] * len(SEEDS)


def test_a_later_call_tries_the_failed_ones_again(lost, tmp_path):
    path = tmp_path / "evaluation.csv"
    evaluate_policies(FragileCourse(lost), POLICIES, SEEDS, path, 1)
    rows = evaluate_policies(FragileCourse(), POLICIES, SEEDS, path, 1)
    assert rows == evaluate_policies(FragileCourse(), POLICIES, SEEDS, tmp_path / "whole.csv", 1) == read_rows(path)
    assert SIMULATOR_FAILED not in {row.ending for row in rows}


def test_a_policy_that_nobody_could_drive_has_an_empty_line():
    rows = [Row("driver", "JayWalk", "normal", seed, SIMULATOR_FAILED, 0, 0, 0, 0, 0, 0, 0) for seed in range(3)]
    cells = [cell for column in results(rows, "").columns for cell in column.cells]
    assert cells == ["driver", *[""] * 7, "simulator_failed 3"]


def test_pairs_are_the_seeds_that_both_have_driven():
    def row(seed: int, reward: float, ending: str = "success") -> Row:
        return Row("p", "JayWalk", "normal", seed, ending, reward, 0, 0, 0, 0, 0, 10)

    ours = [row(3, 30.0), row(1, 10.0), row(2, 0.0, SIMULATOR_FAILED)]
    theirs = [row(1, 1.0), row(2, 2.0), row(3, 99.0, "carla_bug"), row(4, 4.0)]
    pair = compare(*(Side("p", frame(rows)) for rows in (ours, theirs)))
    assert [values.tolist() for values in pair.values] == [[[10.0]], [[1.0]]]


def test_an_episode_that_stands_there_twice_is_one_of_the_pairs():
    rows = [Row("p", "JayWalk", "normal", seed, "success", float(seed), 0, 0, 0, 0, 0, 10) for seed in (1, 2, 2)]
    assert Side("p", frame(rows)).rewards.tolist() == [[1.0, 2.0]]


def test_controls_are_means_over_steps_and_the_rest_over_episodes():
    rows = [
        Row("p", "JayWalk", "normal", 1, "success", 10.0, 20.0, 0.0, 0.1, 1.0, 0.0, 300),
        Row("p", "JayWalk", "normal", 2, "collisions", 30.0, 40.0, 4.0, 0.5, 0.0, 1.0, 100),
    ]
    side = Side("p", frame(rows))
    assert side.pooled("reward") == (20.0, 10.0)
    assert side.pooled("crash_intensity") == (2.0, 2.0)
    assert side.pooled("steer") == pytest.approx((0.2, (0.75 * 0.1**2 + 0.25 * 0.3**2) ** 0.5))
    assert spread(side.pooled("brake"), 2) == "0.25 ± 0.43"
