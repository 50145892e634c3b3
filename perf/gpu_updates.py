"""Agents, batches and laps of updates that perf.gpu measures, in one process or in several."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any, Final

import torch

from perf import train_stack
from perf.clock import Body
from perf.train_stack import Stack
from perf.train_stack import make_agent as make_stack_agent
from semore.datasets.frame_pool import Batch
from semore.datasets.settings import load_settings
from semore.train.agent import Agent, make_agent
from semore.train.agent_settings import LossWeights
from semore.train.captured import Update
from semore.train.learner import Learner
from semore.train.settings import TrainSettings

BETWEEN: Final = 20
"""Updates after which the GPU is waited for: they may be begun many times as fast as they are done."""


@dataclass(frozen=True)
class Case:
    """An agent of each precision, and what its batches are."""

    make: Callable[[str], Learner]
    size: int
    grid: int
    batch: int


def cases() -> dict[str, Case]:
    """By method and side of the pictures."""
    found = {}
    for method in ("semore", "sac"):
        chosen = load_settings(TrainSettings, "train", ["--preset", "laptop", "--method", method])
        side = chosen.agent.encoder.size
        found[f"{method}_{side}"] = Case(
            _of_preset(chosen), side, chosen.agent.encoder.mask_resolution, chosen.schedule.batch
        )
        stack, dual = Stack(), method == "semore"
        found[f"{method}_{stack.size}"] = Case(_of_stack(stack, dual), stack.size, stack.grid(dual), stack.batch)
    return found


def _of_preset(settings: TrainSettings) -> Callable[[str], Learner]:
    encoder = settings.agent.encoder
    return lambda precision: make_agent(replace(settings.agent, encoder=replace(encoder, precision=precision)))


def _of_stack(stack: Stack, dual: bool) -> Callable[[str], Learner]:
    if dual:
        return lambda precision: make_stack_agent(Agent, stack, whole=True, precision=precision)
    alone: dict[str, Any] = {"auxiliaries": ()}
    return lambda precision: make_stack_agent(Agent, stack, precision=precision, streams="single", changes=alone)


def random_batches(case: Case, device: torch.device, count: int = 4) -> list[Batch]:
    """Random transitions with sparse masks, on the device."""
    made = train_stack.random_batches(case.size, case.grid, case.batch, count)
    return [Batch(*(part.to(device) for part in each)) for each in made]


def lasting(update: Update, batches: list[Batch], seconds: float, wait: Callable[[], None]) -> Body:
    """Updates for about so long; returns the seconds of one. `wait` ends when the GPU has done what was begun."""
    given, weights = cycle(batches), LossWeights()
    for _ in range(BETWEEN):  # kernels are chosen, and updates recorded
        update(next(given), weights)

    def body() -> float:
        wait()
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            for _ in range(BETWEEN):
                update(next(given), weights)
            wait()
            done += BETWEEN
        return (time.perf_counter() - start) / done

    return body
