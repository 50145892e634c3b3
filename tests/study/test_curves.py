"""Learning curves in numbers: what is measured of runs, finished or under way, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from semore.datasets.atomic_io import write_json
from semore.datasets.errors import SemoreError
from study import curves
from study.curves import HEADER, draw, grouped, read_curve, rewards_of_drivers, row


def make_run(root: Path, name: str, seed: int, rewards: dict[int, float], method: str = "sac", **more: float) -> Path:
    """A run of 400 updates that has got as far as its last validation: nothing tells that it is finished."""
    folder = root / name
    folder.mkdir()
    settings = {"scenario": "HighBeam", "method": method, "seed": seed, "schedule": {"updates": 400}}
    write_json(folder / "settings.json", {"settings": settings})
    lines = ["update,metric,value", "50,loss/q,0.5"]
    for update, reward in rewards.items():
        measured = {"reward": reward, "steer": update / 1000, "brake": 0.25} | more
        lines += [f"{update},validation/{metric},{value}" for metric, value in measured.items()]
    (folder / "metrics.csv").write_text("\n".join([*lines, f"{max(rewards, default=0) + 50},valida"]))
    return folder


def cells(*runs: Path, driver: float | None = 100.0, by: str = "method") -> dict[str, str]:
    ((names, group),) = grouped([curve for run in runs if (curve := read_curve(run, by))]).items()
    return dict(zip(HEADER, row(*names, group, driver), strict=True))


RISING, FALLING = {100: 0.0, 200: 40.0, 300: 60.0, 400: 80.0}, {100: 20.0, 200: 90.0, 300: 10.0, 400: 50.0}


def test_a_group_is_measured_over_its_seeds(tmp_path):
    found = cells(make_run(tmp_path, "b-s2", 2, FALLING), make_run(tmp_path, "a-s1", 1, RISING))
    assert (found["seeds"], found["updates"]) == ("1, 2", "400")
    assert found["last half"] == "55 (60, 50)"  # of updates 200, 300 and 400
    assert (found["std over seeds"], found["of mean"]) == ("7", "13%")
    assert found["largest fall"] == "40 (80)"  # 0 and 90 − 10
    assert found["area"] == "46"  # of (0/2 + 40 + 60 + 80/2) / 3 and (20/2 + 90 + 10 + 50/2) / 3
    assert found["updates to half the driver's"] == "300, 200"
    assert found["beyond half at last"] == "2 of 2"
    assert (found["steer"], found["steer change"], found["brake"]) == ("0.300", "–", "0.250")


def test_runs_under_way_count_as_far_as_they_went(tmp_path):
    found = cells(make_run(tmp_path, "a-s1", 1, {100: 10.0}, steer_change=0.5), driver=None)
    assert (found["updates"], found["last half"], found["area"], found["largest fall"]) == (
        "100*",
        "10 (10)",
        "10",
        "0 (0)",
    )
    assert (found["std over seeds"], found["of mean"], found["beyond half at last"]) == ("–", "–", "–")
    assert found["steer change"] == "0.500"
    assert read_curve(make_run(tmp_path, "a-s2", 2, {})) is None
    cut = read_curve(make_run(tmp_path, "a-s3", 3, RISING), last=200)
    assert cut is not None
    assert (cut.updates.tolist(), cut.planned) == ([100, 200], 200)


def test_nobody_reaches_what_is_too_far(tmp_path):
    found = cells(make_run(tmp_path, "a-s1", 1, RISING), driver=500.0)
    assert (found["updates to half the driver's"], found["beyond half at last"]) == ("–", "0 of 1")


def test_groups_go_by_method_or_by_name_and_have_each_seed_once(tmp_path):
    runs = [
        make_run(tmp_path, name, 1, RISING, method)
        for name, method in (("HighBeam-wide-seed1", "sac"), ("narrow-s1", "sac"), ("x", "semore"))
    ]
    by_name = grouped([curve for run in runs if (curve := read_curve(run, "name"))])
    assert list(by_name) == [("HighBeam", "wide"), ("HighBeam", "narrow"), ("HighBeam", "x")]
    with pytest.raises(
        SemoreError, match="HighBeam, sac: several runs have the same training seed; group by the runs' names"
    ):
        grouped([curve for run in runs if (curve := read_curve(run))])


def test_the_picture_has_a_panel_for_each_scenario(tmp_path):
    groups = grouped([curve for run in (make_run(tmp_path, "a-s1", 1, RISING),) if (curve := read_curve(run))])
    draw(groups, {"HighBeam": 100.0}, tmp_path / "one.png")
    draw(groups | {("JayWalk", "sac"): groups["HighBeam", "sac"]}, {}, tmp_path / "two.png")
    one, two = (Image.open(tmp_path / f"{name}.png").size for name in ("one", "two"))
    assert one[0] < two[0]


def test_the_command_names_what_it_leaves_out(tmp_path, monkeypatch, capsys):
    runs = [make_run(tmp_path, "a-s1", 1, RISING), make_run(tmp_path, "begun-s2", 2, {})]
    out = tmp_path / "made" / "curves"
    monkeypatch.setattr(sys, "argv", ["curves", *map(str, runs), "--driver", "highbeam=100", "--out", str(out)])
    curves.main()
    assert "left out: begun-s2." in capsys.readouterr().out
    assert "| HighBeam | sac | 1 | 400 |" in out.with_suffix(".md").read_text()
    assert out.with_suffix(".png").exists()
    with pytest.raises(SemoreError, match="'fast' is not SCENARIO=REWARD"):
        rewards_of_drivers(["fast"])
