"""Training with actors on loopback servers that die: the weights of a run that drives itself on servers that don't."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_supervisor import free_ports
from tiny_run import TINY, know

from semore.collect.carla.settings import CarlaSettings
from semore.collect.plan import CollectSettings
from semore.collect.workers import collect
from semore.datasets.rollouts.store import Rollouts
from semore.train.metrics import read_metrics
from semore.train.online import World
from semore.train.run import train
from semore.train.settings import TrainSettings

pytest.importorskip("carla.libcarla", reason="the carla wheel is not installed: make setup SIM=carla")
pytestmark = pytest.mark.filterwarnings("ignore:No complete tensor", "ignore::DeprecationWarning")

LOOPBACK = f"{sys.executable} -m semore.collect.carla.loopback --port {{port}}"
STEPS = 12
SERVERS = 2


def servers(folder: Path, line: str = LOOPBACK) -> CarlaSettings:
    return CarlaSettings(
        port=free_ports(SERVERS), servers=SERVERS, command=line, timeout=60.0, start_timeout=240.0,
        logs=str(folder / "logs"),
    )  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Short episodes of that world, annotated."""
    asked = CollectSettings(
        data=str(tmp_path / "data"), rollouts="tiny", simulator="carla", episodes=2, max_episode_steps=STEPS,
        policies={"noisy_driver": 1.0}, validation_episodes=1, carla=servers(tmp_path / "collect"),
    )  # fmt: skip
    know(tmp_path / "data", collect(asked).path)
    return tmp_path / "data"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_actors_on_servers_that_die_give_the_weights_of_one_process(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world_of, threads = World.of, torch.get_num_threads()
    monkeypatch.setattr(World, "of", lambda settings: replace(world_of(settings), max_episode_steps=STEPS))
    schedule = replace(
        TINY.schedule, updates=20, offline_updates=5, batch=4, refresh_every=5, refresh_episodes=2, validate_every=10,
        validate_episodes=2, delay=5, shares=SERVERS,
    )  # fmt: skip
    replay = replace(TINY.replay, admission="off")

    def run(name: str, line: str, actors: int) -> tuple[TrainSettings, dict[str, object]]:
        own = shutil.copytree(data, tmp_path / name / "data")
        settings = replace(
            TINY, data=str(own), runs=str(tmp_path / name), knowledge="privileged", simulator="carla", actors=actors,
            schedule=schedule, replay=replay, carla=servers(tmp_path / name, line),
        )  # fmt: skip
        return settings, train(settings)

    try:
        alone, whole = run("alone", LOOPBACK, 0)
        # A life is enough for an episode and its beginning (the warm-up takes five steps), not for two.
        together, found = run("together", f"{LOOPBACK} --fault die --after {2 * STEPS + 6}", SERVERS)
    finally:
        torch.set_num_threads(threads)
    assert found["weights_sha256"] == whole["weights_sha256"]
    checksums = [
        [episode.attributes["checksum"] for episode in Rollouts(each.folder / "refresh.zarr").episodes()]
        for each in (together, alone)
    ]
    assert checksums[0] == checksums[1]
    assert len(checksums[0]) == 4
    rows = [
        [row for row in read_metrics(each.folder / "metrics.csv") if not row[1].startswith("speed/")]
        for each in (together, alone)
    ]
    assert rows[0] == rows[1]
    boxes = [json.loads(path.read_text()) for path in (tmp_path / "together" / "logs").glob("*.json")]
    assert len(boxes) >= 2
    assert {box["server_exit_code"] for box in boxes} == {137}
    assert not list((tmp_path / "alone" / "logs").glob("*.json"))
    assert capsys.readouterr().err.count("is driven again") == len(boxes)  # said by actors, told by the learner
