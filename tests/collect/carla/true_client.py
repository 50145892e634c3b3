"""Scripts for the true client library. Each runs in a process of its own: bad data ends that process."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("carla.libcarla", reason="the carla wheel is not installed: make setup SIM=carla")

PROLOGUE = """
import json, os, queue, sys, time
import carla
client = carla.Client("127.0.0.1", int(sys.argv[1]))
client.set_timeout(10.0)
world = client.get_world()
library = world.get_blueprint_library()
def synchronous():
    settings = world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.05
    world.apply_settings(settings)
def at(x, y, yaw=0.0, z=0.1):
    return carla.Transform(carla.Location(x, y, z), carla.Rotation(yaw=yaw))
def attach(kind, parent, **attributes):
    blueprint = library.find(kind)
    for name, value in attributes.items():
        blueprint.set_attribute(name, str(value))
    place, received = carla.Transform(carla.Location(x=1, z=1.5)), queue.Queue()
    sensor = world.spawn_actor(blueprint, place, attach_to=parent)
    sensor.listen(received.put)
    return sensor, received
answer = {}
"""
EPILOGUE = """
print(json.dumps(answer), flush=True)
os._exit(0)  # the library's threads do not survive an orderly end: it would abort, now and then
"""


def run(port: int, script: str, timeout: float = 120.0) -> dict:
    """What `script`, which runs between PROLOGUE and EPILOGUE, has put into `answer`."""
    code = PROLOGUE + textwrap.dedent(script) + EPILOGUE
    ended = subprocess.run(
        [sys.executable, "-c", code, str(port)], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert ended.returncode == 0, f"exit {ended.returncode}: {ended.stderr}"
    return json.loads(ended.stdout.splitlines()[-1])
