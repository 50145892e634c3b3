"""What is written for other machines, held against the code: compose.yaml, docs/carla.md, make's CARLA variables."""

from __future__ import annotations

import re
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from semore.annotate.settings import AnnotateSettings
from semore.collect.carla.settings import CARLA_VERSION, CarlaSettings
from semore.collect.plan import CollectSettings
from semore.datasets.settings import load_settings
from semore.evaluate.__main__ import EvaluateSettings
from semore.train.settings import TrainSettings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
GUIDE = (ROOT / "docs" / "carla.md").read_text()


def handed_on(tmp_path: Path, *words: str) -> dict[str, str]:
    """The variables that make hands on to its commands."""
    (tmp_path / "print.mk").write_text("print-environment:\n\t@env -0\n")
    command = ["make", "--no-print-directory", "-f", "Makefile", "-f", str(tmp_path / "print.mk"), "print-environment"]
    done = subprocess.run([*command, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    pairs = [line.partition("=") for line in done.stdout.split("\0") if line.startswith("SEMORE_")]
    return {name: value for name, _, value in pairs}


def made(*words: str) -> list[str]:
    """The commands of ours that make would run."""
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return [line.split()[1] for line in done.stdout.splitlines() if line.startswith(".venv/bin/semore")]


def test_compose_has_the_whole_way_in_order():
    services = COMPOSE["services"]
    assert list(services) == ["carla", "collector", "scheduler", "worker", "annotator", "trainer"]
    awaited = {name: dict.fromkeys(service.get("depends_on", {}), 1) for name, service in services.items()}
    assert list(awaited["collector"]) == ["carla"]
    assert services["collector"]["depends_on"]["carla"] == {"condition": "service_healthy"}
    assert services["carla"]["healthcheck"]["test"][0] == "CMD"
    assert services["annotator"]["depends_on"]["collector"] == {"condition": "service_completed_successfully"}
    assert services["trainer"]["depends_on"]["annotator"] == {"condition": "service_completed_successfully"}
    assert all(service["network_mode"] == "host" for service in services.values())
    on_gpu = [name for name, service in services.items() if "deploy" in service]
    assert on_gpu == ["carla", "worker", "trainer"]
    for name in on_gpu:
        (device,) = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]


def test_compose_and_code_mean_the_same_server():
    server = COMPOSE["services"]["carla"]
    assert server["image"] == f"carlasim/carla:{CARLA_VERSION}"
    assert f"-carla-rpc-port={CarlaSettings().port}" in server["command"]
    assert (ROOT / "requirements-carla.lock").read_text().split() == [f"carla=={CARLA_VERSION}"]
    scheduler = COMPOSE["services"]["scheduler"]["command"].split()[-1]
    assert f"127.0.0.1:{scheduler}" in COMPOSE["services"]["worker"]["command"]
    assert f"SCHEDULER=tcp://127.0.0.1:{scheduler}" in COMPOSE["services"]["annotator"]["command"]


@pytest.mark.parametrize("name", ["collector", "annotator", "trainer"])
def test_compose_calls_targets_that_make_knows(name: str):
    command = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", COMPOSE["services"][name]["command"]).split()
    assert command[0] == "make"
    targets = [word for word in command[1:] if "=" not in word]
    assert [name for name in made(*command[1:]) if name != "compile"] == targets


def test_the_guide_names_every_setting_with_its_default():
    defaults = CarlaSettings()
    mentioned = set(re.findall(r"--carla\.(\w+)", GUIDE))
    assert mentioned == {field.name for field in fields(CarlaSettings)}
    for line in re.findall(r"^\| (`--carla\..*)$", GUIDE, re.MULTILINE):
        names = re.findall(r"--carla\.(\w+)", line)
        shown = line.split("|")[1].strip().removesuffix(" s").split(", ")
        for name, text in zip(names, shown, strict=True):
            value = getattr(defaults, name)
            assert text == ("no limit" if name == "memory" else str(value).removesuffix(".0")), name


def test_one_word_switches_every_stage_and_keeps_the_worlds_apart(tmp_path, monkeypatch):
    words = ("PRESET=debug", "SIM=carla", "CARLA=serve {port} 'two words'", "SERVERS=2")
    assert handed_on(tmp_path, "PRESET=debug") == {"SEMORE_PRESET": "debug", "SEMORE_MAKE": "1"}
    pipeline = {
        "collect": CollectSettings, "annotate": AnnotateSettings, "train": TrainSettings, "evaluate": EvaluateSettings,
    }  # fmt: skip
    assert [name for name in made(*pipeline, *words) if name != "compile"] == list(pipeline)
    for name, value in handed_on(tmp_path, *words).items():
        monkeypatch.setenv(name, value)
    stages: dict[str, Any] = {}
    for stage, settings in pipeline.items():
        monkeypatch.setattr("sys.argv", [stage])
        stages[stage] = load_settings(settings, stage)
    assert stages["collect"].rollouts_folder == stages["annotate"].folder == stages["train"].rollouts_folder
    assert stages["train"].rollouts_folder.name == "JayWalk-debug-carla.zarr"
    for stage in ("collect", "train", "evaluate"):
        assert stages[stage].simulator == "carla"
        assert stages[stage].carla.command == "serve {port} 'two words'"  # it may hold any quotes
        assert stages[stage].carla.servers == 2
    assert stages["train"].folder == stages["evaluate"].folder == Path("runs/JayWalk-debug-carla")


@pytest.mark.parametrize(
    ("settings", "stage"), [(CollectSettings, "collect"), (TrainSettings, "train"), (EvaluateSettings, "evaluate")]
)
def test_every_stage_that_drives_takes_the_same_settings(settings: type[Any], stage: str):
    words = ["--preset", "debug", "--carla.port", "3000", "--carla.command", "serve {port}"]
    assert load_settings(settings, stage, words).carla == CarlaSettings(port=3000, command="serve {port}")
