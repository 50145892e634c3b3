"""A server's life under supervision: started, attached to, crashed, hung, swollen, left alone, ended with its owner."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import pytest

from semore.collect.carla import watchdog as keeper
from semore.collect.carla.blackbox import memory_slope
from semore.collect.carla.ping import identity
from semore.collect.carla.ports import lease
from semore.collect.carla.server import Sample, Server
from semore.collect.carla.settings import CarlaSettings
from semore.collect.carla.supervisor import SupervisedCarla
from semore.collect.carla.throughput import throughput
from semore.collect.embedded.world import EmbeddedSimulator
from semore.collect.scenarios import scenario_and_weather
from semore.collect.simulator import Control, EpisodeLost
from semore.collect.simulators import make_simulator
from semore.datasets.errors import SemoreError

TINY = Path(__file__).parent / "tiny_server.py"
SCENE = scenario_and_weather("JayWalk")


def free_ports(servers: int) -> int:
    """The first of so many free ports, ten apart."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = int(first.getsockname()[1])
            if port + 10 * servers > 65_000:
                continue
            try:
                for other in range(port + 10, port + 10 * servers, 10):
                    socket.create_server(("127.0.0.1", other)).close()
            except OSError:
                continue
            return port


def command(*faults: str) -> str:
    return f"{sys.executable} {TINY} {{port}} {' '.join(faults)}"


@pytest.fixture
def settings(tmp_path: Path) -> CarlaSettings:
    return CarlaSettings(
        port=free_ports(3), command=command(), timeout=2.0, start_timeout=30.0, logs=str(tmp_path / "logs")
    )


def attached_process(port: int, *faults: str) -> subprocess.Popen[bytes]:
    """A server somebody else started, answering."""
    process = subprocess.Popen([sys.executable, TINY, str(port), *faults], stdout=subprocess.DEVNULL)
    until(lambda: "mute" in faults or identity("127.0.0.1", port, 1.0))
    return process


@pytest.fixture
def attached(settings: CarlaSettings) -> Iterator[subprocess.Popen[bytes]]:
    process = attached_process(settings.port)
    yield process
    process.kill()
    process.wait()


