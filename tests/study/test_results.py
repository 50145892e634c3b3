"""The study's results: tables from made-up CSV files with known means, pages whose bytes do not change, pictures."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from verdict_words import said

from semore.datasets.atomic_io import write_json
from semore.datasets.errors import SemoreError
from semore.evaluate import statistics
from semore.evaluate.compared import compare
from study.results.__main__ import draw_all, write_page
from study.results.collect import collect_results
from study.results.files import WORLD, CurvePoint, Episode, Results, RunRecord, read_results
from study.results.pages import WRITERS, fill, skeleton
from study.results.summary import claim, cost, scores
from study.results.tables import TABLES, groups_of, table

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(2_000_000, 2_000_004)


def record(part: str, label: str, method: str, seed: int, scenario: str = "JayWalk", **more: object) -> RunRecord:
    told = label if label == method else f"{method}-{label}"
    values = {"reward": "published", "changes": "", "cpu_training": 60.0, "cpu_driving": 12.0} | more
    return RunRecord(
        part=part, label=label, run=f"{scenario}-{told}", method=method, scenario=scenario, train_seed=seed,
        updates=100, decisions=900, seconds=70.0, best_update=50, validation_reward=1.5, student_auc=0.9,
        constant_auc=0.8, weights_sha256="ab", **values,
    )  # fmt: skip


def episodes(
    run: RunRecord, reward: float, policy: str = "trained", seeds: range = SEEDS, **more: object
) -> list[Episode]:
    """Test episode i has `reward` + 10 i; the first one ends in a collision."""
    return [
        Episode(
            run.part, run.run, run.method, run.scenario, run.reward, run.train_seed, policy, seed,
            "success" if number else "collisions", reward + 10 * number, 200.0, 0.0 if number else 4000.0, 0.1, 0.25,
            100, **more,
        )
        for number, seed in enumerate(seeds)
    ]  # fmt: skip


def made_up(study: str = "study") -> Results:
    """Semore 20 ahead of SAC over two seeds, in main's table; an ablation; a driver without a run."""
    semore, sac = ([record("main", method, method, seed) for seed in (1, 2)] for method in ("semore", "sac"))
    full, ablation = record("ablations", "full", "semore", 1), record("ablations", "no-refresh", "semore", 1)
    full = RunRecord(**{**vars(full), "run": semore[0].run})
    driven = [*episodes(semore[0], 100.0), *episodes(semore[1], 110.0)]
    driven += [*episodes(sac[0], 80.0), *episodes(sac[1], 90.0), *episodes(ablation, 40.0)]
    driven += episodes(semore[0], -5.0, "trained_grey")
    driver = [
        Episode(WORLD, "", "", "JayWalk", "published", 0, "driver", seed, "success", 450.0, 400.0, 0.0, 0.0, 0.1, 500)
        for seed in SEEDS
    ]
    curves = [
        CurvePoint(run.run, run.train_seed, update, 10 * update, float(update))
        for run in (*semore, *sac)
        for update in (50, 100)
    ]
    # SAC's runs ended first: the tables are in another order.
    return Results(study, [*sac, *semore, full, ablation], curves, [*driven, *driver])


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_a_table_tells_the_known_means_and_the_blind_rows():
    text = table(made_up(), "main-JayWalk")
    assert ".venv/bin/python -m study --parts main rivals && .venv/bin/python -m study.results\n" in text
    header, _, semore, sac, grey, driver = cells(text)
    told = dict(zip(header[3:], semore[3:], strict=True))
    assert semore[:3] == ["Semore", "2 × 4", "120 ± 12"]  # 100 … 130 and 110 … 140
    assert (told["each training seed"], told["verdict"], told["CPU s"]) == ("115, 125", "", "60")
    assert (told["distance m"], told["crash N·s"], told["whole way"]) == ("200", "1000", "75%")
    assert (told["collided"], told["brake"]) == ("25%", "0.250")
    assert sac[:3] == ["SAC", "2 × 4", "100 ± 12"]
    assert sac[4] == "+20"
    assert sac[6] == "no verdict: 4 of 50 test seeds, 2 of 5 training seeds"
    assert (grey[0], grey[2], grey[5]) == ("Semore, shown grey", "10 ± 11", "+105 … +105")
    assert driver[:5] == ["rule-based driver (privileged)", "4", "450 ± 0", "450 … 450", "-330"]
    assert driver[6] == "no verdict: 4 of 50 test seeds, 2 of 5 training seeds"
    assert said(text) == []


