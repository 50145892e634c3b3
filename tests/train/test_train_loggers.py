"""Weights & Biases: a resumed run goes on in its own run there, and two runs of one process are two."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loggers import wandb as lightning_wandb
from tiny_run import asked

from semore.datasets.errors import SemoreError
from semore.train.loggers import open_loggers

FAKE = {
    "wandb/__init__.py": """
import json, os
run = None
def init(**arguments):
    global run
    from wandb.wandb_run import Run
    run = Run()
    _note("init", {name: str(arguments.get(name)) for name in ("id", "resume", "name", "dir")})
    return run
def finish(exit_code=None):
    global run
    run = None
    _note("finish", exit_code)
def _note(*what):
    with open(os.environ["FAKE_WANDB"], "a") as handle:
        handle.write(json.dumps(what) + "\\n")
""",
    "wandb/wandb_run.py": """
class Run:
    def log(self, *_, **__): pass
    def define_metric(self, *_, **__): pass
""",
    "wandb/sdk/__init__.py": "",
    "wandb/sdk/lib/__init__.py": "class RunDisabled: pass\n",
    "wandb-0.20.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: wandb\nVersion: 0.20.0\n",
}


CRASHES = 20


@pytest.fixture
def calls(tmp_path, monkeypatch) -> Iterator[Path]:
    """A package that notes how it is called, in the file that this returns."""
    for name, text in FAKE.items():
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("FAKE_WANDB", str(tmp_path / "calls"))
    monkeypatch.setattr(lightning_wandb, "_WANDB_AVAILABLE", True)  # it looked before the package was there
    yield tmp_path / "calls"
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        del sys.modules[name]


def log(settings: Any, done: int) -> None:
    with open_loggers(settings, done) as loggers:
        for logger in loggers:
            logger.log_metrics({"loss/q": 1.0}, done + 1)
        if done == CRASHES:
            raise ZeroDivisionError


def test_a_resumed_run_goes_on_in_its_own_run(tmp_path, calls):
    settings = asked(tmp_path, tmp_path / "runs", wandb=True)
    log(settings, 0)
    with pytest.raises(ZeroDivisionError):
        log(settings, CRASHES)
    log(settings, 30)
    log(replace(settings, run="another"), 0)
    noted = [json.loads(line) for line in calls.read_text().splitlines()]
    begun = [about for what, about in noted if what == "init"]
    assert [each["name"] for each in begun] == ["run", "run", "run", "another"]
    assert all(each["resume"] == "allow" for each in begun)
    first, *same, other = (each["id"] for each in begun)
    assert first == (settings.folder / "wandb_id").read_text().strip() != other
    assert same == [first, first]
    assert len(first) == 16
    assert [about for what, about in noted if what == "finish"] == [0, 1, 0, 0]


def test_wandb_that_is_missing_is_one_clear_error(tmp_path):
    settings = asked(tmp_path, tmp_path / "runs", wandb=True)
    with pytest.raises(SemoreError, match="pip install wandb"), open_loggers(settings, 0):
        pytest.fail("opened")
    assert not settings.folder.exists()