def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def process_of(port: int) -> psutil.Process | None:
    """The tiny server on this port, whoever started it."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if str(TINY) in words[1:2] and str(port) in words:
                return process
    return None


class Client:
    """A client whose pictures come from the embedded world, and which loses episodes when told to."""

    def __init__(self, made: list[Client]) -> None:
        self.world, self.closed, self.fails = EmbeddedSimulator(16), False, ""
        self.name, self.version, self.renderer_version = "carla", "0.9.16", "tiny"
        made.append(self)

    def reset(self, *what: Any) -> Any:
        self._may_fail("reset")
        return self._seen(self.world.reset(*what))

    def step(self, control: Control) -> Any:
        self._may_fail("step")
        return self._seen(self.world.step(control))

    def close(self) -> None:
        self.closed = True

    def timings(self) -> dict[str, float]:
        return {"steps": 10.0, "tick": 0.1, "camera": 0.02, "own": 0.01}

    def trace(self) -> list[str]:
        return ["tick 1", "apply_control_to_vehicle", "tick 2"]

    def _seen(self, snapshot: Any) -> Any:
        def draw() -> Any:
            self._may_fail("draw")
            return snapshot.images

        return replace(snapshot, draw=draw)

    def _may_fail(self, where: str) -> None:
        if self.fails == where:
            raise EpisodeLost(f"{where} failed")


@pytest.fixture
def clients() -> list[Client]:
    return []


@pytest.fixture
def simulator(settings: CarlaSettings, clients: list[Client]) -> Iterator[SupervisedCarla]:
    made = SupervisedCarla(settings, 16, lambda *_: Client(clients))
    yield made
    made.close()


def boxes(settings: CarlaSettings) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(Path(settings.logs).glob("*.json"))]


# Settings and ports


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"servers": 0}, "carla.servers 0"),
        ({"port": 65_000, "servers": 60}, "third port at most 65535"),
        ({"timeout": 0.0}, "timeout"),
        ({"memory": -1.0}, "memory"),
        ({"patience": -1.0}, "patience"),
        ({"command": "carla -carla-rpc-port=2000", "servers": 2}, "write {port} where"),
        ({"command": "carla", "host": "10.0.0.1"}, "on this machine"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SemoreError, match=message):
        SupervisedCarla(CarlaSettings(**changes), 16)


def test_each_server_is_leased_once_and_a_full_house_names_who_is_in(settings: CarlaSettings) -> None:
    two = replace(settings, servers=2)
    with lease(two, 0) as first, lease(two, 0) as second:
        assert (first.port, second.port) == (settings.port, settings.port + 10)
        with pytest.raises(SemoreError, match=rf"{second.port} by process {os.getpid()}.*carla\.servers"):
            lease(two, 0)
        first.close()
        with lease(two, 0) as again:
            assert again.port == settings.port


# A server's life


def test_a_server_is_started_answers_is_measured_and_ends(settings: CarlaSettings) -> None:
    with lease(settings, 0) as right:
        mine = Server(settings, right)
        assert mine.look() is None
        assert mine.ready() == ("0.9.16", "tiny", 0)
        assert (mine.ours, mine.exit_code) == (True, None)
        process = process_of(settings.port)
        assert process is not None
        assert mine.measure() == pytest.approx(process.memory_info().rss, rel=0.2)
        assert mine.tail() == [f"tiny server on {settings.port}"]
        mine.stop()
        mine.stop()
        assert process_of(settings.port) is None
        assert mine.look() is None


def test_a_server_somebody_else_started_is_used_and_left_alone(settings, attached, clients) -> None:
    with closing(SupervisedCarla(settings, 16, lambda *_: Client(clients))) as simulator:  # although it knows how to
        simulator.reset(*SCENE, 3)
        assert (simulator.version, simulator.renderer_version) == ("0.9.16", "tiny")
        clients[0].fails = "step"
        with pytest.raises(EpisodeLost):
            simulator.step(Control())
        simulator.reset(*SCENE, 3)
    assert attached.poll() is None
    assert boxes(settings)[0]["server_started_here"] is False


def test_a_server_that_nobody_starts_is_asked_once_and_the_remedies_are_named(settings: CarlaSettings) -> None:
    alone = replace(settings, command="", start_timeout=60.0)
    began = time.monotonic()
    with closing(SupervisedCarla(alone, 16)) as simulator, pytest.raises(SemoreError) as refusal:
        _ = simulator.version
    assert time.monotonic() - began < 2.0
    for word in (f"127.0.0.1:{settings.port};", "docs/carla.md", "--carla.command", "CARLA=", "--carla.patience"):
        assert word in str(refusal.value)


def test_a_server_that_is_about_to_start_is_waited_for_with_patience(settings: CarlaSettings, capsys: Any) -> None:
    alone = replace(settings, command="", patience=0.3)
    with lease(settings, 0) as right:
        with pytest.raises(SemoreError, match=r"answered at .* within 0\.3 s"):
            Server(alone, right).ready()
        late = subprocess.Popen([sys.executable, TINY, str(settings.port)])
        try:
            assert Server(replace(alone, patience=30.0), right).ready().renderer == "tiny"
        finally:
            late.kill()
            late.wait()
    assert "waiting up to 30 s" in capsys.readouterr().err


def test_a_server_that_was_there_before_is_waited_for_without(settings: CarlaSettings) -> None:
    with lease(settings, 0) as right:
        mine = Server(replace(settings, command=""), right)
        first = attached_process(settings.port)
        mine.ready()
        first.kill()
        first.wait()
        second = subprocess.Popen([sys.executable, TINY, str(settings.port)])
        try:
            assert mine.ready().renderer == "tiny"
        finally:
            second.kill()
            second.wait()


def test_a_server_built_from_source_is_taken_with_a_warning(settings: CarlaSettings, capsys: Any) -> None:
    with lease(settings, 0) as right:
        mine = Server(replace(settings, command=command("dirty")), right)
        assert mine.ready().version == "0.9.16-dirty"
        mine.ready()
        mine.stop()
    assert capsys.readouterr().err.count("server '0.9.16-dirty' and client '0.9.16'") == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (command("dies"), r"ended with code 1(.|\n)*GPU crashed"),
        (command("old"), r"is CARLA 0\.9\.13, the client 0\.9\.16, and Semore needs 0\.9\.16"),
        (command("deaf"), r"its streams, at port \d+ of 127\.0\.0\.1, cannot be reached.*ssh -L .*docker -p"),
        ("/no/such/CarlaUE4.sh -carla-rpc-port={port}", r"/no/such/CarlaUE4\.sh does not exist"),
    ],
)
def test_a_server_that_cannot_be_had_says_why(settings: CarlaSettings, line: str, message: str) -> None:
    simulator = SupervisedCarla(replace(settings, command=line), 16)
    with closing(simulator), pytest.raises(SemoreError, match=message):
        _ = simulator.version
    assert process_of(settings.port) is None


def test_a_mute_server_is_none(settings: CarlaSettings) -> None:
    process = attached_process(settings.port, "mute")
    try:
        began = time.monotonic()
        assert identity("127.0.0.1", settings.port, 0.3) is None
        assert time.monotonic() - began < 3.0
    finally:
        process.kill()
        process.wait()


def test_a_stubborn_server_is_killed_and_the_stop_command_runs(settings, tmp_path, monkeypatch) -> None:
    assert keeper.GRACE >= 1.0
    told = tmp_path / "stopped-{port}"
    stubborn = replace(settings, command=command("stubborn"), stop=f"touch {told}")
    with lease(stubborn, 0) as right:
        mine = Server(stubborn, right)
        mine.ready()
        mine.stop()
    assert process_of(settings.port) is None
    assert (tmp_path / f"stopped-{settings.port}").exists()


OWNER = """
import sys, time
from semore.collect.carla.ports import lease
from semore.collect.carla.server import Server
from semore.collect.carla.settings import CarlaSettings
settings = CarlaSettings(port=int(sys.argv[1]), command=sys.argv[2], logs=sys.argv[3], start_timeout=60.0)
server = Server(settings, lease(settings, 0.0))
server.ready()
print("ready", flush=True)
time.sleep(600)
"""


def test_a_server_ends_with_a_killed_owner_and_keeps_its_port_until_then(settings: CarlaSettings) -> None:
    words = [sys.executable, "-c", OWNER, str(settings.port), settings.command, settings.logs]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        with pytest.raises(SemoreError, match=f"process {owner.pid}"):
            lease(settings, 0)
        owner.send_signal(signal.SIGKILL)
    with lease(settings, 30.0):  # free once the server is gone, and not before
        assert process_of(settings.port) is None


# Under supervision


def test_making_one_touches_nothing(settings: CarlaSettings) -> None:
    with closing(SupervisedCarla(settings, 16)):
        assert not Path(settings.logs).exists()
        with lease(settings, 0) as right:
            assert right.port == settings.port


@pytest.mark.parametrize("where", ["reset", "step", "draw"])
def test_a_failure_is_recorded_and_the_next_reset_has_a_new_server(where, simulator, settings, clients) -> None:
    simulator.reset(*SCENE, 7)
    before = process_of(settings.port)
    snapshot = simulator.step(Control(throttle=0.5))
    clients[0].fails = where
    act: dict[str, Callable[[], Any]] = {
        "reset": lambda: simulator.reset(*SCENE, 7),
        "step": lambda: simulator.step(Control()),
        "draw": lambda: snapshot.images,
    }
    with pytest.raises(EpisodeLost, match=rf"{where} failed; black box: .*-{settings.port}\.json"):
        act[where]()
    assert clients[0].closed
    with pytest.raises(EpisodeLost, match="reset before the next step"):
        simulator.step(Control())
    (box,) = boxes(settings)
    assert (box["why"], box["seed"], box["scenario"]) == (f"{where} failed", 7, "JayWalk")
    assert box["step"] == {"reset": 0, "step": 2, "draw": 1}[where]
    assert box["last_calls"] == ["tick 1", "apply_control_to_vehicle", "tick 2"]
    assert box["server_output"] == [f"tiny server on {settings.port}"]
    assert box["server_started_here"] is True
    assert box["server_exit_code"] is None
    assert simulator.reset(*SCENE, 7).images.rgb.shape == (16, 16, 3)
    after = process_of(settings.port)
    assert before is not None
    assert after is not None
    assert after.pid != before.pid
    assert len(clients) == 2
    assert simulator.timings()["steps"] == 20.0


def test_a_crash_and_a_hang_between_episodes_are_noticed_and_mended(simulator, settings, clients, monkeypatch) -> None:
    simulator.reset(*SCENE, 1)
    for end in (signal.SIGKILL, signal.SIGSTOP):
        process = process_of(settings.port)
        assert process is not None
        process.send_signal(end)
        clients[-1].fails = "reset"
        with pytest.raises(EpisodeLost):
            simulator.reset(*SCENE, 2)
        simulator.reset(*SCENE, 2)
    assert [box["server_exit_code"] for box in boxes(settings)] == [128 + signal.SIGKILL, None]


def test_a_swollen_server_is_started_anew_between_two_episodes(settings, clients) -> None:
    small = replace(settings, memory=0.08, command=command("leaks"))
    with closing(SupervisedCarla(small, 16, lambda *_: Client(clients))) as simulator:
        simulator.reset(*SCENE, 1)
        first = process_of(settings.port)
        simulator.step(Control())
        for _ in range(3):
            identity("127.0.0.1", settings.port, 5.0)
        simulator.reset(*SCENE, 2)  # and no episode was lost
        assert process_of(settings.port) != first
    (box,) = boxes(settings)
    assert box["why"] == "memory above 0.08 GiB; no episode was lost"
    assert box["memory_mib"][-1][1] > 80


def test_the_slope_of_memory() -> None:
    samples = [Sample(10.0 + 3 * k, 2**20 * (100 + 6 * k)) for k in range(20)]
    assert memory_slope(samples) == pytest.approx(120.0)
    assert memory_slope(samples[:1]) is None
    assert memory_slope([]) is None


def test_the_throughput_line_adds_servers_and_keeps_the_parts_apart() -> None:
    one = {"steps": 100.0, "tick": 2.0, "camera": 0.5, "own": 0.1}
    line = throughput([one, {**one, "steps": 300.0}, {}], 20.0)
    assert "400 steps on 2 server(s), 20 steps/s" in line
    assert "server tick 10.00 ms, camera wait 2.50 ms, our overhead 0.50 ms" in line


def test_without_the_wheel_the_remedy_is_named(monkeypatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(SemoreError, match="make setup SIM=carla"):
        make_simulator("carla", 32)
