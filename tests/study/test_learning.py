"""Curves and test results of many runs: what is read, counted, compared and written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semore.datasets.atomic_io import write_csv, write_json
from semore.datasets.errors import SemoreError
from semore.evaluate.claims import verdict
from semore.evaluate.compare import significance
from semore.evaluate.episodes import Row, write_rows
from semore.evaluate.runs import by_method, read_run, read_runs, side_of
from semore.evaluate.statistics import across_runs, difference_across_runs
from study.learning import draw


def make_run(root: Path, method: str, seed: int, reward: float, episodes: range = range(5), **settings: object) -> Path:
    """A run's folder: two validations; test episode i has `reward` + i."""
    folder = root / f"{method}-seed{seed}"
    folder.mkdir()
    write_json(folder / "summary.json", {"method": method, "seed": seed, "updates": 40, "rollouts": "r0110u75"})
    write_json(folder / "settings.json", {"settings": {"seed": seed, "agent": {"encoder": {"size": 64}}} | settings})
    lines = ["update,metric,value", "10,loss/q,0.5", "20,replay/offered,300", f"20,validation/reward,{reward}"]
    lines += ["40,replay/offered,500", f"40,validation/reward,{reward + 1}", "40,valida"]
    (folder / "metrics.csv").write_text("\n".join(lines))
    rows = [
        Row(policy, "JayWalk", "normal", 2_000_000 + index, "success", value + index, 9, 0, 0, 0, 0, 50)
        for policy, value in (("trained", reward), ("random", -5.0))
        for index in episodes
    ]
    write_rows(folder / "evaluation.csv", rows)
    return folder


def test_a_run_is_read_whole_and_only_its_trained_policy(tmp_path):
    run = read_run(make_run(tmp_path, "sac", 3, 100.0))
    assert (run.method, run.seed) == ("sac", 3)
    assert run.curve.to_numpy().tolist() == [[20, 300, 100.0], [40, 500, 101.0]]
    assert [row.reward for row in run.episodes()] == [100.0, 101.0, 102.0, 103.0, 104.0]


def test_an_unfinished_run_is_refused_by_name(tmp_path):
    (tmp_path / "begun").mkdir()
    with pytest.raises(SemoreError, match="begun is no run"):
        read_run(tmp_path / "begun")


def test_a_run_whose_trained_policy_was_not_driven_is_refused(tmp_path):
    folder = make_run(tmp_path, "sac", 1, 1.0)
    write_rows(folder / "evaluation.csv", [row for row in read_run(folder).rows if row.policy != "trained"])
    with pytest.raises(SemoreError, match="no row of the trained policy"):
        read_runs([folder])


def test_runs_of_different_test_seeds_are_not_compared(tmp_path):
    runs = [read_run(make_run(tmp_path, "sac", 1, 1.0)), read_run(make_run(tmp_path, "drq", 1, 1.0, range(4)))]
    with pytest.raises(SemoreError, match="different test seeds"):
        by_method(runs)


def test_semore_comes_first_and_files_hold_what_was_read(tmp_path):
    made = (("sac", 2, 10.0), ("sac", 1, 20.0), ("semore", 1, 50.0), ("semore", 2, 60.0))
    groups = by_method([read_run(make_run(tmp_path, *one)) for one in made])
    assert list(groups) == ["semore", "sac"]
    assert [run.seed for run in groups["sac"]] == [1, 2]
    assert side_of("sac", groups["sac"]).rewards[:, 0].tolist() == [20.0, 10.0]
    draw(groups, tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").size == (960, 540)
    cells = [list(column.cells) for column in significance(groups).columns]
    assert cells[1] == ["57 ± 5", "17 ± 5"]
    assert cells[3] == ["57", "17"]
    assert cells[5][0] == ""
    assert cells[5][1].startswith("+40 (")
    assert cells[5][1].endswith("): no verdict: 5 of 50 test seeds, 2 of 5 training seeds")
    assert cells[6] == ["", "1.00 (1.00 … 1.00)"]
    assert cells[7] == ["1: 52, 2: 62 (std 5)", "1: 22, 2: 12 (std 5)"]


def test_tables_end_their_lines_alike_everywhere(tmp_path):
    write_csv(tmp_path / "some.csv", ["method", "reward"], [{"method": "sac", "reward": 1.5}])
    assert (tmp_path / "some.csv").read_bytes() == b"method,reward\nsac,1.5\n"
    with pytest.raises(ValueError, match="seed"):
        write_csv(tmp_path / "some.csv", ["method"], [{"method": "sac", "seed": 1}])
    assert (tmp_path / "some.csv").read_bytes() == b"method,reward\nsac,1.5\n"


class TestAcrossRuns:
    def test_seeds_that_differ_widen_the_interval_more_than_their_episodes_tell(self):
        generator = np.random.default_rng(0)
        episodes = generator.normal(0, 1, (5, 200))
        apart = episodes + np.array([-20, -10, 0, 10, 20])[:, None]
        close, wide = across_runs(episodes), across_runs(apart)
        assert close.high - close.low < 0.5
        assert wide.high - wide.low > 10
        assert wide.mean == pytest.approx(apart.mean())

    def test_paired_episodes_cancel_what_they_share(self):
        """Two methods that differ by 1 on every episode of very different difficulty: the pairing shows it."""
        hard = np.random.default_rng(1).normal(0, 100, 50)
        ours, theirs = np.stack([hard + 1.0] * 3), np.stack([hard] * 3)
        found = difference_across_runs(ours, theirs)
        assert (found.mean, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0))
        assert verdict(found, ()) == "ahead"

    def test_unequal_episodes_are_refused(self):
        with pytest.raises(ValueError, match="equally many"):
            difference_across_runs(np.zeros((2, 3)), np.zeros((2, 4)))
