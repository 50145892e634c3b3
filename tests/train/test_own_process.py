"""A call in an interpreter of its own, also from a process that may have no children."""

from __future__ import annotations

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from semore.train.own_process import apart


def look(name: str, other: Path) -> dict[str, Any]:
    """What a training run would disturb in others that share its process, looked at while another does the same."""
    random.seed(name)
    os.environ["SEMORE_TEST"] = name
    print(f"{name} prints where the answer goes")
    os.system("echo so does a child")
    other.with_name(name).touch()
    while len(list(other.parent.iterdir())) < 2:
        time.sleep(0.01)
    return {"process": os.getpid(), "drawn": random.random(), "environment": os.environ["SEMORE_TEST"]}


def fail(how: str) -> None:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError("no sense")


def wait(place: Path) -> None:
    place.write_text(str(os.getpid()))
    time.sleep(120)


def test_two_calls_at_once_share_nothing(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda name: apart(look, name, tmp_path / "x"), ["one", "two"])
    assert len({os.getpid(), one["process"], two["process"]}) == 3
    for name, told in (("one", one), ("two", two)):
        assert (told["environment"], told["drawn"]) == (name, random.Random(name).random())
    assert "SEMORE_TEST" not in os.environ


def test_what_goes_wrong_is_told_in_words():
    assert apart(fail, "raise") == "ValueError: no sense"
    assert "process died (exit code -9" in apart(fail, "kill")


def test_a_daemonic_process_may_call_and_its_call_dies_with_it(tmp_path):
    """As a Dask worker is one, and is killed when it grows or its cluster ends."""
    place = tmp_path / "pid"
    worker = get_context("fork").Process(target=apart, args=(wait, place), daemon=True)
    worker.start()
    deadline = time.monotonic() + 60
    while not (place.exists() and place.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child = Path(f"/proc/{place.read_text()}")
    assert child.exists()
    worker.kill()
    worker.join()
    while child.exists() and "\nState:\tZ" not in (child / "status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
