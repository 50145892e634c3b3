"""The report: what is compared, said and shown, and that the file is whole, valid and of bounded size."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_runs import EMBEDDED, MASK, make_run, row

from semore.datasets.errors import SemoreError
from semore.evaluate import statistics
from semore.evaluate.episodes import read_rows, write_rows
from semore.evaluate.report import __main__ as command
from semore.evaluate.report import charts
from semore.evaluate.report.charts import Scale, Series
from semore.evaluate.report.figures import duration, number
from semore.evaluate.report.media import CRASHES, PICTURES, Album, Clip, attention_pictures, chosen, crashes
from semore.evaluate.report.narrative import doubts, findings, headline
from semore.evaluate.report.page import LIMIT, render
from semore.evaluate.report.results import duels, lines
from semore.evaluate.report.runs import contenders, courses, differing
from semore.evaluate.runs import read_run

VOID = {"meta", "link", "img", "input", "br", "hr"}
REWARDS = tuple(float(value) for value in np.random.default_rng(0).normal(200, 10, 12))
HOSTILE = "<img src=x onerror=alert(1)>"


class Reader(HTMLParser):
    """Every element with its attributes; open tags must close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 300)


@pytest.fixture
def two(tmp_path) -> list[Path]:
    """Semore, 20 ahead of SAC on every test seed."""
    ours = make_run(tmp_path, "ours", REWARDS, mask=MASK, baselines=("driver", "full_throttle", "trained_grey"))
    return [ours, make_run(tmp_path, "theirs", [reward - 20 for reward in REWARDS], "sac")]


def page_of(folders: list[Path], clips: dict[str, list[Clip]] | None = None) -> str:
    return render([read_run(folder) for folder in folders], clips or {}, 10.0, {})


def test_the_file_is_whole_valid_and_bounded(two):
    text = page_of(two)
    page = Reader(text)
    assert len(text.encode()) < LIMIT
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "poster", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, name)
    assert "@import" not in text
    assert "url(" not in text
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        assert set((attributes.get("aria-labelledby") or "").split()) <= set(ids)
    targets = {(attributes["href"] or "")[1:] for attributes in page.all("a")}
    assert targets <= set(ids)
    assert "main" in targets


def test_everything_can_be_read_without_seeing_it(two):
    page = Reader(page_of(two))
    assert all(picture["alt"] for picture in page.all("img"))
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all("aria-labelledby" in chart and chart["role"] == "img" for chart in page.all("svg"))
    regions = [attributes for _, attributes in page.elements if attributes.get("class") in ("scroll", "strip")]
    assert regions
    assert all(region["tabindex"] == "0" and region["aria-label"] for region in regions)
    assert page.all("html")[0]["lang"] == "en"


def test_every_run_row_setting_and_fingerprint_appears(two):
    words = " ".join(Reader(page_of(two)).words)
    for expected in (
        "ours", "theirs", "Semore", "SAC", "rule-based driver", "full throttle", "Semore, shown grey pictures",
        "0.1.0@abcdef", "r0110u75", "c0ffee", "5ca1ab1e", "Linux x86_64, 2 cores", "1 h 00 min", "20.00 Wh",
        "schedule.updates", "0.920", "healthy", "no loss teaches one",
    ):  # fmt: skip
        assert expected in words, expected


def test_names_are_escaped(tmp_path):
    folder = make_run(tmp_path, "run", REWARDS, HOSTILE, weather=HOSTILE)
    rows = [replace(one, weather=HOSTILE, ending=HOSTILE) for one in read_rows(folder / "evaluation.csv")]
    write_rows(folder / "evaluation.csv", [*rows, replace(rows[0], policy=HOSTILE)])
    page = Reader(page_of([folder]))
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert HOSTILE in " ".join(page.words)


