"""Many runs in one table: grouping, what is shared, the paper's form, and the published row."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_learning import make_run
from verdict_words import said

from semore.datasets.atomic_io import read_json, write_json
from semore.datasets.errors import SemoreError
from semore.evaluate import compare, statistics
from semore.evaluate.compare import paper_form, significance
from semore.evaluate.compared import Side, frame
from semore.evaluate.compared import compare as compare_sides
from semore.evaluate.episodes import SIMULATOR_FAILED, Row, read_rows, write_rows
from semore.evaluate.runs import by_method, read_run, shared_cells, shared_seeds, side_of
from semore.evaluate.table import of_pair


def change(folder: Path, **changes: object) -> Path:
    """Change every row of a run's evaluation."""
    rows = read_rows(folder / "evaluation.csv")
    write_rows(folder / "evaluation.csv", [replace(row, **changes) for row in rows])
    return folder


def cells(table) -> list[list[str]]:
    return [list(row) for row in zip(*(column.cells for column in table.columns), strict=True)]


def test_the_paper_s_form(tmp_path):
    folders = [make_run(tmp_path, *one) for one in (("sac", 1, 10.0), ("semore", 1, 50.0), ("semore", 2, 60.0))]
    shown = cells(paper_form(by_method([read_run(folder) for folder in folders])))
    assert shown[0] == ["semore", "2", "10", "57 ± 5", "9 ± 0", "0 ± 0", "0.000 ± 0.000", "0.000 ± 0.000"]
    assert shown[1][:4] == ["sac", "1", "5", "12 ± 1"]
    assert shown[2][:4] == ["random", "", "5", "-3 ± 1"]  # once, not once a run
    published = ["Semore as published, in CARLA", "", "", "201 ± 54", "233 ± 66", "2043 ± 98", "n/a", "n/a"]
    assert shown[3:] == [published]


def test_what_was_published_of_one_scenario_is_not_shown_beside_another(tmp_path):
    run = read_run(change(make_run(tmp_path, "semore", 1, 50.0), scenario="HighWay"))
    assert [row[0] for row in cells(paper_form(by_method([run])))] == ["semore", "random"]


def test_failed_episodes_are_counted_and_in_no_mean(tmp_path):
    folder = make_run(tmp_path, "semore", 1, 50.0)
    rows = read_rows(folder / "evaluation.csv")
    write_rows(folder / "evaluation.csv", [replace(rows[0], ending=SIMULATOR_FAILED, reward=0.0), *rows[1:]])
    run = read_run(folder)
    assert cells(paper_form({"semore": [run]}))[0][2:4] == ["4 (1 failed)", "52 ± 1"]  # of 51, 52, 53, 54
    assert np.array_equal(side_of("", [run]).rewards, [[np.nan, 51.0, 52.0, 53.0, 54.0]], equal_nan=True)


def test_runs_of_one_method_with_other_settings_are_methods_of_their_own(tmp_path):
    folders = [make_run(tmp_path, "semore", seed, 50.0) for seed in (1, 2)]
    grey = make_run(tmp_path, "semore-grey", 1, 5.0)
    write_json(grey / "summary.json", read_json(grey / "summary.json") | {"method": "semore"})
    groups = by_method([read_run(folder) for folder in (*folders, grey)])
    assert {name: [run.name for run in runs] for name, runs in groups.items()} == {
        "semore": ["semore-seed1", "semore-seed2"],
        "semore-grey": ["semore-grey-seed1"],
    }
    with pytest.raises(SemoreError, match="a training seed is there twice"):
        by_method([read_run(folders[0])] * 2)


def test_only_what_all_runs_have_driven_is_compared(tmp_path):
    one, other = make_run(tmp_path, "sac", 1, 10.0), make_run(tmp_path, "drq", 1, 10.0, range(2, 8))
    rows = read_rows(one / "evaluation.csv")
    write_rows(one / "evaluation.csv", [*(replace(row, weather="midnight") for row in rows), *rows])
    runs = [read_run(one), read_run(other)]
    assert shared_cells(runs) == [("JayWalk", "normal")]
    seeds = shared_seeds(runs, ("JayWalk", "normal"))
    assert seeds == {2_000_002, 2_000_003, 2_000_004}
    assert side_of("", [run.within(("JayWalk", "normal"), seeds) for run in runs]).rewards.shape == (2, 3)
    with pytest.raises(SemoreError, match="not driven in the same scenario and weather"):
        shared_cells([runs[0], read_run(change(other, weather="cloudy"))])


def test_the_command_shows_a_table_for_each_shared_cell(tmp_path, monkeypatch, capsys):
    folders = [make_run(tmp_path, *one) for one in (("sac", 1, 10.0), ("semore", 1, 50.0))]
    for folder in folders:
        rows = read_rows(folder / "evaluation.csv")
        dark = [replace(row, scenario="HighBeam", weather="midnight") for row in rows]
        write_rows(folder / "evaluation.csv", [*rows, *dark])
    monkeypatch.setattr(sys, "argv", ["compare", "--runs", *map(str, folders)])
    compare.main()
    shown = capsys.readouterr().out
    assert "JayWalk, normal: mean ± std over pooled episodes, the 5 test seeds of all runs" in shown
    assert "HighBeam, midnight" in shown
    assert shown.count("Semore as published, in CARLA") == 1
    assert shown.count("+40 (+40 … +40): no") == 2
    assert said(shown) == []


def test_who_is_ahead_is_said_of_enough_equal_runs_only(tmp_path, monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 300)

    def told(root: Path, seeds: int, episodes: int, **of_the_last: object) -> str:
        root.mkdir()
        made = [make_run(root, "semore", seed, 50.0, range(episodes)) for seed in range(seeds)]
        made += [make_run(root, "sac", seed, 10.0, range(episodes)) for seed in range(seeds - 1)]
        made.append(make_run(root, "sac", seeds - 1, 10.0, range(episodes), **of_the_last))
        cell = cells(significance(by_method([read_run(folder) for folder in made])))[1][5]
        return cell.partition(": ")[2]

    assert told(tmp_path / "whole", 5, 50) == "ahead"
    assert told(tmp_path / "few", 4, 49) == "no verdict: 49 of 50 test seeds, 4 of 5 training seeds"
    assert told(tmp_path / "small", 5, 50, agent={"encoder": {"size": 32}}) == "no verdict: unequal size"
    assert told(tmp_path / "other", 5, 50, schedule={"refresh_every": 0}) == "no verdict: unequal data"


def test_sides_that_share_no_test_seed_or_drove_nothing_have_nothing_to_compare():
    def side(*seeds: int) -> Side:
        rows = [Row("p", "JayWalk", "normal", seed, "success", 1.0, 9, 0, 0, 0, 0, 50) for seed in seeds]
        return Side("p", frame(rows))

    for other in (side(3), side()):
        pair = compare_sides(side(1, 2), other)
        assert (pair.seeds, pair.lacks) == (0, ("0 of 50 test seeds",))
        assert of_pair("", lambda pair: "told").cell(other, pair) == ""
