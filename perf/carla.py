"""How fast a CARLA server is driven, and what of a step is ours: server tick, camera wait and own time apart.

    python -m perf.carla                          against a loopback server of its own (the embedded world, not Unreal)
    python -m perf.carla --host HOST --port 2000  against a running server; nobody else may use it meanwhile
    python -m perf.carla --rounds 1 --seconds 0.5 a look

The last line is JSON: `server` (`unreal`, or the loopback's renderer) and, for each of the camera sets below, median,
least and most over the rounds, each round measuring every set.

    empty   no camera: tick, states of all actors, lane, walkers' orders
    colour  the colour camera
    three   colour, semantic and instance cameras
    all     these and depth, as recordings use it; with `decode_ms`, making Images of the raw buffers

    ticks_per_s      steps of 0.05 s per second
    tick_ms          waiting for the server's tick; this and the next are medians over the steps, so that the steps
                     another process interrupts count once each
    camera_ms        waiting for the cameras' pictures of that tick
    own_ms           all else a step takes, decoding included where pictures are decoded; the target is at most 2. On a
                     busy machine most of it is waiting for a processor when driver and client take turns
    own_share        own_ms over all that a step takes
    cpu_ms           processor time of driver and client together, the client library's own threads included
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing import active_children
from statistics import median
from typing import Final

import psutil

from perf.clock import Figure, Spread, ending, opening, parser
from semore.collect.carla.client import CarlaSimulator
from semore.collect.carla.loopback.running import running
from semore.collect.carla.messages import CAMERAS
from semore.collect.scenarios import SCENARIOS, scenario_and_weather
from semore.collect.simulator import Control
from semore.datasets.rollouts.schema import MAX_EPISODE_STEPS
from semore.datasets.run_command import run_command

SETS: Final = {"empty": (), "colour": CAMERAS[:1], "three": CAMERAS[:3], "all": CAMERAS}
CONTROL: Final = Control(0.0, 0.1, 0.0)
TARGET: Final = 2.0
"""ms of own time per step."""

Rates = dict[str, float]


def run(simulator: CarlaSimulator, name: str, seed: int, seconds: float) -> Rates:
    """Figures of one measurement: an episode of at most MAX_EPISODE_STEPS after another for `seconds` of steps."""
    chosen, weather = scenario_and_weather(name)
    drawn = simulator.cameras == CAMERAS
    rows: list[tuple[float, ...]] = []
    driving, worked = 0.0, 0.0
    while driving < seconds:
        simulator.reset(chosen, weather, seed)
        before, work = simulator.timings(), _processor_time()
        for _ in range(MAX_EPISODE_STEPS):
            snapshot = simulator.step(CONTROL)
            stepped = time.perf_counter()
            if drawn:
                snapshot.draw()
            decoding = time.perf_counter() - stepped
            after = simulator.timings()
            spent = [after[key] - before[key] for key in ("tick", "camera", "own")]
            rows.append((*spent, decoding))
            before = after
            driving += sum(spent) + decoding
            if driving >= seconds:
                break
        worked += _processor_time() - work
    tick, camera, own, decode = (1e3 * median(column) for column in zip(*rows, strict=True))
    rates = {"ticks_per_s": len(rows) / driving, "tick_ms": tick, "camera_ms": camera, "own_ms": own + decode}
    rates["own_share"] = rates["own_ms"] / (tick + camera + rates["own_ms"])
    rates["cpu_ms"] = 1e3 * worked / len(rows)
    return rates | ({"decode_ms": decode} if drawn else {})


def _processor_time() -> float:
    """Seconds that this process and the client's have computed so far."""
    clients = (psutil.Process(child.pid).cpu_times() for child in active_children())
    theirs: float = sum(client.user + client.system for client in clients)
    return time.process_time() + theirs


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


def figures(found: dict[str, dict[str, Spread]]) -> Iterator[Figure]:
    """The figures beside their targets (design.md §5)."""
    for name, rates in found.items():
        yield f"{name}: ticks per second", rates["ticks_per_s"], ".0f", ""
        for key in ("tick_ms", "camera_ms", "own_ms", "cpu_ms"):
            yield f"{name}: {key.replace('_', ', ')}", rates[key], ".2f", f"≤ {TARGET:.0f}" if key == "own_ms" else ""
        yield f"{name}: own share of a step", rates["own_share"], ".1%", ""


def main() -> None:
    options = parser("perf.carla", "Ticks per second of a CARLA server.", rounds=5)
    options.add_argument("--host", default="127.0.0.1", help="machine of a running server")
    options.add_argument("--port", type=int, default=0, help="its RPC port; 0: start a loopback server for it")
    options.add_argument("--size", type=int, default=128, help="side of the pictures, px")
    options.add_argument("--scenario", default="HighBeam", choices=list(SCENARIOS))
    options.add_argument("--timeout", type=float, default=20.0, help="seconds the server may take to answer")
    options.add_argument("--seconds", type=float, help="length of each measurement in a round")
    chosen = opening(options, 5, quick={"seconds": 0.5}, full={"seconds": 1.5})
    with ExitStack() as stack:
        port = chosen.port or stack.enter_context(running()).port
        host = chosen.host if chosen.port else "127.0.0.1"
        server = CarlaSimulator(host, port, chosen.size, chosen.timeout).renderer_version
        rows = measure(host, port, chosen)
    found = {name: {key: Spread.of(row[key] for row in each) for key in each[0]} for name, each in rows.items()}
    title = f"server: {server}, {chosen.scenario}, {chosen.size}² pictures"
    ending(title, figures(found), {"server": server, "size": chosen.size, "scenario": chosen.scenario, **found})


if __name__ == "__main__":
    run_command(main)
