"""The loopback server's command: how it says that it is ready, how it ends, and the faults only a process can show."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest
from loopback_thread import Caller

from semore.collect.carla.loopback.running import running
from semore.datasets.errors import SemoreError


def test_says_when_it_is_ready_serves_and_ends_cleanly() -> None:
    with running("--map", "Town04") as server:
        client = Caller(server.port)
        assert client.call("get_map_info")[0] == "Carla/Maps/Town04"
        client.synchronous()
        client.spawn("vehicle.tesla.model3", 20.0, 2.0)
        client.call("tick_cue")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "semore.collect.carla.loopback", "--port", str(port)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert f"ports {port} and {port + 1}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_server_that_never_comes_up_is_an_error() -> None:
    with pytest.raises(SemoreError, match="did not start"), running("--map", "Town99"):
        pass


def test_dies_in_the_middle_of_a_tick() -> None:
    with running("--fault", "die", "--after", "3") as server:
        client = Caller(server.port)
        client.call("tick_cue")
        client.call("tick_cue")
        with pytest.raises(ConnectionError):
            client.call("tick_cue")
        assert server.process.wait(10) == -signal.SIGKILL


def test_hangs_with_every_connection_open_and_can_be_ended() -> None:
    with running("--fault", "hang", "--after", "2") as server:
        client, other = Caller(server.port, timeout=1.0), Caller(server.port, timeout=1.0)
        client.call("tick_cue")
        for caller, name in ((client, "tick_cue"), (other, "version")):
            with pytest.raises(TimeoutError):
                caller.call(name)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