def test_a_run_of_another_part_is_compared_on_the_training_seeds_that_both_have():
    full, ablation, *_ = cells(table(made_up(), "ablations-JayWalk"))[2:]
    assert full[:3] == ["Semore", "1 × 4", "115 ± 11"]
    assert ablation[0] == "no refresh"
    assert ablation[4] == "+60"
    assert ablation[6] == "no verdict: 4 of 50 test seeds, 1 of 5 training seeds"
    assert "main ablations" in table(made_up(), "ablations-JayWalk")


def test_failed_episodes_are_counted_and_in_no_mean():
    results = made_up()
    lost = Episode(**{**vars(results.episodes[0]), "ending": "simulator_failed", "episode_reward": -999.0})
    changed = Results("study", results.runs, results.curves, [lost, *results.episodes[1:]])
    semore = cells(table(changed, "main-JayWalk"))[2]
    assert semore[1] == "2 × 4 (1 failed)"
    assert semore[2].startswith("123 ±")  # without the 100 of eight that have 120


def test_runs_of_other_updates_or_size_have_no_verdict():
    runs = [record("sensitivity", "full", "semore", seed) for seed in range(5)]
    other = [
        record("sensitivity", "wide", "semore", seed, changes="agent.encoder.channels=(8, 8)") for seed in range(5)
    ]
    longer = [replace(record("sensitivity", "long", "semore", seed), updates=200) for seed in range(5)]
    driven = [
        each
        for number, own in enumerate((runs, other, longer))
        for run in own
        for each in episodes(run, 100.0 - 30 * number, seeds=range(50))
    ]
    _, wide, long = cells(table(Results("study", [*runs, *other, *longer], [], driven), "sensitivity-JayWalk"))[2:]
    assert (wide[6], long[6]) == ("no verdict: unequal size", "no verdict: unequal updates (100, 200)")


def test_without_semore_nothing_is_compared():
    results = made_up()
    others = Results("study", [each for each in results.runs if each.method == "sac"], [], results.episodes)
    (sac,) = groups_of(others, TABLES["main-JayWalk"])
    assert cells(table(others, "main-JayWalk"))[2][4:7] == ["", "", ""]
    assert f"{compare(sac, sac).difference.mean:+.0f}" == "+0"
    assert claim(others) == scores(others) == "Nothing of this has been trained yet."


def everywhere(offset: float = 20.0, train_seeds: range = range(1, 3), seeds: range = SEEDS) -> Results:
    """Three scenarios: in each Semore is `offset` ahead of SAC and DeepMDP and 10 behind DrQ; CURL in JayWalk only."""
    level = {"semore": 100.0, "sac": 100.0 - offset, "deepmdp": 100.0 - offset, "drq": 110.0}
    scenarios = ("JayWalk", "HighBeam", "HighWay")
    runs = [
        record("main", method, method, seed, name) for name in scenarios for method in level for seed in train_seeds
    ]
    curl = record("main", "curl", "curl", 1)
    driven = [each for run in runs for each in episodes(run, level[run.method], seeds=seeds)]
    driven += episodes(curl, 500.0, seeds=seeds)
    for name in scenarios:
        for policy, reward in (("random", -85.0), ("fast_driver", 315.0)):
            own = record(WORLD, "", "", 0, name)
            driven += [Episode(**{**vars(one), "run": ""}) for one in episodes(own, reward, policy, seeds)]
    return Results("study", [*runs, curl], [], driven)


def test_the_claim_is_judged_against_sac_deepmdp_and_the_best_other(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 300)
    results = everywhere(train_seeds=range(1, 6), seeds=range(50))
    jaywalk, highbeam, _ = cells(claim(results))[2:]
    assert highbeam == ["HighBeam", "+20 (+20 … +20)", "+20 (+20 … +20)", "-10 (-10 … -10)", "DrQ", "no"]
    assert jaywalk[3:] == ["-400 (-400 … -400)", "CURL", "no verdict: 1 of 5 training seeds"]
    slow = [each for each in results.episodes if each.method not in ("drq", "curl")]
    fewer = Results("study", [each for each in results.runs if each.method not in ("drq", "curl")], [], slow)
    assert {line[-1] for line in cells(claim(fewer))[2:]} == {"yes"}
    little = cells(claim(everywhere()))[2:]
    assert little[1][-1] == "no verdict: 4 of 50 test seeds, 2 of 5 training seeds"
    assert said(claim(everywhere()) + scores(everywhere())) == []


def test_scores_over_all_scenarios_are_of_methods_that_were_in_all_of_them():
    lack = "no verdict: 4 of 50 test seeds, 2 of 5 training seeds"
    semore, sac, _, drq = cells(scores(everywhere(40.0)))[2:]
    assert semore[:5] == ["Semore", "0.46", "0.46", "0.46", "0.46"]  # (115 + 70) / 400
    assert [sac[4], *sac[6:]] == ["0.36", "+0.10", "+0.10 … +0.10", lack, "100%", "100% … 100%"]
    assert drq[6:10] == ["-0.03", "-0.03 … -0.02", lack, "0%"]  # 10 of 400


