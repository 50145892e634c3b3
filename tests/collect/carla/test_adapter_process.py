"""The client's process: what it leaves behind on a server, however it ends, and how its failures are told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import pytest

pytest.importorskip("carla.libcarla", reason="the carla wheel is not installed: make setup SIM=carla")

from loopback_thread import Caller, forwarding, serving

from semore.collect.carla.client import CarlaSimulator
from semore.collect.carla.loopback.blueprints import library
from semore.collect.carla.loopback.running import running
from semore.collect.carla.ping import identity
from semore.collect.carla.session import ROLE
from semore.collect.embedded.render.raycast import RENDERER_VERSION
from semore.collect.scenarios import SCENARIOS, WEATHERS
from semore.collect.simulator import Control, EpisodeLost
from semore.datasets.errors import SemoreError

ROOT = Path(__file__).resolve().parents[3]
JAYWALK, DAY = SCENARIOS["JayWalk"], WEATHERS["hard_high_light"]
DRIVER = """
import signal, sys
from semore.collect.carla.client import CarlaSimulator
from semore.collect.scenarios import SCENARIOS, WEATHERS
from semore.collect.simulator import Control
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
    simulator = CarlaSimulator("127.0.0.1", int(sys.argv[1]), 16)
    simulator.reset(SCENARIOS["JayWalk"], WEATHERS["midnight"], 1)
    print("driving", flush=True)
    while True:
        simulator.step(Control(0.0, 0.5))
"""


def left_behind(port: int) -> tuple[bool, int]:
    """Whether the server at `port` waits for somebody's ticks, and how many actors of ours it has."""
    caller = Caller(port)
    synchronous = caller.call("get_episode_settings")[0]
    actors = caller.call("get_actors_by_id", list(range(5000)))
    caller.close()
    return synchronous, sum(ROLE in str(actor) for actor in actors)


def clean_soon(port: int) -> bool:
    """Whether nothing is left behind, now or within some seconds."""
    deadline = time.monotonic() + 20.0
    while left_behind(port) != (False, 0):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def coast(simulator: CarlaSimulator, steps: int) -> None:
    for _ in range(steps):
        simulator.step(Control())


def test_closing_puts_everything_back(port: int) -> None:
    simulator = CarlaSimulator("127.0.0.1", port, 16)
    simulator.reset(JAYWALK, DAY, 1)
    assert left_behind(port) == (True, 10)  # ego, four walkers, four cameras, collision detector
    caller = Caller(port)
    altitude = caller.call("get_weather_parameters")[5]
    simulator.close()
    assert left_behind(port) == (False, 0)
    assert altitude == 90.0 != caller.call("get_weather_parameters")[5]
    assert active_children() == []
    assert simulator.trace()[-1].startswith("apply_settings")


def test_a_client_that_is_killed_loses_the_episode_and_the_next_one_cleans_up(port: int) -> None:
    simulator = CarlaSimulator("127.0.0.1", port, 16)
    simulator.reset(JAYWALK, DAY, 1)
    first = simulator.step(Control(0.0, 1.0))
    (client,) = active_children()
    client.kill()
    with pytest.raises(EpisodeLost, match="exit code -9"):
        simulator.step(Control())
    assert "tick" in simulator.trace()[-1]
    assert first.images.rgb.shape == (16, 16, 3)  # a snapshot outlives its client
    with pytest.raises(SemoreError, match="reset"):
        simulator.step(Control())
    assert left_behind(port) == (True, 10)
    simulator.reset(JAYWALK, DAY, 1)
    again = simulator.step(Control(0.0, 1.0))
    assert again.ego == first.ego
    assert left_behind(port) == (True, 10)
    simulator.close()
    assert left_behind(port) == (False, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_driver_that_is_stopped_leaves_nothing_behind(port: int, number: signal.Signals) -> None:
    """Ctrl-C reaches the whole process group; a kill reaches the driver only."""
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(port)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, start_new_session=True,
    )  # fmt: skip
    assert driver.stdout is not None
    assert driver.stdout.readline() == "driving\n"
    assert left_behind(port) == (True, 10)
    (os.killpg if number == signal.SIGINT else os.kill)(driver.pid, number)
    assert driver.wait(20.0) != 0
    assert clean_soon(port)


