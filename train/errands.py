"""What a run's crew is sent out for, and after which update it counts, however long it took (design.md §7.6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from semore.train.actor import Ends, Job
from semore.train.crew import Crew
from semore.train.schedule import ScheduleSettings


@dataclass(frozen=True)
class Errand:
    """What was sent out after an update, in shares, and what is `kept` here until it is home."""

    update: int
    due: int
    jobs: Sequence[Job]
    kept: Mapping[str, Any]
    shares: Sequence[Future[Ends]] = field(repr=False)


class Errands:
    """Those of one sender, in order. An errand comes home after the update at which it is due, and never earlier."""

    def __init__(self, crew: Crew, schedule: ScheduleSettings) -> None:
        self._crew, self._schedule = crew, schedule
        self._out: list[Errand] = []

    def send(self, update: int, jobs: Sequence[Job], kept: Mapping[str, Any]) -> None:
        """Send the crew out after this update. What is still out at the run's end comes home at its last update."""
        due = min(update + self._schedule.delay, self._schedule.updates)
        self._out.append(Errand(update, due, jobs, kept, [self._crew.hand_in(job) for job in jobs]))

    def home(self, update: int) -> Iterator[tuple[Errand, Ends]]:
        """Those due after this update, each with how its episodes ended; waits for them. What has gone wrong out there
        is raised at once, due or not."""
        for share in chain.from_iterable(errand.shares for errand in self._out):
            if share.done():
                share.result()
        while self._out and self._out[0].due <= update:
            ends = [self._crew.fetch(share) for share in self._out[0].shares]
            yield self._out.pop(0), list(chain.from_iterable(ends))

    def state(self) -> list[dict[str, Any]]:
        """All that are out: whoever goes on from a checkpoint sends them out again."""
        return [
            {"update": errand.update, "jobs": [vars(job) for job in errand.jobs], "kept": dict(errand.kept)}
            for errand in self._out
        ]

    def restore(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Send them out again."""
        for errand in state:
            self.send(errand["update"], [Job(**job) for job in errand["jobs"]], errand["kept"])