def test_a_run_costs_once_whatever_parts_it_is_in():
    rows = cells(cost(made_up()))
    assert rows[2] == ["main", "4", "0.07", "0.01", "0.08"]
    assert rows[-1][:2] == ["all", "5"]


def test_files_are_read_as_they_were_written_and_stay_small(tmp_path):
    results = made_up()
    written = results.write(tmp_path)
    assert {path.name for path in written} == {
        "study-runs.csv", "study-curves.csv", "study-episodes-main.csv", "study-episodes-ablations.csv",
        "study-episodes-world.csv",
    }  # fmt: skip
    read = read_results(tmp_path, "study")
    assert list(read.runs) == list(results.runs)
    assert list(read.curves) == list(results.curves)
    assert sorted(map(str, read.episodes)) == sorted(map(str, results.episodes))
    before = {path: path.read_bytes() for path in written}
    assert {path: path.read_bytes() for path in read.write(tmp_path)} == before
    line = (tmp_path / "study-episodes-main.csv").read_text().splitlines()[1]
    assert len(line) * 75 * 100 < 1e6  # the largest part: 75 runs of 100 episodes
    (tmp_path / "study-runs.csv").write_text("part,label\n")
    with pytest.raises(SemoreError, match=r"study-runs\.csv: columns"):
        read_results(tmp_path, "study")


def test_a_page_keeps_its_prose_and_the_same_files_give_the_same_bytes(tmp_path):
    made_up().write(tmp_path / "results")
    page = tmp_path / "results.md"
    page.write_text("Before.\n\n<!-- table: main-JayWalk -->\nold\n<!-- end -->\n\nAfter.\n")
    write_page(page, tmp_path / "results")
    first = page.read_bytes()
    assert first.startswith(b"Before.\n\n<!-- table: main-JayWalk -->\n<!-- not run: hours")
    assert b"```bash\n.venv/bin/python -m study --parts" in first
    assert first.endswith(b"|\n<!-- end -->\n\nAfter.\n")
    assert b"old" not in first
    write_page(page, tmp_path / "results")
    assert page.read_bytes() == first


def test_a_table_of_another_study_says_so():
    page = fill("<!-- table: final main-JayWalk -->\n<!-- end -->", made_up)
    assert "study --parts main rivals --study final && .venv/bin/python -m study.results --study final\n" in page


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("<!-- table: main-Mars -->\n<!-- end -->", "unknown table 'main-Mars'"),
        ("<!-- table: cost -->\n<!-- table: cost -->\n<!-- end -->", "has no `<!-- end -->`"),
        ("<!-- table: cost -->\n", "has no `<!-- end -->`"),
    ],
)
def test_a_page_that_cannot_be_filled_is_refused(page, says):
    with pytest.raises(SemoreError, match=says):
        fill(page, made_up)


def test_an_empty_study_gives_a_page_with_every_place(tmp_path):
    write_page(tmp_path / "results.md", tmp_path)
    assert (tmp_path / "results.md").read_text().count("Nothing of this has been trained yet.") == len(WRITERS)
    assert all(f"<!-- table: {name} -->" in skeleton() for name in WRITERS)


def test_the_committed_page_is_what_the_committed_files_give(tmp_path):
    committed = ROOT / "study" / "docs" / "results.md"
    page = tmp_path / "results.md"
    page.write_bytes(committed.read_bytes())
    write_page(page, ROOT / "study" / "docs" / "results")
    assert page.read_bytes() == committed.read_bytes()


def test_prose_says_no_verdict_word_of_a_study_of_32_test_seeds():
    readme = (ROOT / "README.md").read_text()
    (claim_of_the_readme,) = re.findall(
        r"## Does the claim hold\?\n(.*?)\n`\.venv/bin/python -m study` trains", readme, re.DOTALL
    )
    assert said(claim_of_the_readme) == []
    assert said((ROOT / "study" / "docs" / "results.md").read_text()) == []


def test_pictures_show_the_study(tmp_path):
    drawn = draw_all(made_up(), tmp_path)
    assert [path.name for path in drawn] == [
        "study-overview.png", "study-JayWalk.png", "study-HighBeam.png", "study-HighWay.png",
    ]  # fmt: skip
    assert all(np.asarray(Image.open(path).convert("L")).std() > 10 for path in drawn[:2])


def test_a_study_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    write_json(tmp_path / "study" / "study.json", {})
    with pytest.raises(SemoreError, match=r"no study\.json; studies in .*: study. Choose another --study") as refused:
        collect_results(tmp_path / "nope")
    assert f"`python -m study --runs {tmp_path} --study nope`" in str(refused.value)
