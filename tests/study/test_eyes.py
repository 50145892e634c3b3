"""The table of who needs eyes: one drive serves both rewards, and the verdicts follow the paired intervals."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from semore.collect.env import DrivingEnv
from semore.collect.policies import make_policy
from semore.collect.rollout import drive
from semore.datasets.errors import SemoreError
from semore.evaluate.episodes import Row, evaluate_policies
from study.eyes import CONSTANTS, POLICIES, BlindCourse, comparison, rewards

ROW = Row("driver", "JayWalk", "hard_high_light", 0, "success", 100.0, 110.0, 0.0, 0.1, 0.5, 0.0, 500)


def test_the_safety_reward_of_a_drive_is_the_one_it_would_have_got(tmp_path: Path) -> None:
    seeds = range(2_000_000, 2_000_004)
    rows = evaluate_policies(BlindCourse("HighWay"), ["blind_driver"], seeds, tmp_path / "rows.csv", 1)
    envs = [DrivingEnv("HighWay", size=8, camera=8, reward="safety") for _ in seeds]
    safety = [info["metrics"]["reward"] for _, info in drive(envs, make_policy("blind_driver"), seeds)]
    assert rewards(rows, "safety") == pytest.approx(safety, rel=1e-9)
    assert rewards(rows, "published") == [row.reward for row in rows]
    assert min(published - careful for published, careful in zip(rewards(rows, "published"), safety, strict=True)) > 5


def _rows(episodes: int = 50, **gaps: float) -> list[Row]:
    """So many episodes a policy: the driver has 100 + k, each rival that less its gap."""
    rows = []
    for policy in POLICIES:
        gap = 0.0 if policy == "driver" else gaps.get(policy, 50.0)
        rows += [replace(ROW, policy=policy, seed=k, reward=100.0 + k - gap * (k % 3)) for k in range(episodes)]
    return rows


def test_the_verdict_follows_the_interval() -> None:
    table = {cells[0].split(" ")[0]: cells for cells in comparison(_rows(random=-20.0, full_throttle=0.0), "published")}
    assert table["driver"][2:4] == ("", "")
    assert table["blind_driver"][3] == "ahead"
    assert table["random"][3] == "behind"
    assert table["full_throttle"][3] == "undecided"
    told = {cells[3] for cells in comparison(_rows(49), "published")}
    assert told == {"", "no verdict: 49 of 50 test seeds"}


def test_only_the_best_constant_is_shown() -> None:
    best = CONSTANTS[4]
    names = [cells[0] for cells in comparison(_rows(**{best: 10.0}), "published")]
    assert names == ["driver", "blind_driver", "full_throttle", f"{best} (best of {len(CONSTANTS)})", "random"]


def test_the_command_writes_a_table_and_resumes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "study.eyes", "--scenarios", "[HighBeam]", "--episodes", "2"]
    command += ["--runs", str(tmp_path / "runs"), "--table", str(tmp_path / "eyes.md")]
    first, again = (subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2))
    assert (tmp_path / "eyes.md").read_text().count("| HighBeam |") == 10
    assert "episodes/s" in first.stderr + first.stdout
    assert "episodes/s" not in again.stderr + again.stdout
    refused = subprocess.run([*command[:-6], "--episodes", "1"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert "episodes 1 must be 2" in refused.stderr


def test_an_unknown_constant_is_refused() -> None:
    with pytest.raises(SemoreError, match="two numbers"):
        make_policy("constant:left")
