"""The report in Debian's headless Chromium: it asks nothing of the network, loads whole and obeys the keyboard."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from chromium import CHROMIUM, Page, chromium
from report_runs import MASK, make_run, row

from semore.evaluate.film import crash_strip as strip
from semore.evaluate.film import video
from semore.evaluate.film.moments import Moment
from semore.evaluate.film.overlay import compose
from semore.evaluate.report.media import Clip
from semore.evaluate.report.page import render
from semore.evaluate.runs import read_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium"),
]
TROUBLE = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded", "Network.loadingFailed")
PLAYED = """
Promise.all([...document.querySelectorAll("video")].map(async (film) => {
  film.preload = "auto"; film.load(); film.muted = true; await film.play();
  while (film.currentTime < 0.2) await new Promise((done) => setTimeout(done, 50));
  return [film.videoWidth, film.error === null && film.duration > 0];
}))"""


def moments(count: int = 12) -> list[Moment]:
    """A made-up drive towards a hit."""
    picture = np.random.default_rng(1).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    known = np.zeros((128, 128), np.bool_)
    known[60:90, 60:70] = True
    found = []
    for place in range(count):
        totals = {"reward": float(place), "crash_intensity": 900.0 * (place > 8), "steps": 2 * place, "ending": ""}
        action = np.array([0.1, 0.5], np.float32)
        residual, student = np.zeros((64, 64), np.float32), np.full((8, 8), 0.5, np.float32)
        found.append(Moment(picture, picture, residual, known, student, ("car ahead",), 9.0, action, totals))
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """Two runs with films, strips and attention pictures."""
    root = tmp_path_factory.mktemp("report")
    rewards = [float(value) for value in np.random.default_rng(0).normal(200, 10, 12)]
    folders = [
        make_run(root, "ours", rewards, mask=MASK, baselines=("driver", "full_throttle", "trained_grey")),
        make_run(root, "theirs", [value - 20 for value in rewards], "sac"),
    ]
    drive = moments()
    video.save(compose(drive), root / "film.mp4", video.frame_rate(drive))
    picture = strip.strip(drive)
    assert picture is not None
    strip.save(picture, root / "strip.jpg")
    told = {"reward": 11.0, "ending": "collisions", "steps": 22, "distance": 9.0, "crash_intensity": 900.0}
    clips = [
        Clip("median of 12", row("trained", 2_000_000, 11.0), root / "film.mp4", None, told),
        Clip("crash", row("trained", 2_000_000, 11.0), None, root / "strip.jpg", told),
    ]
    path = root / "report.html"
    path.write_text(render([read_run(folder) for folder in folders], {"ours": clips}, 10.0, {"theirs": "not filmed"}))
    return path


def in_chromium(profile: Path, look: Callable[[Page], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with chromium(profile) as page:
            await look(page)

    asyncio.run(whole())


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_it_loads_whole_and_asks_nobody(report, tmp_path, width, dark):
    async def look(page: Page) -> None:
        await page.open(report, width, dark=dark)
        assert await page.run("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")
        assert await page.run(PLAYED) == [[512, True]]
        sizes = await page.run("[...document.querySelectorAll('svg')].map((one) => one.getBoundingClientRect().height)")
        assert len(sizes) >= 8
        assert min(sizes) > 50
        assert await page.run("document.documentElement.scrollWidth") <= width
        requests = [event["params"]["request"]["url"] for event in page.events if "request" in event["params"]]
        assert requests
        assert all(address.startswith(("file://", "data:")) for address in requests)
        assert sum(address.startswith("file://") for address in requests) == 1
        assert [event for event in page.events if event["method"] in TROUBLE] == []

    in_chromium(tmp_path / "profile", look)


def test_a_request_would_be_refused(report, tmp_path):
    """The page's own policy forbids what the test above does not see."""

    async def look(page: Page) -> None:
        await page.open(report)
        asked = await page.run("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')")
        assert asked == "refused"
        assert any("Content Security Policy" in str(event) for event in page.events)

    in_chromium(tmp_path / "profile", look)


def test_it_obeys_the_keyboard_and_the_theme(report, tmp_path):
    async def look(page: Page) -> None:
        await page.open(report)
        await page.press("Tab")
        assert await page.run("document.activeElement.className") == "skip"
        assert await page.run("document.activeElement.getBoundingClientRect().left") >= 0
        await page.press("Enter")
        assert await page.run("location.hash") == "#main"
        reached = set()
        for _ in range(60):
            await page.press("Tab")
            reached.add(await page.run("document.activeElement.className || document.activeElement.tagName"))
        assert {"scroll", "SUMMARY", "INPUT", "strip", "VIDEO"} <= reached
        ground = "getComputedStyle(document.body).backgroundColor"
        before = await page.run(ground)
        await page.run("document.getElementById('theme').click()")
        assert await page.run(ground) != before
        shown = (
            "[...document.querySelectorAll('.looks img')].filter((one) => !one.hidden).map((one) => one.dataset.update)"
        )
        assert await page.run(shown) == ["400", "400"]
        await page.run("document.querySelector('.looks input').focus()")
        await page.press("ArrowLeft")
        assert await page.run(shown) == ["200", "400"]

    in_chromium(tmp_path / "profile", look)


def test_it_prints(report, tmp_path):
    async def look(page: Page) -> None:
        await page.open(report, dark=True)
        printed = base64.b64decode((await page.call("Page.printToPDF", preferCSSPageSize=True))["data"])
        assert printed.startswith(b"%PDF")
        await page.call("Emulation.setEmulatedMedia", media="print")
        assert await page.run("getComputedStyle(document.querySelector('.bar')).display") == "none"
        assert await page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"

    in_chromium(tmp_path / "profile", look)