def test_the_difference_is_paired_and_told_in_plain_words(two):
    group = contenders([read_run(folder) for folder in two])
    table = lines(group, EMBEDDED)
    pairs = duels(table)
    (between,) = [duel for duel in pairs if duel.theirs.number is not None]
    assert between.difference.mean == pytest.approx(20)
    assert between.difference.low == pytest.approx(20)  # paired: the episodes' own spread is gone
    assert (between.more, between.seeds) == (len(REWARDS), len(REWARDS))
    assert headline(table, pairs, EMBEDDED) == "Semore against SAC: no verdict"
    told = {finding.text: finding for finding in findings(pairs)}
    found = told["Semore minus SAC has no verdict: 12 of 50 test seeds, 1 of 5 training seeds."]
    assert found.verdict == "no verdict"
    assert found.numbers == "+20.0 (+20.0 … +20.0), more reward on 12 of 12 test seeds"
    assert (
        "This policy of Semore and this policy of SAC minus full throttle, which needs no eyes: no verdict: 12 of 50 "
        "test seeds."
    ) in told
    missing = " ".join(doubts(table, pairs, [read_run(folder) for folder in two], EMBEDDED))
    assert "fewer than 5 training seeds" in missing
    assert f"{len(REWARDS)} test seeds only" in missing


def test_blind_rows_that_nobody_drove_are_missed(tmp_path):
    text = page_of([make_run(tmp_path, "ours", REWARDS), make_run(tmp_path, "theirs", REWARDS, "sac")])
    assert "no blind row was driven" in text


def test_failed_episodes_are_counted_and_in_no_mean(two):
    clean = lines(contenders([read_run(two[0])]), EMBEDDED)[0]
    rows = read_rows(two[0] / "evaluation.csv")
    write_rows(two[0] / "evaluation.csv", [*rows, row("trained", 2_000_900, -9_999.0, "simulator_failed")])
    failed = lines(contenders([read_run(two[0])]), EMBEDDED)[0]
    assert (failed.reward.mean, len(failed.driven)) == (clean.reward.mean, len(clean.driven))
    assert failed.failed == 1
    assert "(1 failed)" in page_of(two)


def test_seeds_of_one_training_are_one_contender_and_variants_are_named(tmp_path):
    folders = [make_run(tmp_path, f"run{seed}", REWARDS, seed=seed) for seed in (1, 2)]
    folders.append(make_run(tmp_path, "variant", REWARDS, seed=1, frame_skip=4))
    runs = [read_run(folder) for folder in folders]
    same, other = contenders(runs)
    assert [run.name for run in same.runs] == ["run1", "run2"]
    assert (same.label, other.label) == ("Semore (frame_skip 2)", "Semore (frame_skip 4)")
    assert differing(runs) == {"frame_skip": ["2", "2", "4"]}
    table = lines([same, other], EMBEDDED)
    assert len(table[0].driven) == 2 * len(REWARDS)
    assert [name for name, _ in table[0].per_run] == ["run1", "run2"]


def test_runs_are_compared_on_the_test_seeds_they_share(tmp_path):
    folders = [make_run(tmp_path, "ours", REWARDS), make_run(tmp_path, "theirs", REWARDS[:5], "sac")]
    runs = [read_run(folder) for folder in folders]
    assert courses(runs) == [EMBEDDED]
    (duel,) = duels(lines(contenders(runs), EMBEDDED))
    assert duel.seeds == 5
    assert duel.difference.mean == 0


def test_best_median_worst_and_hardest_crashes_are_chosen():
    rows = [row("trained", seed, float(seed), crash=float(seed % 7)) for seed in range(30)]
    rows.append(row("trained", 99, 1e6, "simulator_failed", 1e6))
    found = {role: one.seed for role, one in chosen(rows).items()}
    assert found == {"best": 29, "median": 14, "worst": 0}
    assert chosen([]) == {}
    hardest = crashes(rows)
    assert len(hardest) == CRASHES
    assert {one.crash_intensity for one in hardest} <= {5.0, 6.0}


