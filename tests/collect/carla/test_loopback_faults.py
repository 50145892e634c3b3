"""The loopback server's bad days, each on purpose; and the sockets that must survive clients' bad days."""

from __future__ import annotations

import selectors
import socket
import time

import pytest
from loopback_thread import Caller, Reader, serving

from semore.collect.carla.loopback.faults import KINDS, Fault
from semore.collect.carla.loopback.links import Link, listen

SEDAN = "vehicle.tesla.model3"


def staged(port: int) -> tuple[Caller, Reader, Reader]:
    """A synchronous client with a camera on a car: the caller, the world's stream, the camera's."""
    client = Caller(port, timeout=5.0)
    client.synchronous()
    car = client.spawn(SEDAN, 20.0, 2.0)
    camera = client.spawn("sensor.camera.rgb", 1.0, 0.0, parent=car, z=1.5, image_size_x=16, image_size_y=16, fov=60.0)
    _, (token,) = client.call("get_episode_info")
    world, pictures = Reader(token, 1.0), Reader(client.call("get_sensor_token", camera)[0], 1.0)
    client.call("version")
    time.sleep(0.05)
    return client, world, pictures


def test_every_fault_is_tested_here_or_with_the_command() -> None:
    assert set(KINDS) == {"none", "drop", "delay", "wrong-frame", "no-pictures", "leak", "die", "hang"}


def test_behaves_until_then() -> None:
    with serving(Fault("wrong-frame", after=4)) as port:
        client, world, pictures = staged(port)
        for number in range(1, 7):
            frame = client.call("tick_cue")
            assert world.read().frame == frame
            assert pictures.read().frame == (frame if number < 4 else frame - 1)


def test_no_pictures() -> None:
    with serving(Fault("no-pictures", after=2)) as port:
        client, world, pictures = staged(port)
        frame = client.call("tick_cue")
        assert pictures.read().frame == frame
        frame = client.call("tick_cue")
        assert [world.read().frame, world.read().frame] == [frame - 1, frame]
        with pytest.raises(TimeoutError):
            pictures.read()


def test_drops_connections_once_and_serves_the_next_client() -> None:
    with serving(Fault("drop", after=3)) as port:
        client, world, pictures = staged(port)
        client.call("tick_cue")
        client.call("tick_cue")
        with pytest.raises(ConnectionError):
            client.call("tick_cue")
        for reader in (world, pictures):
            with pytest.raises(ConnectionError):
                [reader.read() for _ in range(4)]
        second = Caller(port)
        assert second.call("get_episode_settings")[0] is True
        assert len({second.call("tick_cue") for _ in range(3)}) == 3


def test_delays_every_tick() -> None:
    with serving(Fault("delay", after=2, seconds=0.3)) as port:
        client, *_ = staged(port)
        times = []
        for _ in range(3):
            start = time.monotonic()
            client.call("tick_cue")
            times.append(time.monotonic() - start)
        assert times[0] < 0.3 <= min(times[1:])


def test_leaks() -> None:
    fault = Fault("leak", after=2, megabytes=3)
    for _ in range(3):
        fault.tick_asked()
    assert [len(lost) for lost in fault._hoard] == [3 * 2**20] * 2


def test_free_running_ticks_do_not_count() -> None:
    fault = Fault("drop", after=1)
    with serving(fault) as port:
        client = Caller(port)
        time.sleep(0.3)
        assert client.call("version") == "0.9.16"


def test_a_client_that_stops_reading_loses_messages_and_stops_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours, (theirs, _) = socket.create_connection(listener.getsockname()), listener.accept()
    with selectors.DefaultSelector() as selector:
        link = Link(ours, selector, "handler")
        for _ in range(100):
            link.send(bytes(2**20))
        assert len(link._waiting) <= 66 * 2**20
        theirs.close()
        link.flush()
        assert not link.open
        link.send(b"into the void")
        link.close()


def test_a_pair_of_ports() -> None:
    first, second = listen("127.0.0.1", 0)
    try:
        assert second.getsockname()[1] == first.getsockname()[1] + 1
        with pytest.raises(OSError, match="in use"):
            listen("127.0.0.1", first.getsockname()[1])
    finally:
        first.close()
        second.close()
