"""Metrics on disk: a tidy CSV (update, metric, value) that a resumed run cuts back to its checkpoint.

It also holds the means of losses and the meters of speed."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from psutil import Process
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor

from semore.datasets.atomic_io import write_bytes
from semore.datasets.disk_space import room_for
from semore.train.metrics import HEADER


class MetricsFile(Logger):
    """A Lightning logger appending to `metrics.csv`; each entry is on disk when `log_metrics` returns."""

    def __init__(self, path: Path, keep: int) -> None:
        """Keep the first `keep` bytes, the `size` at the checkpoint from which the run goes on (0: none), and drop the
        rest: it belongs to work that will be done again. Not by the rows' updates: what is driven for an update may
        be logged long after it."""
        super().__init__()
        self._path = path
        kept = path.read_bytes()[:keep] if path.exists() else b""
        write_bytes(path, kept[: kept.rfind(b"\n") + 1] or HEADER.encode())

    def size(self) -> int:
        """Bytes that there are."""
        return self._path.stat().st_size

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: settings.json holds them."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        with room_for(self._path), open(self._path, "a", encoding="utf-8") as handle:
            handle.writelines(f"{step},{name},{float(value)!r}\n" for name, value in metrics.items())


class Means:
    """Means of scalars between two log entries. They are summed where they are: nothing is read back from a GPU, hence
    nothing waits, until the log is written."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Count one more of each."""
        for name, value in values.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def drain(self) -> dict[str, float]:
        """Means since the last call."""
        means = {name: (total / self._counts[name]).item() for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._sums, "counts": self._counts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])


class Speed:
    """Updates and decisions per second between two log entries, what was waited for, and memory."""

    def __init__(self) -> None:
        self._last: tuple[float, int, float, float] | None = None

    def since_last(self, updates: int, decisions: float, waited: float) -> dict[str, float]:
        """Rates since the last call, and of this time the seconds for which learning stood still for driving (none of
        these at the first call); resident memory and, on a GPU, its peak, in GiB. Arguments count from the start."""
        now, before = time.monotonic(), self._last
        self._last = now, updates, decisions, waited
        entry = {"speed/memory_gib": Process().memory_info().rss / 2**30}
        if torch.cuda.is_available():
            entry["speed/gpu_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        if before is not None:
            seconds = max(now - before[0], 1e-9)
            entry["speed/updates_per_s"] = (updates - before[1]) / seconds
            entry["speed/decisions_per_s"] = (decisions - before[2]) / seconds
            entry["speed/waited_s"] = waited - before[3]
        return entry
