"""The contact sheet: a valid picture with a row for every frame, whatever the rows hold."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from PIL import Image
from test_audit import box, know, record, street
from test_oracle_rules import write_rollouts

from semore.annotate.audit import __main__ as command
from semore.annotate.audit.contact_sheet import HEADER, MARGIN, PICTURE, ROW, SheetRow, draw_contact_sheet, sheet_size
from semore.annotate.audit.knowledge import audit_knowledge
from semore.annotate.audit.sheet import pick_frames, sheet_rows
from semore.annotate.pipeline import annotate_rollouts
from semore.annotate.registry import PRIVILEGED, make_producers
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.cache import KnowledgeCache
from semore.datasets.knowledge.records import Status, Text

SIDE = 16


def row(level: int, phrases: dict[str, bool] | None = None, reason: str = "", side: int = SIDE) -> SheetRow:
    rgb = np.full((side, side, 3), level, np.uint8)
    mask, truth = np.zeros((side, side), np.uint8), np.zeros((side, side), np.bool_)
    mask[4:8, 4:8], truth[10:14, 10:14] = 255, True
    return SheetRow(("worst", "JayWalk · midnight", "jaywalk-0000001:17"), rgb, phrases or {}, mask, truth, 0.5, reason)


def pixels_of(path) -> np.ndarray:
    with Image.open(path) as image:
        image.verify()
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def test_every_row_is_there_at_its_place(tmp_path):
    path = tmp_path / "deep" / "sheet.png"
    draw_contact_sheet(path, [row(60), row(120, {"car ahead": True}), row(240, {}, "time-out")], "A title")
    sheet = pixels_of(path)
    assert sheet.shape[1::-1] == sheet_size(3)
    for index, level in enumerate((60, 120, 240)):
        assert (sheet[HEADER + index * ROW + PICTURE // 2, MARGIN + PICTURE // 2] == level).all()
    assert sheet[:HEADER].max() > 200  # the title is legible on the dark paper
    assert [entry.name for entry in path.parent.iterdir()] == ["sheet.png"]


def colour_at(sheet: np.ndarray, column: int, row_: int, col: int) -> np.ndarray:
    """The pixel of a mask picture (0 H_ka, 1 truth) in the first row, in frame pixels."""
    left = sheet.shape[1] - (2 - column) * (PICTURE + MARGIN)
    scale = PICTURE // SIDE
    return sheet[HEADER + row_ * scale + scale // 2, left + col * scale + scale // 2].astype(int)


def test_mask_and_truth_lie_over_the_frame_and_a_failed_frame_shows_no_mask(tmp_path):
    draw_contact_sheet(tmp_path / "a.png", [row(100)], "")
    sheet = pixels_of(tmp_path / "a.png")
    red, _, blue = colour_at(sheet, 0, 5, 5)
    assert red > 150 > blue  # amber
    red, green, _ = colour_at(sheet, 1, 11, 11)
    assert green > 120 > red  # teal
    assert (colour_at(sheet, 0, 2, 2) == 45).all()  # the dimmed frame elsewhere
    assert (colour_at(sheet, 1, 5, 5) == 45).all()
    draw_contact_sheet(tmp_path / "b.png", [row(100, reason="text failed: boom")], "")
    failed = pixels_of(tmp_path / "b.png")
    assert (colour_at(failed, 0, 5, 5) == failed[-1, -1]).all()  # paper
    assert (colour_at(failed, 1, 11, 11) == colour_at(sheet, 1, 11, 11)).all()


@pytest.mark.parametrize("count", [0, 1, 8])
@pytest.mark.parametrize("word", ["car ", "unbreakable" * 10, "行人 穿过马路 ", "\x07 \n\t"])
def test_any_words_stay_in_their_column(tmp_path, count, word):
    phrases = {f"{index} {word * 5}": bool(index % 2) for index in range(count)}
    draw_contact_sheet(tmp_path / "a.png", [row(100, phrases, reason=word * 9), row(100)], word * 50)
    draw_contact_sheet(tmp_path / "b.png", [row(100, reason="x"), row(100)], "")
    busy, plain = pixels_of(tmp_path / "a.png"), pixels_of(tmp_path / "b.png")
    words = 2 * MARGIN + PICTURE
    assert (busy[HEADER:, :words] == plain[HEADER:, :words]).all()
    after = plain.shape[1] - 2 * (PICTURE + MARGIN)
    assert (busy[HEADER:, after:] == plain[HEADER:, after:]).all()
    assert (busy[HEADER + ROW :] == plain[HEADER + ROW :]).all()  # nor do they run into the next row


def test_a_sheet_shows_the_worst_the_typical_and_the_failed(tmp_path):
    episode = record(tmp_path / "r.zarr", [street() for _ in range(40)], scenario="JayWalk", weather="midnight")
    exact, poor = box(0, 0, 16) | box(2, 0, 16), box(9, 0, 30) | box(12, 0, 30)
    said = {index: {"person": exact, "car": exact} for index in range(40)}
    said[7] = {"person": poor, "traffic light": box(0, 0, 1)}
    said[30] = Text((), Status.FAILED, "time-out")
    knowledge = know(tmp_path / "k", episode, said)
    audit = audit_knowledge(knowledge, [episode])
    picks = pick_frames(audit, 6)
    assert len({pick.score for pick in picks}) == 6
    assert {(pick.why, pick.score.row) for pick in picks} >= {("worst", 7), ("no knowledge", 30)}
    shown = {shown.label[2]: shown for shown in sheet_rows(knowledge, [episode], audit, 6)}
    worst, failed = shown["hand-0:7"], shown["hand-0:30"]
    assert worst.label[:2] == ("worst", "JayWalk · midnight")
    assert worst.phrases == {"person": True, "traffic light": False}
    assert (worst.iou, (worst.mask == poor | box(0, 0, 1)).all()) == (pytest.approx(1 / 92), True)
    assert failed.reason == "text failed: time-out"
    assert (failed.rgb == episode.read("rgb")["rgb"][30]).all()


def test_the_worst_frames_have_most_wrong_pixels_and_are_far_apart(tmp_path):
    episode = record(tmp_path / "r.zarr", [street() for _ in range(40)])
    said = {index: {"person": box(9, 0, index // 8)} for index in range(40)}
    audit = audit_knowledge(know(tmp_path / "k", episode, said), [episode])
    worst = [pick.score for pick in pick_frames(audit, 4) if pick.why == "worst"]
    assert [score.wrong for score in worst] == [32 + 4, 32 + 1]  # the second at least 20 frames away


def test_more_rows_than_frames(tmp_path):
    episode = record(tmp_path / "r.zarr", [street(), street()])
    knowledge = know(tmp_path / "k", episode, {0: {"person": box(0, 0, 16)}, 1: {}})
    assert len(sheet_rows(knowledge, [episode], audit_knowledge(knowledge, [episode]), 12)) == 2


def run(monkeypatch, folder, *arguments: str) -> None:
    monkeypatch.setattr(
        sys, "argv", ["audit", "--data", str(folder), "--scenario", "JayWalk", "--knowledge", "privileged", *arguments]
    )
    command.main()


def test_the_command_line(tmp_path, monkeypatch, capsys):
    rollouts = write_rollouts(tmp_path / "rollouts" / "JayWalk-debug.zarr", episodes=2)
    cache = KnowledgeCache(tmp_path / "knowledge")
    annotate_rollouts([rollouts.path], cache, "privileged", make_producers(PRIVILEGED), quiet=True)
    run(monkeypatch, tmp_path, "--preset", "debug", "--frames", "30", "--rows", "5")
    said = capsys.readouterr().out
    assert "no failure signature" in said
    assert "1.000" in said
    folder = tmp_path / "knowledge" / "audits" / "privileged" / "JayWalk-debug"
    value = json.loads((folder / "audit.json").read_text())
    assert (value["overall"]["iou"], value["sample"]["frames"], value["warnings"]) == (1.0, 30, [])
    assert pixels_of(folder / "contact_sheet.png").shape[1::-1] == sheet_size(5)
    run(monkeypatch, tmp_path, "--rollouts", str(rollouts.path), "--sheet", str(tmp_path / "a.png"), "--frames", "0")
    assert json.loads((folder / "audit.json").read_text())["sample"]["frames"] == 80
    assert pixels_of(tmp_path / "a.png").shape[1::-1] == sheet_size(12)


def test_the_command_line_says_what_is_missing(tmp_path, monkeypatch):
    write_rollouts(tmp_path / "rollouts" / "JayWalk-debug.zarr", episodes=1)
    with pytest.raises(SemoreError, match="semore annotate "):
        run(monkeypatch, tmp_path, "--preset", "debug")
    with pytest.raises(SemoreError, match="rows 0"):
        run(monkeypatch, tmp_path, "--rows", "0")