def test_a_server_known_to_be_dead_is_not_waited_for() -> None:
    with running("--fault", "hang", "--after", "5") as server:
        signs = ["of life"]
        simulator = CarlaSimulator("127.0.0.1", server.port, 16, timeout=60.0, lives=lambda: bool(signs))
        simulator.reset(JAYWALK, DAY, 1)
        signs.clear()
        with pytest.raises(EpisodeLost, match=rf":{server.port}: the CARLA server's process has ended"):
            coast(simulator, 10)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["drop", "wrong-frame", "no-pictures", "die", "hang"])
def test_a_server_that_fails_loses_the_episode(fault: str) -> None:
    with running("--fault", fault, "--after", "30") as server:
        simulator = CarlaSimulator("127.0.0.1", server.port, 16, timeout=3.0)
        simulator.reset(JAYWALK, DAY, 1)
        with pytest.raises(EpisodeLost, match=f":{server.port}"):
            coast(simulator, 40)
        began = time.monotonic()
        simulator.close()
        assert time.monotonic() - began < 1.0  # it was given up when it failed
        assert active_children() == []
        assert simulator.trace()


def test_a_blueprint_the_server_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = [one for one in library() if one[1] != "vehicle.bh.crossbike"]
    monkeypatch.setattr("semore.collect.carla.loopback.procedures.library", lambda: lacking)
    with serving() as port:
        simulator = CarlaSimulator("127.0.0.1", port, 16)
        with pytest.raises(SemoreError, match=r"has no vehicle\.bh\.crossbike"):
            simulator.reset(SCENARIOS["HighBeam"], DAY, 1)
        simulator.close()
        assert left_behind(port) == (False, 0)


def test_nobody_there() -> None:
    simulator = CarlaSimulator("127.0.0.1", 1, 16, timeout=0.5)
    with pytest.raises(EpisodeLost, match=r"127\.0\.0\.1:1"):
        simulator.reset(JAYWALK, DAY, 1)
    with pytest.raises(SemoreError, match=r"no CARLA server answers at 127\.0\.0\.1:1"):
        _ = simulator.renderer_version
    simulator.close()


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semore.collect.carla.loopback.wire.VERSION", "0.9.13")
    with serving() as port:
        simulator = CarlaSimulator("127.0.0.1", port, 16)
        with pytest.raises(SemoreError, match=r"is CARLA 0\.9\.13, the client 0\.9\.16"):
            simulator.reset(JAYWALK, DAY, 1)
        simulator.close()


def test_a_build_from_source_is_driven_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semore.collect.carla.loopback.wire.VERSION", "0.9.16-dirty")
    with serving() as port:
        simulator = CarlaSimulator("127.0.0.1", port, 16)
        assert simulator.reset(JAYWALK, DAY, 1).tick == 0
        simulator.close()


def test_streams_that_are_not_forwarded_are_named(port: int) -> None:
    """A tunnel that forwards calls only, from another address of this machine."""
    with forwarding("127.0.0.2", port):
        simulator = CarlaSimulator("127.0.0.2", port, 16)
        with pytest.raises(SemoreError, match=rf"its streams, at port {port + 1} of 127\.0\.0\.2, cannot be reached"):
            _ = simulator.renderer_version
        assert identity("127.0.0.2", port, 5.0) == ("0.9.16", RENDERER_VERSION, port + 1)
        with forwarding("127.0.0.2", port + 1):
            assert simulator.renderer_version == RENDERER_VERSION
            assert simulator.reset(JAYWALK, DAY, 1).tick == 0
            simulator.close()


def test_an_unknown_map_is_refused_by_name(port: int) -> None:
    simulator = CarlaSimulator("127.0.0.1", port, 16)
    with pytest.raises(SemoreError, match=r"no map Town99; it has .*Town01"):
        simulator.reset(replace(JAYWALK, map="Town99"), DAY, 1)
    simulator.close()
    assert left_behind(port) == (False, 0)
