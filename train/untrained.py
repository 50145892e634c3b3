"""The agent of a run before its first update: the row that shows what training added."""

from __future__ import annotations

from pathlib import Path

import torch
from jsonargparse import ArgumentParser

from collect.behaviour import NetworkPolicy
from datasets.files import read_json
from train.agent import Agent
from train.online import acting
from train.settings import TrainSettings


def run_settings(run: Path) -> TrainSettings:
    """The settings a run was started with."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TrainSettings, "settings")
    parsed = parser.parse_object({"settings": read_json(run / "settings.json")["settings"]})
    settings: TrainSettings = parser.instantiate(parsed).settings
    return settings


def untrained_policy(run: Path) -> NetworkPolicy:
    """The run's network with its seed's initial weights."""
    settings = run_settings(run)
    torch.manual_seed(settings.seed)
    return acting(Agent(settings.agent).eval(), settings, sample=False)
