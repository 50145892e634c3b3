"""What is written for other machines, held against the code: compose.yaml, docs/carla.md, make's CARLA variables."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from semore.collect.carla.settings import CARLA_VERSION, CarlaSettings
from semore.collect.plan import CollectSettings
from semore.datasets.settings import load_settings
from semore.evaluate.__main__ import EvaluateSettings
from semore.train.settings import TrainSettings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
GUIDE = (ROOT / "docs" / "carla.md").read_text()


def made(*words: str) -> list[str]:
    """What make would run of our commands."""
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return [line.strip() for line in done.stdout.splitlines() if re.match(r"\.venv/bin/semore (?!compile)", line)]


def handed_on(*assignments: str) -> dict[str, str]:
    """The variables that a command started by make finds in its environment."""
    show = ["make", "--no-print-directory", "--eval", "show-environment: ; @env -0", "show-environment", *assignments]
    done = subprocess.run(show, cwd=ROOT, capture_output=True, text=True, check=True)
    found = (line.partition("=") for line in done.stdout.split("\0"))
    return {name: value for name, _, value in found if name.startswith("SEMORE_")}


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
    arguments = "".join(word.removeprefix("ARGS=") for word in command if word.startswith("ARGS="))
    targets = [word for word in command[1:] if "=" not in word]
    assert made(*command[1:]) == [f".venv/bin/semore {target} {arguments}".strip() for target in targets]
    assert handed_on(*(word for word in command if "=" in word))["SEMORE_PRESET"] == "laptop"


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


def test_one_word_switches_every_stage_and_keeps_the_worlds_apart(monkeypatch):
    def settings_of(*words: str) -> tuple[CollectSettings, TrainSettings, EvaluateSettings]:
        """Of each stage that drives, when make is given these words."""
        for name in [name for name in os.environ if name.startswith("SEMORE_")]:
            monkeypatch.delenv(name)
        for name, value in handed_on("PRESET=debug", *words).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["semore"])
        return (
            load_settings(CollectSettings, "collect"), load_settings(TrainSettings, "train"),
            load_settings(EvaluateSettings, "evaluate"),
        )  # fmt: skip

    starts = "serve {port} 'two words' \"and more\""
    collect, train, evaluate = settings_of("SIM=carla", f"CARLA={starts}", "SERVERS=2")
    assert {each.simulator for each in (collect, train, evaluate)} == {"carla"}
    assert {each.carla for each in (collect, train, evaluate)} == {CarlaSettings(command=starts, servers=2)}
    assert collect.rollouts_folder.name == train.rollouts_folder.name == "JayWalk-debug-carla.zarr"
    assert train.folder.name == evaluate.folder.name == "JayWalk-debug-carla"
    collect, train, evaluate = settings_of()
    assert collect.rollouts_folder.name == train.rollouts_folder.name == "JayWalk-debug.zarr"
    assert train.folder.name == evaluate.folder.name == "JayWalk-debug"
    assert collect.carla == CarlaSettings()


@pytest.mark.parametrize(
    ("settings", "stage"), [(CollectSettings, "collect"), (TrainSettings, "train"), (EvaluateSettings, "evaluate")]
)
def test_every_stage_that_drives_takes_the_same_settings(settings: type[Any], stage: str):
    words = ["--preset", "debug", "--carla.port", "3000", "--carla.command", "serve {port}"]
    assert load_settings(settings, stage, words).carla == CarlaSettings(port=3000, command="serve {port}")