def test_films_enter_until_the_page_is_full(two, tmp_path, monkeypatch):
    monkeypatch.setattr(Album, "still", lambda *_: None)
    film = tmp_path / "film.mp4"
    film.write_bytes(b"f" * 3_000_000)
    told = {"reward": 1.0, "ending": "success", "steps": 500, "distance": 1.0, "crash_intensity": 0.0}
    clips = [
        Clip(f"{role} of 12", row("trained", seed, 1.0), film, None, told)
        for seed, role in enumerate(("best", "median", "worst"))
    ]
    text = page_of(two, {"ours": clips, "theirs": clips})
    assert len(text.encode()) < LIMIT
    page = Reader(text)
    assert 0 < len(page.all("video")) < 6
    assert all("controls" in player for player in page.all("video"))
    assert str(film) in " ".join(page.words)  # where the others are
    assert sum("median" in (player["aria-label"] or "") for player in page.all("video")) == 2


def test_the_last_attention_picture_is_always_shown(tmp_path):
    (tmp_path / "run" / "pictures").mkdir(parents=True)
    for update in range(1, 21):
        Image.new("RGB", (8, 8)).save(tmp_path / "run" / "pictures" / f"update-{update:06d}.png")
    folder = make_run(tmp_path / "other", "run", REWARDS)
    shown = attention_pictures(replace(read_run(folder), folder=tmp_path / "run"))
    assert len(shown) <= PICTURES
    assert shown[-1][0] == 20
    assert [update for update, _ in shown] == sorted(update for update, _ in shown)
    album = Album(limit=10)
    assert album.add(shown[0][1]) is None
    assert album.left_out == [shown[0][1]]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.05, "−0.050"), (12.34, "12.3"), (-1234.5, "−1,234"), (float("nan"), "–")],
)
def test_numbers_as_people_read_them(value, text):
    assert number(value) == text


def test_signs_and_durations():
    assert (number(5, sign=True), number(-0.0001, 2, True)) == ("+5.0", "0.00")
    assert (duration(59.6), duration(61), duration(3725)) == ("1 min 00 s", "1 min 01 s", "1 h 02 min")


def test_a_chart_puts_points_where_they_belong_and_says_them(tmp_path):
    scale = Scale(0.0, 10.0, 100.0, 200.0)
    assert (scale(0.0), scale(5.0), scale(10.0)) == (100.0, 150.0, 200.0)
    assert scale.ticks() == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    points = np.array([[0.0, 1.0], [10.0, 3.0]])
    chart = str(charts.curves("name", "A <title>", [Series("line", points, "c0")], "x", "y"))
    assert "A &lt;title&gt;" in chart
    assert "line: from 1.0 to 3.0" in chart
    ends = re.findall(r"([\d.]+),([\d.]+)", re.search(r'polyline[^>]*points="([^"]*)"', chart)[1])
    assert float(ends[0][0]) < float(ends[1][0])
    assert float(ends[0][1]) > float(ends[1][1])  # upwards is smaller
    assert charts.curves("name", "t", [Series("line", np.empty((0, 2)), "c0")], "x", "y") == ""


def test_one_run_alone_has_a_report(tmp_path):
    text = page_of([make_run(tmp_path, "alone", REWARDS)])
    Reader(text)
    assert "Semore on JayWalk" in text
    assert "nothing to compare with" in text


def test_the_command_writes_the_file_and_says_where(two, tmp_path, monkeypatch, capsys):
    names = ["report", "--runs", f"[ours,{two[1]}]", "--folder", str(tmp_path), "--films", "false"]
    monkeypatch.setattr(sys, "argv", names)
    command.main()
    assert "not filmed: --films false" in (tmp_path / "report.html").read_text().lower()
    assert str(tmp_path / "report.html") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("settings.json", "is no run"),
        ("summary.json", "semore train .*--run ours"),
        ("evaluation.csv", "semore evaluate .*--run ours"),
    ],
)
def test_an_unfinished_run_is_refused_with_the_remedy(two, missing, says):
    (two[0] / missing).unlink()
    with pytest.raises(SemoreError, match=says):
        read_run(two[0])


def test_a_run_named_twice_is_refused(two, tmp_path):
    with pytest.raises(SemoreError, match="named twice"):
        command.ReportSettings(("ours", str(two[0])), str(tmp_path)).paths()
