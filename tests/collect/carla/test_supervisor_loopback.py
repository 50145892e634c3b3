"""Collecting over the wire with a server that keeps dying: every planned episode, once, as if nothing had been."""

from __future__ import annotations

import json
import re
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_supervisor import free_ports

from semore.collect.carla.settings import CarlaSettings
from semore.collect.plan import CollectSettings, plan, policy_attributes
from semore.collect.policies import make_policy
from semore.collect.recorder import record
from semore.collect.workers import collect
from semore.datasets.rollouts.store import Rollouts

pytest.importorskip("carla.libcarla", reason="the carla wheel is not installed: make setup SIM=carla")

LOOPBACK = f"{sys.executable} -m semore.collect.carla.loopback --port {{port}}"
TICKS = 60
"""Of a server's life: an episode of 30 steps and its beginning take fewer, two of them take more."""


def settings(folder: Path, line: str = LOOPBACK, **changes: Any) -> CollectSettings:
    servers = changes.pop("servers", 1)
    carla = CarlaSettings(
        port=free_ports(servers), servers=servers, command=line, timeout=60.0, start_timeout=240.0,
        logs=str(folder / "logs"),
    )  # fmt: skip
    asked = CollectSettings(
        data=str(folder / "data"), rollouts="r", simulator="carla", camera=32, max_episode_steps=30,
        policies={"noisy_driver": 1.0}, validation_episodes=0, carla=carla,
    )  # fmt: skip
    return replace(asked, **changes)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_server_killed_five_times_costs_no_episode_and_doubles_none(tmp_path: Path, capsys: Any) -> None:
    asked = settings(tmp_path, f"{LOOPBACK} --fault die --after {TICKS}", episodes=6)
    rollouts = collect(asked)
    episodes = list(rollouts.episodes())
    assert [episode.attributes["seed"] for episode in episodes] == [seed for seed, _ in plan(asked)]
    assert {episode.steps for episode in episodes} == {30}
    boxes = [json.loads(path.read_text()) for path in sorted((tmp_path / "logs").glob("*.json"))]
    assert [box["seed"] for box in boxes] == [1, 2, 3, 4, 5]  # each life drives one episode, and dies in the next
    assert {box["server_exit_code"] for box in boxes} == {137}
    assert all(box["last_calls"] and "loopback" in box["server_output"][0] for box in boxes)
    said = capsys.readouterr().out
    assert "5 episode(s) lost with their simulator and driven again" in said
    assert re.search(r"carla: \d+ steps on 1 server\(s\).*server tick .*camera wait .*our overhead", said)
    # What was driven again is what would have been driven.
    whole = Rollouts(tmp_path / "whole.zarr")
    whole.create()
    with closing(settings(tmp_path / "whole").env()) as env:
        record(whole, [env], make_policy("noisy_driver"), [1], policy_attributes(asked, "noisy_driver"))
    for name in ("rgb", "semantic", "action", "reward", "ego", "actors"):
        (undisturbed,) = whole.episodes()
        again, once = episodes[1].read(name)[name], undisturbed.read(name)[name]
        assert np.array_equal(again, once, equal_nan=name == "ego"), name


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_servers_share_the_plan(tmp_path: Path, capsys: Any) -> None:
    asked = settings(tmp_path, servers=2, episodes=4)
    rollouts = collect(asked)
    assert [episode.attributes["seed"] for episode in rollouts.episodes()] == [0, 1, 2, 3]
    assert "on 2 server(s)" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {
        f"server-{port}.log" for port in asked.carla.ports()
    }
