"""What all benchmarks share: bodies that take turns on a machine others use too, ratios with their spread, one ending.

Each lap tells what others took meanwhile; laps in which that was more than QUIET are left out where quiet ones exist.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

import psutil
from rich.console import Console
from rich.table import Table

QUIET: Final = 0.1
"""Share of the machine's processors that other processes may take during a lap that counts."""
_BEGUN: Final = time.monotonic()


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


@dataclass(frozen=True)
class Spread:
    """A figure over the rounds of a run: its median, and the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Rounded to four digits."""
        found = sorted(values)
        return cls(*(float(f"{value:.4g}") for value in (median(found), found[0], found[-1])))

    def times(self, factor: float) -> Spread:
        """Each number times `factor`, which is positive."""
        return Spread.of(factor * value for value in (self.least, self.median, self.most))

    def __format__(self, form: str) -> str:
        """As `0.83 (0.79–0.86)`, each number in `form`."""
        return f"{self.median:{form}} ({self.least:{form}}–{self.most:{form}})"


Figure = tuple[str, Spread | float | None, str, str]
"""A row of a table: what it is, found, its format, and the target."""


def lap(body: Body, units: int = 1) -> Lap:
    """One call, which does `units` pieces of work."""
    own, busy, start = _own(), _busy(), time.perf_counter()
    told = body()
    passed = time.perf_counter() - start
    others = max(_busy() - busy - (_own() - own), 0.0) / (passed * (psutil.cpu_count() or 1))
    return Lap(passed / units if told is None else told, min(others, 1.0))


def take_turns(bodies: Mapping[str, Body], rounds: int, units: int = 1, told: str = "") -> list[Round]:
    """Each body once a round; a call does `units` pieces of work, unless it times itself. Each round is printed under
    the name `told`, if there is one."""
    laps: list[Round] = []
    for number in range(rounds):
        laps.append({name: lap(body, units) for name, body in bodies.items()})
        if told:
            times = ", ".join(f"{name} {1e3 * one.seconds:.4g} ms" for name, one in laps[-1].items())
            print(f"{told}, round {number + 1} of {rounds}: {times}", flush=True)
    return laps


def seconds(rounds: Sequence[Round], name: str) -> float:
    """Median over the quiet laps, or over all where none was."""
    laps = [each[name] for each in rounds if name in each]
    return median(one.seconds for one in [one for one in laps if one.others <= QUIET] or laps)


def rate(rounds: Sequence[Round], name: str) -> Spread:
    """Units of work per second, over the laps that count."""
    laps = [each[name] for each in rounds if name in each]
    return Spread.of(1 / one.seconds for one in [one for one in laps if one.others <= QUIET] or laps)


def ratio(rounds: Sequence[Round], over: str, under: str) -> float:
    """Median of the rounds' own ratios of seconds, since a slow moment slows both; quiet rounds alone, if there are."""
    return median(_ratios(rounds, over, under))


def spread(rounds: Sequence[Round], over: str, under: str) -> Spread:
    """The same with its spread."""
    return Spread.of(_ratios(rounds, over, under))


def disturbed(rounds: Sequence[Round]) -> float:
    """Share of the laps that were not quiet."""
    laps = [one for each in rounds for one in each.values()]
    return sum(one.others > QUIET for one in laps) / len(laps)


def parser(module: str, about: str, rounds: int) -> argparse.ArgumentParser:
    """Of a benchmark's options, with those that all have; `quick` says what else is less then."""
    made = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    made.add_argument("--rounds", type=int, help=f"rounds whose median counts; default {rounds}, with --quick 2")
    made.add_argument("--quick", action="store_true", help="the same figures from fewer and shorter rounds")
    return made


def opening(options: argparse.ArgumentParser, rounds: int, quick: Mapping[str, Any], full: Mapping[str, Any]) -> Any:
    """The options of this run, those that were not given from `quick` or `full`; says how busy the machine is."""
    chosen = options.parse_args()
    defaults = {"rounds": 2, **quick} if chosen.quick else {"rounds": rounds, **full}
    for name, value in defaults.items():
        if getattr(chosen, name) is None:
            setattr(chosen, name, value)
    print(f"load of this machine before we begin: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    return chosen


def ending(title: str, figures: Iterable[Figure], found: Mapping[str, Any]) -> None:
    """Prints the figures beside their targets, and as the very last line all that was found as JSON, a Spread as an
    object of its own."""
    table = Table("", "found", "target", title=title, caption=f"{time.monotonic() - _BEGUN:.0f} s in all")
    for name, value, form, target in figures:
        table.add_row(name, "–" if value is None else format(value, form), target)
    Console(width=110).print(table)
    print(json.dumps(found, default=asdict))


def _ratios(rounds: Sequence[Round], over: str, under: str) -> list[float]:
    pairs = [(each[over], each[under]) for each in rounds if over in each and under in each]
    quiet = [pair for pair in pairs if max(pair[0].others, pair[1].others) <= QUIET]
    return [above.seconds / below.seconds for above, below in quiet or pairs]


def _own() -> float:
    """Processor seconds of this process, and of its children, those that have ended included."""
    own = sum(os.times()[:4])
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.Error:  # it has just ended
            continue
        own += times.user + times.system
    return own


def _busy() -> float:
    """Processor seconds this machine has spent at work, or lost to its host's other guests."""
    times = psutil.cpu_times()
    return float(sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal")))
