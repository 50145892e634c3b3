"""Timing side by side on a machine others use too: bodies take turns, each lap tells what the others took meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import psutil

QUIET: Final = 0.1
"""Share of the machine's processors that other processes may take during a lap that counts."""


@dataclass(frozen=True)
class Lap:
    """One measurement."""

    seconds: float
    """Of one unit of work."""
    others: float
    """Share of the machine's processors, in [0, 1], that other processes (or other guests of the host) took."""


Round = dict[str, Lap]


Body = Callable[[], float | None]
"""What is measured; one that times itself returns its seconds."""


def lap(body: Body, units: int = 1) -> Lap:
    """One call, which does `units` pieces of work."""
    own, busy, start = time.process_time(), _busy(), time.perf_counter()
    told = body()
    passed = time.perf_counter() - start
    others = max(_busy() - busy - (time.process_time() - own), 0.0) / (passed * (psutil.cpu_count() or 1))
    return Lap(passed / units if told is None else told, min(others, 1.0))


def take_turns(bodies: Mapping[str, Body], rounds: int, units: int = 1) -> list[Round]:
    """Each body once a round; a call does `units` pieces of work, unless it times itself."""
    return [{name: lap(body, units) for name, body in bodies.items()} for _ in range(rounds)]


def seconds(rounds: Sequence[Round], name: str) -> float:
    """Median over the quiet laps, or over all where none was."""
    laps = [each[name] for each in rounds if name in each]
    return median(one.seconds for one in [one for one in laps if one.others <= QUIET] or laps)


def ratio(rounds: Sequence[Round], over: str, under: str) -> float:
    """Median of the rounds' own ratios of seconds, since a slow moment slows both; quiet rounds alone, if there are."""
    pairs = [(each[over], each[under]) for each in rounds if over in each and under in each]
    quiet = [pair for pair in pairs if max(pair[0].others, pair[1].others) <= QUIET]
    return median(above.seconds / below.seconds for above, below in quiet or pairs)


def disturbed(rounds: Sequence[Round]) -> float:
    """Share of the laps that were not quiet."""
    laps = [one for each in rounds for one in each.values()]
    return sum(one.others > QUIET for one in laps) / len(laps)


def _busy() -> float:
    """Processor seconds this machine has spent at work, or lost to its host's other guests."""
    times = psutil.cpu_times()
    return float(sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal")))
