"""What the report says of whom is ahead: nothing of little or unequal runs, and of one run alone only of its policy."""

from __future__ import annotations

import pytest
from report_runs import EMBEDDED, make_run
from test_report import REWARDS, Reader, page_of
from verdict_words import said

from semore.datasets.atomic_io import read_json, write_json
from semore.evaluate import statistics
from semore.evaluate.report.narrative import findings, headline
from semore.evaluate.report.results import duels, lines
from semore.evaluate.report.runs import contenders
from semore.evaluate.runs import read_run

ENOUGH = [*REWARDS * 5][:50]


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 300)


@pytest.mark.parametrize(
    ("seeds", "episodes", "of_theirs"),
    [(1, 2, {"updates": 60}), (4, 50, {}), (5, 49, {}), (5, 50, {"updates": 60}), (5, 50, {"rollouts": "others"})],
)
def test_no_verdict_word_stands_in_a_report_of_little_or_unequal_runs(tmp_path, seeds, episodes, of_theirs):
    rewards = [*REWARDS * 5][:episodes]
    ours = [make_run(tmp_path, f"ours{seed}", rewards, seed=seed) for seed in range(seeds)]
    theirs = [make_run(tmp_path, f"theirs{seed}", [one - 20 for one in rewards], "sac", seed) for seed in range(seeds)]
    for folder in theirs:
        write_json(folder / "summary.json", read_json(folder / "summary.json") | of_theirs)
    page = Reader(page_of([*ours, *theirs]))
    assert said(" ".join(page.words)) == []
    words = " ".join(" ".join(page.words).split())
    assert "Semore against SAC: no verdict" in words
    assert f"+20.0 (+20.0 … +20.0), more reward on {episodes} of {episodes} test seeds" in words
    lacks = [f"{episodes} of 50 test seeds"] * (episodes < 50) + [f"{seeds} of 5 training seeds"] * (seeds < 5)
    lacks += ["unequal data"] * ("rollouts" in of_theirs) + ["unequal updates (60, 400)"] * ("updates" in of_theirs)
    assert f"Semore minus SAC has no verdict: {', '.join(lacks)}." in words


def test_enough_equal_runs_have_a_verdict(tmp_path):
    def said_of(name: str, rewards: list[float]) -> str:
        folders = [make_run(tmp_path / name, f"ours{seed}", ENOUGH, seed=seed) for seed in range(5)]
        folders += [make_run(tmp_path / name, f"theirs{seed}", rewards, "sac", seed) for seed in range(5)]
        runs = [read_run(folder) for folder in folders]
        table = lines(contenders(runs), EMBEDDED)
        pairs = duels(table)
        return f"{headline(table, pairs, EMBEDDED)}; {findings(pairs)[0].text}"

    less = [reward - 20 for reward in ENOUGH]
    assert said_of("less", less) == "Semore against SAC: ahead; Semore is ahead of SAC by 20.0 in reward."
    swing = [reward + (30 if place % 2 else -30) for place, reward in enumerate(ENOUGH)]
    assert said_of("swing", swing).startswith("Semore against SAC: undecided; Semore against SAC is undecided:")


def test_a_verdict_on_one_run_alone_is_about_this_policy(tmp_path):
    run = make_run(tmp_path, "alone", ENOUGH, baselines=("driver",))
    pairs = duels(lines(contenders([read_run(run)]), EMBEDDED))
    (found,) = findings(pairs)
    assert found.text == "This policy of Semore is ahead of the rule-based driver, which sees the simulator's state."
    others = [make_run(tmp_path, f"seed{seed}", ENOUGH, seed=seed, baselines=("driver",)) for seed in (2, 3)]
    pairs = duels(lines(contenders([read_run(folder) for folder in (run, *others)]), EMBEDDED))
    assert {duel.lacks for duel in pairs} == {("3 of 5 training seeds",)}  # now it would be about the method
