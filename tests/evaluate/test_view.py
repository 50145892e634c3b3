"""The viewer's page: everything of the episode is in it, nothing comes from outside, and a browser shows it."""

from __future__ import annotations

import base64
import html
import io
import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_rollouts import SIDE, tiny_arrays, tiny_knowledge, tiny_rollouts

from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.store import Episode, Rollouts
from semore.evaluate.view.__main__ import main
from semore.evaluate.view.scene import ACROSS, HEAT, sheets

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    data = tmp_path_factory.mktemp("data")
    rollouts = tiny_rollouts(data / "rollouts" / "a.zarr", 0, 1)
    tiny_rollouts(data / "rollouts" / "lonely.zarr", 4)
    tiny_knowledge(data / "knowledge", rollouts)
    return data


def view(data: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Path:
    """Run the command; the page."""
    out = data / "page.html"
    monkeypatch.setattr(sys, "argv", ["view", "--data", str(data), "--out", str(out), *arguments])
    main()
    return out


def moments(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    read: dict[str, Any] = json.loads(found[1])
    return read


def test_a_recording_made_by_others_is_shown_with_what_it_tells(data, monkeypatch):
    """They need not know our splits, seeds, rewards or endings."""
    rollouts = Rollouts(data / "rollouts" / "theirs.zarr")
    rollouts.create()
    rollouts.write("bend", tiny_arrays(3, 6), {})
    page = view(data, monkeypatch, "--rollouts", "theirs")
    assert moments(page)["about"] == ""
    assert moments(page)["side"] == SIDE
    assert len(moments(page)["step"]) == 7
    shutil.rmtree(rollouts.path / "bend")
    told = {"weather": "soft_rain", "policy": "a_friend", "total_reward": "much", "seed": 3, "split": None}
    rollouts.write("bend", tiny_arrays(3, 6), told)
    shown = moments(view(data, monkeypatch, "--rollouts", "theirs"))
    assert shown["about"] == "soft rain · driven by a friend · reward much · seed 3"


def test_what_a_recording_lacks_is_named_where_it_is_needed(data):
    episode = tiny_rollouts(data / "rollouts" / "short.zarr", 0).episode("jaywalk-0000000")
    assert episode.attributes.get("mood") is None
    for known in (episode, pickle.loads(pickle.dumps(episode))):
        assert known == episode
        with pytest.raises(SemoreError, match=r"short\.zarr/jaywalk-0000000 has no attribute 'mood'.*validate"):
            known.attributes["mood"]


def first_picture(uri: str) -> np.ndarray:
    sheet = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    return np.asarray(sheet)[:SIDE, :SIDE]


def test_the_page_holds_the_episode(data, monkeypatch, capsys):
    page = view(data, monkeypatch, "--rollouts", "a", "--episode", "jaywalk-0000001")
    shown = moments(page)
    episode = Episode("", data / "rollouts/a.zarr/jaywalk-0000001", shown["attributes"])
    arrays = episode.read("action", "reward", "speed", "progress", "impulse")
    assert shown["step"] == [0, 2, 4, 6]
    assert shown["seconds"] == [0.0, 0.1, 0.2, 0.3]
    pairs = arrays["reward"].reshape(3, 2).sum(1)
    np.testing.assert_allclose(shown["reward"], [*pairs, 0], atol=1e-3)
    np.testing.assert_allclose(shown["total"], [0, *np.cumsum(pairs)], atol=1e-3)
    np.testing.assert_allclose(shown["steer"][:3], arrays["action"][::2, 0], atol=1e-3)
    assert shown["impulse"] == [0, 0, 250, 0]
    assert shown["verdict"] == [0, 1, 0, None]
    assert shown["phrases"] == [["car", "<b>dog</b>"]] * 4
    assert shown["valid"] == [True] * 4
    np.testing.assert_allclose(shown["covered"], [2 / SIDE] * 4, atol=1e-4)
    assert "masks of knowledge set tiny on 4 of 4 frames" in capsys.readouterr().out
    mask = first_picture(shown["h_ka"][0])
    assert (mask[:2, :, 3] > 200).all()
    assert (mask[2:, :, 3] < 50).all()
    assert np.abs(mask[0, :, :3].astype(int) - HEAT).max() < 40


def test_the_page_loads_nothing_and_runs_no_text_of_the_data(data, monkeypatch):
    text = view(data, monkeypatch, "--rollouts", "a").read_text()
    assert "default-src 'none'" in html.unescape(text)
    links = re.findall(r"""(?:src|href)=["']?([^"'\s>]*)""", text)
    assert links == ["data:,"]  # the icon: without one, browsers ask for favicon.ico
    assert "://" not in re.sub(r"data:[^\"]*", "", text)
    assert "<b>dog" not in text  # a describer's answer never becomes markup


def test_without_knowledge_the_page_says_so(data, monkeypatch, capsys):
    for arguments in (("--rollouts", "lonely"), ("--rollouts", "a", "--knowledge", "none")):
        page = view(data, monkeypatch, *arguments)
        assert "Without knowledge" in page.read_text()
        shown = moments(page)
        assert shown["h_ka"] == []
        assert shown["verdict"] == [None] * 4
        assert shown["note"] == ["not annotated"] * 4
        assert "without knowledge" in capsys.readouterr().out


def test_of_several_sets_the_default_is_shown_else_the_only_one_else_the_choices_are_named(
    tmp_path, monkeypatch, capsys
):
    rollouts = tiny_rollouts(tmp_path / "rollouts" / "a.zarr", 0)

    def shown(*arguments: str) -> str:
        view(tmp_path, monkeypatch, "--rollouts", "a", *arguments)
        return capsys.readouterr().out

    tiny_knowledge(tmp_path / "knowledge", rollouts, "zebra")
    assert "knowledge set zebra on 4 of 4" in shown()
    tiny_knowledge(tmp_path / "knowledge", rollouts, "aurochs")
    with pytest.raises(SemoreError, match=r"aurochs, zebra; .*default \(privileged-cris-tiny\).*--knowledge"):
        shown()
    assert "knowledge set aurochs on 4 of 4" in shown("--knowledge", "aurochs")
    tiny_knowledge(tmp_path / "knowledge", rollouts, "privileged-cris-tiny")
    assert "knowledge set privileged-cris-tiny on 4 of 4" in shown()
    preset = tmp_path / "own.yaml"
    preset.write_text("annotate: {segmenter: privileged, knowledge: zebra}\n")
    assert "knowledge set zebra on 4 of 4" in shown("--preset", str(preset))
    preset.write_text("annotate: {segmenter: privileged}\n")
    with pytest.raises(SemoreError, match=r"default \(privileged\)"):
        shown("--preset", str(preset))


def test_sheets_hold_the_pictures_in_reading_order():
    count = ACROSS**2 + 3
    pictures = np.zeros((count, 8, 8, 3), np.uint8)
    pictures[:] = (np.arange(count) % 250)[:, None, None, None]
    one, two = (np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))) for uri in sheets(pictures))
    assert one.shape == (8 * ACROSS, 8 * ACROSS, 3)
    assert two.shape == (8, 8 * ACROSS, 3)
    assert abs(int(one[8 * 2 + 4, 8 * 5 + 4, 0]) - (2 * ACROSS + 5)) <= 3
    assert abs(int(two[4, 8 * 2 + 4, 0]) - ACROSS**2 - 2) <= 3


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt install chromium)")
def test_a_browser_shows_the_page_without_errors(data, monkeypatch, tmp_path):
    page = view(data, monkeypatch, "--rollouts", "a")
    walk = """<script>addEventListener("load", () => {
      const press = key => document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
      press("ArrowRight"); press("ArrowRight"); press("ArrowLeft"); press(".");
    });</script>"""
    (tmp_path / "walk.html").write_text(page.read_text().replace("</body>", walk + "</body>"))
    done = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000",
         "--enable-logging=stderr", f"--user-data-dir={tmp_path}/profile", "--dump-dom", f"file://{tmp_path}/walk.html"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    assert 'data-ready="yes"' in done.stdout  # every sheet was decoded
    assert 'aria-valuenow="2"' in done.stdout  # the next collision after frame 1
    assert "&lt;b&gt;dog&lt;/b&gt;" in done.stdout
    assert "4 of 6" in done.stdout
