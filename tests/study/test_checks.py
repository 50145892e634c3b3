"""What the method is checked for: masks beside the truth on held-out frames, and what the replay buffer held."""

from __future__ import annotations

import csv
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import TINY, asked, make_data, run_whole

from semore.collect.policies import load_policy
from semore.datasets.atomic_io import read_json, write_json
from semore.datasets.errors import SemoreError
from semore.datasets.frame_pool import UNJUDGED
from semore.datasets.knowledge.merge import max_pool
from semore.datasets.rollouts.store import Rollouts
from semore.evaluate.film.overlay import KNOWN
from semore.train.admission import ReplaySettings
from semore.train.health import auc
from semore.train.replay import NO_DECISION
from semore.train.run_io import run_settings
from semore.train.settings import TrainSettings
from study import alignment, buffer, buffer_history
from study.alignment import attention, chosen, read_held_out
from study.alignment_picture import AMBER, GAP, HEADER, SIDE, WORDS, Panel, draw
from study.buffer_history import filling, read_history

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("checks")
    schedule = replace(TINY.schedule, updates=12, offline_updates=4, refresh_every=6, validate_every=12, log_every=4)
    settings, _ = run_whole(asked(make_data(root / "data"), root / "runs", schedule=schedule))
    return settings.folder


def rollouts_of(run: Path) -> Path:
    return Path(run_settings(run).data) / "rollouts" / "tiny.zarr"


def held_out(run: Path, fingerprint: str = ""):
    fingerprint = fingerprint or read_json(run / "summary.json")["rollouts"]
    return read_held_out(run_settings(run), run / "knowledge_used.npy", fingerprint, rollouts_of(run))


def test_frames_are_shown_from_full_to_fuller_than_most_each_of_another_episode():
    area = np.array([0, 90, 100, 50, 80, 0, 20, 70, 0])
    episode = np.array([0, 0, 0, 1, 1, 1, 2, 2, 3])
    assert chosen(area, episode) == [2, 4, 7]
    assert chosen(area[:3], episode[:3]) == [2, 1]  # nothing is shown twice, nothing empty
    assert chosen(np.zeros(4, np.int64), np.arange(4)) == []


def test_the_frames_and_the_truth_are_those_that_training_measured_on(run):
    held, quality = held_out(run), read_json(run / "summary.json")["student_mask"]
    student = load_policy(run).student_mask(held.seen)
    cells = max_pool(held.truth.astype(np.uint8), student.shape[1]) > 0
    full = cells.any((1, 2))
    assert full.sum() == quality["frames"]
    assert auc(student[full], cells[full]) == pytest.approx(quality["student_auc"], abs=1e-6)


def test_masks_from_the_truth_fit_it(run):
    row = alignment.measure(run, run_settings(run), held_out(run), 6)
    assert (row.iou, row.precision, row.recall, row.h_ka_auc) == (1.0, 1.0, 1.0, 1.0)
    assert row.episodes == 1


def test_attention_looks_somewhere_or_there_is_none(run):
    held = held_out(run)
    student = load_policy(run).student_mask(held.seen[:3])
    looks = attention(run, held.seen[:3], student)
    assert looks is not None
    assert looks.shape == student.shape
    assert looks.max((1, 2)) == pytest.approx(1.0)


def test_other_rollouts_and_runs_without_a_mask_are_refused(run, tmp_path):
    with pytest.raises(SemoreError, match=r"is not what .* was trained on"):
        held_out(run, "0" * 32)
    untaught = tmp_path / "untaught"
    untaught.mkdir()
    write_json(untaught / "summary.json", read_json(run / "summary.json") | {"student_mask": None})
    with pytest.raises(SemoreError, match="untaught: no loss taught"):
        alignment.measure(untaught, run_settings(run), held_out(run), 6)


