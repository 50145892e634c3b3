"""How fast a CARLA server is driven, and what of a step is ours: server tick, camera wait and own time apart.

    python -m perf.carla                          against a loopback server of its own (the embedded world, not Unreal)
    python -m perf.carla --host HOST --port 2000  against a running server; nobody else may use it meanwhile
    python -m perf.carla --rounds 1 --seconds 0.5 a look

The last line is JSON: `server` (`unreal`, or the loopback's renderer) and, for each of the camera sets below, medians
over the rounds, each round measuring every set.

    empty   no camera: tick, states of all actors, lane, walkers' orders
    colour  the colour camera
    three   colour, semantic and instance cameras
    all     these and depth, as recordings use it; with `decode_ms`, making Images of the raw buffers

    ticks_per_s      DT-steps per second
    tick_ms          waiting for the server's tick
    camera_ms        waiting for the cameras' pictures of that tick
    own_ms           all else a step takes, decoding included where pictures are decoded; the target is at most 2
"""

from __future__ import annotations

import argparse
import json
import os
import time
from contextlib import ExitStack
from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table

from collect.carla.client import CarlaSimulator
from collect.carla.loopback.running import running
from collect.carla.moment import CAMERAS
from collect.scenarios import SCENARIOS, scenario_and_weather
from collect.simulator import Control
from datasets.schema import MAX_EPISODE_STEPS
from datasets.settings import run_command

SETS: Final = {"empty": (), "colour": CAMERAS[:1], "three": CAMERAS[:3], "all": CAMERAS}
CONTROL: Final = Control(0.0, 0.1, 0.0)
TARGET: Final = 2.0
"""ms of own time per step."""

Rates = dict[str, float]


def run(simulator: CarlaSimulator, name: str, seed: int, seconds: float) -> Rates:
    """Figures of one measurement: an episode of at most MAX_EPISODE_STEPS after another for `seconds`."""
    chosen, weather = scenario_and_weather(name)
    before, decoding, driving = simulator.timings(), 0.0, 0.0
    drawn = simulator.cameras == CAMERAS
    while driving < seconds:
        simulator.reset(chosen, weather, seed)
        for _ in range(MAX_EPISODE_STEPS):
            began = time.perf_counter()
            snapshot = simulator.step(CONTROL)
            stepped = time.perf_counter()
            if drawn:
                snapshot.draw()
            ended = time.perf_counter()
            decoding += ended - stepped
            driving += ended - began
            if driving >= seconds:
                break
    after = simulator.timings()
    steps = after["steps"] - before["steps"]
    spent = {key: 1e3 * (after[key] - before[key]) / steps for key in ("tick", "camera", "own")}
    rates = {
        "ticks_per_s": steps / driving,
        "tick_ms": spent["tick"],
        "camera_ms": spent["camera"],
        "own_ms": spent["own"] + 1e3 * decoding / steps,
    }
    return rates | ({"decode_ms": 1e3 * decoding / steps} if drawn else {})


def measure(host: str, port: int, chosen: argparse.Namespace) -> dict[str, list[Rates]]:
    """One row of figures per round for every camera set."""
    found: dict[str, list[Rates]] = {name: [] for name in SETS}
    for number in range(chosen.rounds):
        for name, cameras in SETS.items():
            simulator = CarlaSimulator(host, port, chosen.size, chosen.timeout, cameras)
            try:
                run(simulator, chosen.scenario, 0, 0.1)  # the first steps of a client are slow ones
                found[name].append(run(simulator, chosen.scenario, number, chosen.seconds))
            finally:
                simulator.close()
            told = ", ".join(f"{key} {value:.2f}" for key, value in found[name][-1].items())
            print(f"{name}, round {number + 1} of {chosen.rounds}: {told}", flush=True)
    return found


def report(found: dict[str, Rates], server: str) -> Table:
    table = Table("cameras", "ticks/s", "tick ms", "camera ms", "own ms", f"own ≤ {TARGET:.0f} ms", title=server)
    for name, rates in found.items():
        cells = [f"{rates[key]:.2f}" for key in ("tick_ms", "camera_ms", "own_ms")]
        met = "yes" if rates["own_ms"] <= TARGET else "NO"
        table.add_row(name, f"{rates['ticks_per_s']:.0f}", *cells, met)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.carla", description="Ticks per second of a CARLA server.")
    parser.add_argument("--host", default="127.0.0.1", help="machine of a running server")
    parser.add_argument("--port", type=int, default=0, help="its RPC port; 0: start a loopback server for the occasion")
    parser.add_argument("--size", type=int, default=128, help="side of the pictures, px")
    parser.add_argument("--scenario", default="HighBeam", choices=list(SCENARIOS))
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds the server may take to answer")
    parser.add_argument("--rounds", type=int, default=5, help="rounds whose median counts")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each measurement in a round")
    chosen = parser.parse_args()
    print(f"load of this machine before we begin: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    with ExitStack() as stack:
        port = chosen.port or stack.enter_context(running()).port
        host = chosen.host if chosen.port else "127.0.0.1"
        server = CarlaSimulator(host, port, chosen.size, chosen.timeout).renderer_version
        rows = measure(host, port, chosen)
    middle = {name: {key: median(row[key] for row in found) for key in found[0]} for name, found in rows.items()}
    Console(width=120).print(report(middle, f"server: {server}, {chosen.scenario}, {chosen.size}² pictures"))
    rounded = {name: {key: round(value, 3) for key, value in rates.items()} for name, rates in middle.items()}
    print(json.dumps({"server": server, "size": chosen.size, "scenario": chosen.scenario, **rounded}))


if __name__ == "__main__":
    run_command(main)