def test_a_mask_is_drawn_where_it_is_and_the_truth_around_it(tmp_path):
    truth, h_ka = np.zeros((16, 16), np.bool_), np.zeros((16, 16), np.uint8)
    truth[:, :4], h_ka[:8] = True, 255
    black = np.zeros((16, 16, 3), np.uint8)
    panel = Panel(black, truth, h_ka, np.zeros((6, 6), np.float32), None)
    draw([(("title", "told"), [panel, panel])], tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png")).astype(int)

    def at(row: int, down: float, right: float) -> np.ndarray:
        return picture[HEADER + row * (SIDE + GAP) + int(down * SIDE), WORDS + (SIDE + GAP) + int(right * SIDE)]

    def like(colour: tuple[int, int, int], pixel: np.ndarray) -> bool:
        return bool(pixel.sum() > 0 and np.argmax(pixel) == np.argmax(colour))

    assert like(KNOWN, at(1, 0.9, 0.1))
    assert not at(1, 0.9, 0.9).any()
    assert like(AMBER, at(2, 0.2, 0.8))
    assert not at(2, 0.8, 0.8).any()
    edge = 4 * SIDE // 16
    assert [tuple(at(row, 0.7, edge / SIDE)) for row in (2, 3, 4)] == [KNOWN] * 3


def state(**changes: object) -> dict[str, object]:
    """Two episodes of four decisions, one and two; the second was recorded after update 7."""
    return {
        "step": torch.tensor([0, 1, 2, 3, NO_DECISION, 4, 5, 6, NO_DECISION]),
        "draw": torch.zeros(9, dtype=torch.float64),
        "verdict": torch.tensor([1, 0, 1, 0, UNJUDGED, 0, 1, UNJUDGED, UNJUDGED], dtype=torch.uint8),
        "initial": torch.zeros(9, dtype=torch.bool),
        "episodes": [("a", 5), ("b", 4)],
        "recorded_at": [0, 7],
    } | changes


def test_the_filling_is_judged_as_the_filter_judges(monkeypatch):
    monkeypatch.setattr(buffer_history, "WINDOW", 4)
    strict = TrainSettings(replay=ReplaySettings(filter_steps=1000))
    first, second = filling(state(), strict)
    assert (first.first, first.decisions, first.update) == (0, 4, 0)
    assert (second.first, second.decisions, second.update) == (4, 3, 7)
    assert first.admit_rate == 0.75  # 1, 0, 1 by the judge, and the end
    assert second.admit_rate == pytest.approx(2 / 3)
    assert (first.reasonable_rate, second.reasonable_rate) == (0.5, 0.5)
    assert first.delta == pytest.approx(1 - 0.0005 * 1.5)
    lax = [part.admit_rate for part in filling(state(draw=torch.ones(9, dtype=torch.float64)), strict)]
    early = [part.admit_rate for part in filling(state(), TrainSettings(replay=ReplaySettings(filter_steps=2)))]
    off = [part.admit_rate for part in filling(state(), TrainSettings(replay=ReplaySettings(admission="off")))]
    assert lax == off == [1.0, 1.0]
    assert early == [0.75, 1.0]


def test_a_history_agrees_with_the_log_and_starvation_is_what_training_said(run, tmp_path):
    history = read_history(run)
    last = history.entries[-1]
    offered = sum(part.decisions for part in history.filling)
    assert offered == last["offered"]
    ends = 4 + len(Rollouts(run / "refresh.zarr").names())  # taken for terminal
    assert 0 <= sum(part.admit_rate * part.decisions for part in history.filling) - last["transitions"] <= ends
    assert (history.label, history.filtered, history.starved) == ("run", True, False)
    starved = Path(shutil.copytree(run, tmp_path / "starved-seed3"))
    (starved / "train.log").write_text("update 5: starved buffer: the filter admits 3% of the newest decisions\n")
    again = read_history(starved)
    assert (again.label, again.starved) == ("starved", True)
    (starved / "summary.json").unlink()
    with pytest.raises(SemoreError, match="starved-seed3 is not finished"):
        read_history(starved)


def test_the_commands_write_what_they_say(run, tmp_path, monkeypatch, capsys):
    image, table = tmp_path / "a.png", tmp_path / "a.csv"
    words = ["--runs", str(run), "--rollouts", str(rollouts_of(run)), "--image", str(image), "--table", str(table)]
    monkeypatch.setattr(sys, "argv", ["alignment", *words])
    alignment.main()
    (row,) = csv.DictReader(table.open())
    assert (row["scenario"], row["run"], row["iou"]) == ("JayWalk", "run", "1.0000")
    assert Image.open(image).height == HEADER + 5 * (SIDE + GAP)
    monkeypatch.setattr(sys, "argv", ["buffer", "--runs", str(run), "--out", str(tmp_path / "b")])
    buffer.main()
    rows = list(csv.DictReader((tmp_path / "b.csv").open()))
    assert [int(row["update"]) for row in rows] == [4, 8, 12]
    assert float(rows[-1]["share_wander"]) > 0
    assert (tmp_path / "b.png").stat().st_size > 10_000
    assert len(list(csv.DictReader((tmp_path / "b-filling.csv").open()))) == 1
    assert "starved" in capsys.readouterr().out
